"""Text around images, as Janus-Pro was trained on it.

The role strings come from the processor's chat template (``<|User|>`` and ``<|Assistant|>``; other ones
lower what Janus-Pro can draw). Training and generation take their prompts from here, so they see the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fedumm.errors import FedummError

SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language.\n\n"
)
"""What Janus was told before each question, where its processor's settings ask for it."""

LEAD = " "
"""What stands before an answer: the chat template ends with a colon."""


class Prompts:
    """Questions and captions as token ids.

    Args:
        processor: a ``JanusProcessor``.

    Raises:
        FedummError: it has no chat template, or no begin- or end-of-sentence token.
    """

    def __init__(self, processor: Any) -> None:
        self._processor, self._tokenizer = processor, processor.tokenizer
        if not processor.chat_template:
            raise FedummError("The Janus processor has no chat template: take a checkpoint in the native layout.")
        ids = self._tokenizer.convert_tokens_to_ids
        self.bos_id, self.eos_id = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        if self.bos_id is None or self.eos_id is None:
            raise FedummError("The tokenizer has no begin- or end-of-sentence token.")
        pad = self._tokenizer.pad_token_id
        self.pad_id: int = self.eos_id if pad is None else pad
        self.image_id, self.boi_id, self.eoi_id = (
            ids(token) for token in (processor.image_token, processor.image_start_token, processor.image_end_token)
        )
        self.image_token: str = processor.image_token
        self.image_tokens: int = processor.num_image_tokens
        self.question = cache(self._question)
        self.answer = cache(self._answer)
        self.caption = cache(self._caption)
        self.cut = cache(self._cut)

    def _chat(self, *content: dict[str, str]) -> str:
        text: str = self._processor.apply_chat_template(
            [{"role": "user", "content": list(content)}], add_generation_prompt=True, tokenize=False
        )
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text).input_ids
        return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    def _question(self, text: str) -> tuple[int, ...]:
        """The prompt for an answer, with one placeholder token for the image; :meth:`with_image` widens it."""
        chat = self._chat({"type": "image"}, {"type": "text", "text": text})
        system = SYSTEM if self._processor.use_default_system_prompt else ""
        ids = self._ids(system + chat)
        if ids.count(self.image_id) != 1:
            raise FedummError(f"A question must not contain the token {self._processor.image_token}: {text!r}.")
        return tuple(ids)

    def _answer(self, text: str, most: int) -> tuple[int, ...]:
        """What follows that prompt: the answer and the end token, at most ``most`` tokens."""
        return (*self._tokenizer(f"{LEAD}{text}", add_special_tokens=False).input_ids[: most - 1], self.eos_id)

    def _cut(self, text: str, most: int) -> str:
        """``text``, or what its first ``most`` tokens say."""
        ids = self._tokenizer(text, add_special_tokens=False).input_ids
        return text if len(ids) <= most else str(self._tokenizer.decode(ids[:most]))

    def _caption(self, text: str) -> tuple[int, ...]:
        """The prompt for an image; it ends with the begin-of-image token."""
        return (*self._ids(self._chat({"type": "text", "text": text})), self.boi_id)

    @property
    def image(self) -> tuple[int, ...]:
        """What an image is in a prompt: begin of image, as many placeholders as it has tokens, end of image."""
        return (self.boi_id, *[self.image_id] * self.image_tokens, self.eoi_id)

    def with_image(self, question: tuple[int, ...]) -> list[int]:
        """A question with its placeholder widened to a whole image."""
        return widen(question, self.image)

    def unconditional(self, caption: tuple[int, ...]) -> tuple[int, ...]:
        """A caption's prompt with all that it says replaced by padding, for classifier-free guidance."""
        kept = {self.bos_id, self.boi_id}
        return tuple(i if i in kept else self.pad_id for i in caption)


def widen(question: tuple[int, ...], image: tuple[int, ...]) -> list[int]:
    """``question`` with ``image`` in the place of its only placeholder, the second token of ``image``."""
    at = question.index(image[1])
    return [*question[:at], *image, *question[at + 1 :]]
