"""From a question and its image to the token ids that a model reads, and from an answer to those that it says.

One path for training and generation. Each row goes through the model's own processor alone; what belongs together in
a batch is padded by us (:mod:`fedumm.backends.hf_vlm.batch`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import takewhile
from typing import Any

import torch
from PIL import Image

from fedumm.backends.hf_vlm.replay import Replayed
from fedumm.errors import FedummError
from fedumm.texts import one_line

QUESTION, ANSWER = "What is this?", "Something"
"""Stand in for any question and answer where only what surrounds them matters."""

_PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}@IMAGE@{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% else %}@LEAD@{{ m['content'][0]['text'] }}@END@{% endif %}{% endfor %}"
)
"""Chat template of a model that has none: the image, the text, the answer."""


@dataclass(frozen=True)
class Prompt:
    """What a processor makes of one question and its image.

    Attributes:
        ids: all tokens, the image's included.
        types: other integers for each token, by name.
        image: all else that the processor made, as tensors with the processor's batch dimension.
    """

    ids: tuple[int, ...]
    types: dict[str, tuple[int, ...]] = field(default_factory=dict)
    image: dict[str, Any] = field(default_factory=dict)


_COLOURS = 4
"""Image processors take a side of up to so many pixels for the colours."""

_NO_THOUGHTS = {"enable_thinking": False, "thinking": False}
"""What chat templates call it when a model is to answer at once."""


class Prompts:
    """The prompts of one processor.

    Args:
        processor: of ``transformers`` (:func:`fedumm.backends.hf_vlm.load.load_processor`).
        image_id: the token whose embeddings the image's features replace; -1: there is none.

    Raises:
        FedummError: it has no token that ends an answer.
    """

    def __init__(self, processor: Any, image_id: int) -> None:
        self.processor, self.tokenizer, self.image_id = processor, processor.tokenizer, image_id
        self._nested: bool | None = None
        self.end_id, self._end_text = -1, ""
        self._mark: str | None = None
        self._before = ""
        self.template = processor.chat_template or self._plain()
        if processor.chat_template:
            self._mark = self._mark_of_images()
        self.lead, self.end_id = self._around_answers()
        self._end_text = str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        self.ending = "".join(re.findall(r"\S+\s*$", self._render(1, QUESTION)))
        """The last word of each prompt, with the white space that follows it."""
        self._replayed: Replayed | None = None
        self.question = cache(self._question)
        self.cut = cache(self._cut)

    @property
    def has_template(self) -> bool:
        """Whether the checkpoint came with a chat template."""
        return bool(self.processor.chat_template)

    def _plain(self) -> str:
        """A template for a model that has none: the image, the question, the answer."""
        end = self.tokenizer.eos_token or self.tokenizer.sep_token
        if end is None:
            raise FedummError("The tokenizer has neither a chat template nor an end-of-sentence token.")
        token = getattr(self.processor, "image_token", "")
        made, refused = {}, dict[str, str]()
        for text in (str(getattr(token, "content", token)), ""):
            self.template = _PLAIN.replace("@END@", end).replace("@IMAGE@", text).replace("@LEAD@", "")
            try:
                made[text] = self.encode([blank()], QUESTION).ids
            except Exception as error:
                # Many processors count the image tokens of a text.
                refused[text] = one_line(error)
        if not made:
            reasons = "; ".join(f"with {text!r} before the question: {reason}" for text, reason in refused.items())
            raise FedummError(f"The processor makes no prompt with an image: {reasons}.")
        counts = {text: ids.count(self.image_id) for text, ids in made.items()}
        # Some processors put the image before the text themselves, whether or not the text has one.
        best = "" if 0 < counts.get("", 0) < max(counts.values()) else next(iter(made))
        lead = "" if self.tokenizer.decode([made[best][-1]])[-1:].isspace() else " "
        return _PLAIN.replace("@END@", end).replace("@IMAGE@", best).replace("@LEAD@", lead)

    def _mark_of_images(self) -> str | None:
        """How the chat template learns where the image is: None, by a part of its own in what the user says.

        Otherwise the content has to be a text, with the returned mark and an end of line before the question.

        Raises:
            FedummError: neither works.
        """
        token = getattr(self.processor, "image_token", "")
        reasons = dict[str | None, str]()
        for self._mark in dict.fromkeys([None, str(getattr(token, "content", token)), ""]):
            try:
                if "'type'" in self._render(1, QUESTION):
                    raise ValueError("it takes no lists")
                if self.image_id in (ids := self.encode([blank()], QUESTION).ids) or self.image_id < 0 < len(ids):
                    return self._mark
                reasons[self._mark] = "there is no image in the prompt"
            except Exception as error:
                reasons[self._mark] = one_line(error)
        how = {None: "as a list of parts", "": "as the question alone"}
        told = (f"{how.get(mark, f'as {mark!r} and the question')}: {reason}" for mark, reason in reasons.items())
        raise FedummError(f"The chat template takes no image. What the user says was given {'; '.join(told)}.")

    def _render(self, images: int, question: str, answer: Any = None) -> str:
        said: Any = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        if self._mark is not None:
            said = (f"{self._mark}\n" * images if self._mark else "") + question
        turns = [{"role": "user", "content": said}]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        text: str = self.tokenizer.apply_chat_template(
            turns, chat_template=self.template, tokenize=False, add_generation_prompt=answer is None, **_NO_THOUGHTS
        )
        return text if answer is not None else text + self._before

    def _around_answers(self) -> tuple[str, int]:
        """What stands between a prompt and an answer, and the token that ends the answer's turn."""
        prompt, whole = self._render(1, QUESTION), self._answered()
        at = whole.rfind(ANSWER)
        if prompt.rfind("<think>") > prompt.rfind("</think>"):
            # It would think first: its thought is closed, so that what follows is the answer.
            self._before = ("\n" if prompt.endswith("\n") else "\n\n") + "</think>\n\n"
            prompt += self._before
        # A generation prompt that says more than the turn of an answer does comes as it is.
        lead = whole[len(prompt) : at] if whole.startswith(prompt) else ""
        if lead.strip():
            # What stands before each answer need not be learnt.
            fixed = lead.rstrip()
            self._before, lead = self._before + fixed, lead[len(fixed) :]
        after = self.tokenizer(whole[at + len(ANSWER) :], add_special_tokens=False).input_ids
        end = next((token for token in after if token in self._special), self.tokenizer.eos_token_id)
        if end is None:
            raise FedummError("The tokenizer has no token that ends an answer.")
        return lead, int(end)

    def _answered(self) -> str:
        """A question and its answer in the chat template, which takes the answer as a list of parts or as a text."""
        reason = "it leaves the answer out"
        for answer in ([{"type": "text", "text": ANSWER}], ANSWER):
            try:
                whole = self._render(1, QUESTION, answer)
            except Exception as error:
                reason = one_line(error)
                continue
            if ANSWER in whole and "'type'" not in whole:
                return whole
        raise FedummError(f"The chat template has no place for the assistant's answer: {reason}.")

    @cached_property
    def _added(self) -> frozenset[int]:
        """Tokens that a vocabulary got for a meaning of their own."""
        return frozenset(i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special)

    @cached_property
    def _special(self) -> frozenset[int]:
        return self._added | {*self.tokenizer.all_special_ids}

    @cached_property
    def reserved(self) -> re.Pattern[str]:
        """Texts that the tokenizer or the processor reads as something else than text."""
        tokens = {*self.tokenizer.all_special_tokens, *map(str, map(self._text, self._added))}
        for name, value in vars(self.processor).items():
            if name.endswith("token") and isinstance(value, str):
                tokens.add(value)
        return re.compile("|".join(map(re.escape, sorted(filter(str.strip, tokens), key=len, reverse=True))) or r"(?!)")

    def _text(self, token: int) -> str:
        return str(self.tokenizer.added_tokens_decoder[token].content)

    def encode(self, images: Sequence[Image.Image], question: str) -> Prompt:
        """The prompt for ``question`` about ``images`` (RGB)."""
        images = [image if min(image.size) > _COLOURS else _larger(image) for image in images]
        text = self._render(len(images), question)
        bos = self.tokenizer.bos_token
        options = {"add_special_tokens": False} if bos is not None and text.startswith(bos) else {}
        made = self._processed(text, list(images), options)
        made.pop("labels", None)
        mask = made.pop("attention_mask", None)
        ids = made.pop("input_ids")
        while int(ids[0, -1]) == self.end_id and not text.rstrip().endswith(self._end_text):
            # Some tokenizers end every text; the answer is still to come.
            made = {name: own[:, :-1] if _is_per_token(name, own, ids) else own for name, own in made.items()}
            ids, mask = ids[:, :-1], None if mask is None else mask[:, :-1]
        if mask is not None and not bool(mask.all()):
            raise FedummError("The processor pads a single prompt.")
        per_token = {name: tuple(value[0].tolist()) for name, value in made.items() if _is_per_token(name, value, ids)}
        image = {name: value for name, value in made.items() if name not in per_token}
        return Prompt(tuple(ids[0].tolist()), per_token, image)

    def _processed(self, text: str, images: list[Image.Image], options: dict[str, Any]) -> dict[str, Any]:
        """What the processor makes of a text and its images, which few processors want without a list around them."""

        def made(nested: bool) -> dict[str, Any]:
            given = [images] if nested else images
            return dict(self.processor(text=[text], images=given, return_tensors="pt", **options))

        if self._nested is not None:
            return made(self._nested)
        try:
            found, self._nested = made(True), True
        except Exception as error:
            try:
                found, self._nested = made(False), False
            except Exception:
                raise error from None
        return found

    def check(self, text: str, what: str) -> str:
        """``text``, which must not hold what the model takes for a token of another kind.

        Raises:
            FedummError: it does.
        """
        if found := self.reserved.search(text):
            raise FedummError(
                f"{what} must not contain {found[0]!r}, which is a special token of this model: {text[:200]!r}. "
                "Take it out."
            )
        return text

    def _cut(self, text: str, most: int) -> str:
        """``text``, or what its first ``most`` tokens say."""
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        return text if len(ids) <= most else str(self.tokenizer.decode(ids[:most]))

    def _stand_in(self, text: str) -> Prompt:
        with self._one_image():
            return self.encode([blank()], text)

    @cached_property
    def _start(self) -> int:
        """Where the part of a question begins: after the image's last token and the special ones that close it."""
        made = self._stand_in(QUESTION)
        closing = takewhile(self._special.__contains__, made.ids[self.head(made) :])
        return self.head(made) + len(list(closing))

    def _question(self, text: str) -> Prompt:
        """What follows an image in the prompt for ``text``."""
        made, at = self._stand_in(text), self._start
        return Prompt(made.ids[at:], {name: own[at:] for name, own in made.types.items()})

    @contextmanager
    def _one_image(self) -> Iterator[None]:
        """The image processor works once for all stand-in images: it is what takes time."""
        real = self.processor.image_processor
        if self._replayed is None:
            self._replayed = Replayed(real)
        self.processor.image_processor = self._replayed
        try:
            yield
        finally:
            self.processor.image_processor = real

    def answer(self, ids: Sequence[int], most: int) -> tuple[int, ...]:
        """An answer's tokens with the one that ends it, at most ``most``."""
        return (*ids[: most - 1], self.end_id)

    def head(self, prompt: Prompt) -> int:
        """How many of its tokens come before the question: up to the last one of the image."""
        return len(prompt.ids) - prompt.ids[::-1].index(self.image_id) if self.image_id in prompt.ids else 0

    def image_part(self, prompt: Prompt) -> Prompt | None:
        """Of a prompt for ``QUESTION``, the tokens before the question's part (:meth:`question`).

        Returns:
            None if what follows this image is something else: no question's part can then be joined to it.
        """
        after = self.question(QUESTION).ids
        at = len(prompt.ids) - len(after)
        if at < self.head(prompt) or prompt.ids[at:] != after:
            return None
        return Prompt(prompt.ids[:at], {name: own[:at] for name, own in prompt.types.items()}, prompt.image)


def joined(image: Prompt, text: Prompt) -> Prompt:
    """The image part of one prompt, and what follows it in another."""
    types = {name: (*image.types[name], *own) for name, own in text.types.items()}
    return Prompt((*image.ids, *text.ids), types, image.image)


def _is_per_token(name: str, value: Any, ids: torch.Tensor) -> bool:
    same = isinstance(value, torch.Tensor) and value.shape == ids.shape and not value.is_floating_point()
    return same and name.endswith("type_ids")


def _larger(image: Image.Image) -> Image.Image:
    return image.resize((max(image.width, _COLOURS + 1), max(image.height, _COLOURS + 1)), Image.Resampling.NEAREST)


def blank(width: int = 64, height: int = 48) -> Image.Image:
    """A picture with nothing but a gradient on it."""
    row = bytes(bytearray(value for x in range(width) for value in (255 * x // width, 128, 255 - 255 * x // width)))
    return Image.frombytes("RGB", (width, height), row * height)


def extras(prompt: Prompt, accepted: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Of what a processor made of an image, the facts that the language model itself asks for: grids, sizes, places.

    The same names for each image, however large: rows of a batch go together.
    """
    return {
        name: value
        for name, value in prompt.image.items()
        if name in accepted
        and not name.startswith("pixel")
        and isinstance(value, torch.Tensor)
        and not value.is_floating_point()
    }
