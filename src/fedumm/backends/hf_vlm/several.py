"""Several images in one prompt: whether a model reads them, found by trying, and how its prompt is joined of parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from PIL import Image

from fedumm.backends.hf_vlm.probe import Facts, agree, logits_of, picture
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompt, Prompts, blank, extras, joined
from fedumm.backends.hf_vlm.reader import Reader
from fedumm.errors import FedummError
from fedumm.texts import one_line

_LARGE = (1400, 1000)
_OTHER = "Which of them is larger, the red one or the blue one?"


@dataclass(frozen=True)
class Several:
    """How a model reads several images.

    Attributes:
        composed: whether a prompt may be joined of a part for each image, whose features are made and kept alone.
        start: tokens of an image's part that come once in a prompt, before the first image.
        between: tokens between two images, without what :attr:`start` leaves of the second one's part.
    """

    composed: bool = False
    start: int = 0
    between: Prompt = field(default_factory=lambda: Prompt(()))

    def joined(self, parts: Sequence[Prompt]) -> Prompt:
        """The part of a prompt with all images, of the parts of each (:meth:`Prompts.image_part`)."""
        whole = parts[0]
        for part in parts[1:]:
            own = {name: types[self.start :] for name, types in part.types.items()}
            whole = joined(joined(whole, self.between), Prompt(part.ids[self.start :], own))
        return whole


@torch.no_grad()
def probe_several(facts: Facts, prompts: Prompts) -> Several:
    """Find out how the model reads two images and three; it may be trained already.

    Raises:
        FedummError: it reads one image only, or says something else with image features than with pixels.
    """
    one, other = picture(0, 96, 64), picture(1, 48, 112)
    turned = other.transpose(Image.Transpose.ROTATE_180)
    pixels = Reader(facts.reader.model, None, (), facts.reader.answer_types, facts.reader.growing)
    try:
        whole, changed = (prompts.encode([one, second], QUESTION) for second in (other, turned))
        truth = logits_of(pixels, [whole])
        if torch.equal(logits_of(pixels, [changed]), truth):
            raise ValueError("the second one has no effect")
        if facts.features and not agree(facts.reader.model, logits_of(facts.reader, [whole]), truth):
            raise ValueError("with image features it says something else than with pixels")
    except Exception as error:
        raise FedummError(
            f"Some rows have several images, and this model can't be given two: {one_line(error).rstrip('.')}. Leave "
            "one image in each row, or choose another model."
        ) from error
    if not (facts.features and facts.composed):
        return Several()
    found = _rule(prompts, [one, other, blank(*_LARGE)])
    groups = ([one, other], [other, blank(*_LARGE)], [one, other, one])
    return found if found and all(_holds(found, facts, prompts, group) for group in groups) else Several()


def _rule(prompts: Prompts, images: Sequence[Image.Image]) -> Several | None:
    parts = [prompts.image_part(prompts.encode([image], QUESTION)) for image in images]
    first, second = parts[:2]
    if first is None or second is None or None in parts:
        return None
    most = min(part.ids.index(prompts.image_id) for part in parts if part is not None)
    columns = zip(*(part.ids[:most] for part in parts if part is not None), strict=True)
    start = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    whole, after = prompts.encode(list(images[:2]), QUESTION), prompts.question(QUESTION)
    begin, end = len(first.ids), len(whole.ids) - len(after.ids) - (len(second.ids) - start)
    if end < begin:
        return None
    types = {name: own[begin:end] for name, own in whole.types.items()}
    return Several(True, start, Prompt(whole.ids[begin:end], types))


def _holds(rule: Several, facts: Facts, prompts: Prompts, images: Sequence[Image.Image]) -> bool:
    """Whether a joined prompt is the processor's own, and images alone have the features that they have together."""
    made = [prompts.encode([image], QUESTION) for image in images]
    parts = [part for own in made if (part := prompts.image_part(own)) is not None]
    if len(parts) < len(images):
        return False
    for question in (QUESTION, _OTHER):
        whole, ours = prompts.encode(list(images), question), joined(rule.joined(parts), prompts.question(question))
        if (whole.ids, whole.types) != (ours.ids, ours.types):
            return False
    accepted, vision = facts.reader.accepted, facts.reader.vision
    assert vision is not None
    theirs, own = extras(whole, accepted), together([extras(image, accepted) for image in made])
    if theirs.keys() != own.keys() or not all(torch.equal(theirs[name], own[name]) for name in own):
        return False
    features = torch.cat([vision.encode(image.image) for image in made])
    return agree(facts.reader.model, features, vision.encode(whole.image))


def together(extras: Sequence[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """The facts about several images of one prompt (:func:`fedumm.backends.hf_vlm.prompts.extras`)."""
    return {name: torch.cat([own[name] for own in extras]) for name in extras[0]}
