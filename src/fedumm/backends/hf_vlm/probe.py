"""What a model can do, found by trying: two pictures and two questions, before any training.

The families of ``transformers`` differ in what their ``forward`` takes and silently does without. Instead of knowing
them by name, each claim that the fast path rests on is tried on the model at hand. Where one fails, rows go in one by
one with their pixels, and a line says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from PIL import Image

from fedumm.backends.hf_vlm.anatomy import kinds_of
from fedumm.backends.hf_vlm.batch import Texts, texts, training_texts
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompt, Prompts, blank, extras, joined
from fedumm.backends.hf_vlm.reader import Reader
from fedumm.backends.hf_vlm.vision import Vision
from fedumm.errors import FedummError
from fedumm.texts import one_line

QUESTIONS = (QUESTION, "Is it red, or is it rather blue?")
_SIZES = ((96, 64), (48, 112))
_ORDINARY, _LARGE = (640, 480), (1400, 1000)
_ANSWERS = ((0, 1, 2), (3,))
"""Positions in the vocabulary, well apart from special tokens: see :func:`_answers`."""


class UnfitError(Exception):
    """What the fast path rests on does not hold for this model; says what."""


@dataclass(frozen=True)
class Facts:
    """What is known of a model together with its processor.

    Attributes:
        reader: how it is called.
        extras: names of the small facts about an image that go in beside its features.
        composed: whether an image's part of a prompt and a question's may be made apart and joined.
        tokens: what a picture of ordinary size (640 x 480) takes.
        notes: what there is to tell the user.
    """

    reader: Reader
    extras: tuple[str, ...] = ()
    composed: bool = False
    tokens: int = 0
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> bool:
        """Whether images go in as features, which can be computed once."""
        return self.reader.vision is not None


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Noise, the same for the same seed."""
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


@torch.no_grad()
def probe(model: Any, prompts: Prompts, ends: Sequence[int]) -> Facts:
    """Find out what holds for ``model`` (in evaluation mode, LoRA not yet in it).

    Raises:
        FedummError: it can't be used at all.
    """
    pictures = [picture(seed, *size) for seed, size in enumerate(_SIZES)]
    rows = _checked(prompts, pictures)
    growing = _per_token(rows)
    pixels = Reader(model, None, ends, {}, growing)
    truth = [_attempt("reading a picture", partial(logits_of, pixels, [row])) for row in rows]
    notes = _effects(prompts, pixels, pictures, truth[0])
    tokens = prompts.head(prompts.encode([blank(*_ORDINARY)], QUESTION))
    try:
        reader, encoded = _fast(model, prompts, rows, truth, ends)
    except UnfitError as why:
        notes.append(f"Rows are read one by one, and image features are not kept: {why}.")
        reader = Reader(model, None, ends, _answer_types(pixels, rows[0]), growing)
        _check_loss(reader, rows[0], rows[0].image, growing)
        return Facts(reader, tokens=tokens, notes=tuple(notes))
    _check_loss(reader, rows[0], encoded[0], growing)
    # In many models a large picture comes in pieces, with other tokens around them.
    composed = _composes(prompts, [*pictures, blank(*_LARGE)])
    if not composed:
        notes.append("Image features are not kept: a prompt can't be joined from a picture's part and a question's.")
    names = tuple(sorted(extras(rows[0], reader.accepted)))
    return Facts(reader, names, composed, tokens, tuple(notes))


def _attempt(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except FedummError:
        raise
    except Exception as error:
        version = transformers.__version__
        raise FedummError(f"This model fails at {what} with transformers {version}: {one_line(error)}") from error


def _checked(prompts: Prompts, pictures: Sequence[Image.Image]) -> list[Prompt]:
    pairs = list(zip(pictures, QUESTIONS, strict=True))
    return [_attempt("making a prompt", partial(prompts.encode, [image], question)) for image, question in pairs]


def _per_token(rows: Sequence[Prompt]) -> frozenset[str]:
    """Of what goes with images, the names of what has an entry for each token of the prompt."""
    if len({len(row.ids) for row in rows}) == 1:
        return frozenset()

    def follows(name: str) -> bool:
        values = [row.image.get(name) for row in rows]
        return all(
            isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[:2] == (1, len(row.ids))
            for value, row in zip(values, rows, strict=True)
        )

    return frozenset(filter(follows, rows[0].image))


def _one(reader: Reader, row: Prompt) -> tuple[Any, dict[str, torch.Tensor]]:
    return row.image, extras(row, reader.accepted)


def _texts(rows: Sequence[Prompt]) -> Texts:
    return texts([row.ids for row in rows], [row.types for row in rows])


def logits_of(
    reader: Reader, rows: Sequence[Prompt], last: int = 1, features: Sequence[torch.Tensor] = ()
) -> torch.Tensor:
    """What follows the last tokens of ``rows``, whose images are encoded now where their ``features`` are not given."""
    images, facts = zip(*(_one(reader, row) for row in rows), strict=True)
    return reader.logits(_texts(rows), reader.features(features or images), facts, last)


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in standard deviations of what is wanted."""
    spread = float(wanted.std())
    return float((found - wanted).abs().max()) / (spread or 1.0)


def agree(model: Any, found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors that ``model`` computed are the same but for rounding."""
    exact = model.get_input_embeddings().weight.dtype in (torch.float32, torch.float64)
    return found.shape == wanted.shape and _apart(found, wanted) < (1e-3 if exact else 0.25)


def _effects(prompts: Prompts, reader: Reader, pictures: Sequence[Image.Image], truth: torch.Tensor) -> list[str]:
    other = prompts.encode([pictures[0].transpose(Image.Transpose.ROTATE_180)], QUESTIONS[0])
    if torch.equal(logits_of(reader, [other]), truth):
        return ["The picture has no effect on what this model says: it may be untrained, or its files incomplete."]
    return []


def _answers(vocabulary: int) -> list[tuple[int, ...]]:
    return [tuple(vocabulary // 3 + k for k in own) for own in _ANSWERS]


def _with_answer(row: Prompt, answer: Sequence[int], types: Mapping[str, int]) -> Prompt:
    own = {name: (*values, *[types[name]] * len(answer)) for name, values in row.types.items()}
    return Prompt((*row.ids, *answer), own, row.image)


def _answer_types(reader: Reader, row: Prompt, features: Sequence[torch.Tensor] = ()) -> dict[str, int]:
    """What the other integers of an answer's tokens are: those with which no token sees what comes after it."""
    answer = _answers(reader.model.get_input_embeddings().weight.shape[0])[0]
    for value in (0, 1):
        types = dict.fromkeys(row.types, value)
        pair = [_with_answer(row, [*answer[:-1], last], types) for last in (answer[-1], answer[-1] + 1)]
        one, other = (logits_of(reader, [own], len(answer) + 1, features)[:, :-1] for own in pair)
        if agree(reader.model, one, other):
            return types
    raise FedummError("The answers of this model depend on what comes after them: it can't learn to write them.")


def _fast(
    model: Any, prompts: Prompts, rows: Sequence[Prompt], truth: Sequence[torch.Tensor], ends: Sequence[int]
) -> tuple[Reader, list[torch.Tensor]]:  # fmt: skip
    """A reader by features, of which all that the fast path needs was seen to hold, and the features of ``rows``.

    Raises:
        UnfitError: something does not.
        FedummError: the model can't learn to write answers.
    """
    try:
        reader = Reader(model, Vision(model), ends, {})
        if "mm_encoder_outputs" not in reader.accepted:
            raise UnfitError(f"{type(model).__name__} takes no image features (mm_encoder_outputs)")
        encoded = reader.vision.learn([row.image for row in rows])  # type: ignore[union-attr]
        for row, features in zip(rows, encoded, strict=True):
            if row.ids.count(prompts.image_id) != len(features):
                raise UnfitError(f"a picture has {len(features)} features and {row.ids.count(prompts.image_id)} tokens")
        for row, wanted, features in zip(rows, truth, encoded, strict=True):
            if not agree(model, logits_of(reader, [row], features=[features]), wanted):
                raise UnfitError("with image features it says something else than with pixels")
        together = logits_of(reader, rows, features=encoded)
        if not all(agree(model, own[None], wanted) for own, wanted in zip(together, truth, strict=True)):
            raise UnfitError("in a batch it says something else than alone")
        reader = Reader(model, reader.vision, ends, _answer_types(reader, rows[0], encoded[:1]))
        _check_generation(reader, prompts.image_id, rows, encoded, ends)
    except UnfitError:
        raise
    except Exception as error:
        raise UnfitError(one_line(error).rstrip(".")) from error
    return reader, encoded


def _check_generation(
    reader: Reader, image_id: int, rows: Sequence[Prompt], encoded: Sequence[torch.Tensor], ends: Sequence[int]
) -> None:
    """Whether tokens that are generated together, with a cache, are those of the whole text read again each time."""
    facts = [extras(row, reader.accepted) for row in rows]
    said = reader.generate(_texts(rows), reader.features(encoded), facts, 3)
    for row, features, tokens in zip(rows, encoded, said, strict=True):
        for count in range(3):
            # A token for an image that a model says (an untrained one may) has no image to go with it.
            if count > len(tokens) or image_id in tokens[:count]:
                break
            logits = logits_of(reader, [_with_answer(row, tokens[:count], reader.answer_types)], features=[features])[
                0, 0
            ]
            chosen = tokens[count] if count < len(tokens) else max(ends, key=lambda end: float(logits[end]))
            # Two tokens as likely as each other, to rounding, may come out either way.
            if float(logits.max() - logits[chosen]) > 0.05 * float(logits.std()):
                raise UnfitError("it generates something else than it would say next")


def _composes(prompts: Prompts, pictures: Sequence[Image.Image]) -> bool:
    for image in pictures:
        seen = prompts.image_part(prompts.encode([image], QUESTION))
        if seen is None or not seen.ids:
            return False
        for question in QUESTIONS:
            whole, made = prompts.encode([image], question), joined(seen, prompts.question(question))
            if (made.ids, made.types) != (whole.ids, whole.types):
                return False
            tensors = ((name, own) for name, own in whole.image.items() if isinstance(own, torch.Tensor))
            if not all(torch.equal(own, made.image[name]) for name, own in tensors):
                return False
    return True


def _check_loss(reader: Reader, row: Prompt, image: Any, growing: frozenset[str]) -> None:
    """Compare our loss of an answer with the one that the model computes itself.

    Args:
        image: the row's features, or what the processor made of its picture.

    Raises:
        FedummError: they differ.
    """
    answer = _answers(reader.model.get_input_embeddings().weight.shape[0])[0]
    theirs = _own_loss(reader, _with_answer(row, answer, reader.answer_types), len(answer), growing)
    if theirs is None:
        return
    inputs, labels = training_texts([{"ids": row.ids, "types": row.types, "answers": [answer]}], reader.answer_types)
    facts = extras(row, reader.accepted)
    ours = float(reader.losses(inputs, reader.features([image]), [facts], labels).mean())
    if abs(ours - theirs) > 0.02 * max(1.0, abs(theirs)):
        raise FedummError(
            f"This model's own loss of an answer is {theirs:.4f}, and {ours:.4f} as computed from what it would say "
            "next: the backend hf_vlm can't train it."
        )


def _own_loss(reader: Reader, row: Prompt, said: int, growing: frozenset[str]) -> float | None:
    """The loss that the model gives for labels, with pixels; None if it gives none."""
    if "labels" not in reader.accepted:
        return None
    pixels = Reader(reader.model, None, (), reader.answer_types, growing)
    inputs = pixels.inputs(_texts([row]), [row.image], [{}])
    labels = inputs["input_ids"].clone()
    labels[:, :-said] = -100
    loss = reader.model(**inputs, labels=labels, use_cache=False).loss
    return None if loss is None else float(loss)


@torch.enable_grad()
def check_gradients(facts: Facts, prompts: Prompts, model: torch.nn.Module) -> list[str]:
    """Which layers with LoRA learn nothing, as lines for the user.

    Args:
        model: with LoRA in it, untrained.

    Raises:
        FedummError: none learns anything.
    """
    reader, row = facts.reader, _checked(prompts, [picture(0, *_SIZES[0]), picture(1, *_SIZES[1])])[0]
    answer = _answers(reader.model.get_input_embeddings().weight.shape[0])[0]
    inputs, labels = training_texts([{"ids": row.ids, "types": row.types, "answers": [answer]}], reader.answer_types)
    image, given = _one(reader, row)
    reader.losses(inputs, reader.features([image]), [given], labels).mean().backward()
    # B starts at zero, so that A has no gradient yet.
    own = {name: p for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name}
    silent = [name for name, p in own.items() if p.grad is None or not bool(p.grad.any())]
    for parameter in model.parameters():
        parameter.grad = None
    if len(silent) == len(own):
        raise FedummError("No layer with LoRA gets a gradient: choose others with --lora_targets.")
    layers = [name.split(".lora_B")[0].removeprefix("base_model.model.") for name in silent]
    return [f"These layers with LoRA learn nothing: {', '.join(kinds_of(layers))}."] if layers else []
