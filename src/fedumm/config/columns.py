"""``--columns image=jpg,caption=txt``: what a data set calls its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedumm.errors import FedummError

COLUMN_NAMES = (
    "image", "question", "answers", "answer", "multiple_choice_answer", "choices", "caption", "captions", "text",
    "texts", "image_id", "question_id", "question_type", "answer_type", "language", "split", "geneval",
)  # fmt: skip
"""Names that a column may be given: what raw rows can have that a run reads. So may ``image_2`` to ``image_99``."""

_FURTHER_IMAGE = re.compile(r"image_([2-9]|[1-9]\d)")


def further_images(names: Iterable[str]) -> list[str]:
    """Of ``names`` those of a row's images after its first one (``image``), in order.

    Example:
        >>> further_images(["image_10", "image", "image_2", "image_id"])
        ['image_2', 'image_10']
    """
    return sorted(filter(_FURTHER_IMAGE.fullmatch, names), key=lambda name: int(name.rpartition("_")[2]))


def column_names(text: str) -> dict[str, str]:
    """Theirs by ours, of ``OURS=THEIRS`` pairs with commas between; spaces around names do not count.

    Raises:
        FedummError: a pair has another form, a name of ours is unknown, or a name is given twice; half a sentence.

    Example:
        >>> column_names("image=jpg, caption=txt")
        {'image': 'jpg', 'caption': 'txt'}
    """
    pairs = [[part.strip() for part in pair.split("=", 1)] for pair in text.split(",") if pair.strip()]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise FedummError("must be pairs such as image=jpg,caption=txt")
    for ours, _ in pairs:
        if ours not in COLUMN_NAMES and not further_images([ours]):
            known = ", ".join(("image", "image_2", *COLUMN_NAMES[1:]))
            raise FedummError(f"must be pairs of one of {known} and the data's name for it")
    found = dict(pairs)
    if len(found) < len(pairs) or len(set(found.values())) < len(pairs):
        raise FedummError("names a column twice")
    return found
