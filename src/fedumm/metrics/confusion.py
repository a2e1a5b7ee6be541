"""Which answers are taken for which: a table of what was said by what was right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fedumm.metrics.vqa import normalize_answer

OTHER = "other"
MOST = 8


@dataclass(frozen=True)
class Confusion:
    """A table of answers.

    Attributes:
        labels: the most common right answers, normalised; after them :data:`OTHER` if there are more.
        counts: ``counts[right][said]``, in the order of ``labels``. Whoever said another answer than the right one is
            never in the right one's column; of two answers that both are :data:`OTHER`, that is not told.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def confusion(pairs: Iterable[tuple[str, str]], most: int = MOST) -> Confusion:
    """The table of pairs (what was right, what was said), compared as the VQA v2 rule normalises answers.

    Args:
        most: so many answers have a row and a column of their own, those that are right most often.

    Example:
        >>> confusion([("Yes", "yes"), ("yes.", "no"), ("no", "no")])
        Confusion(labels=('yes', 'no'), counts=((1, 1), (0, 1)))
    """
    plain = [(_plain(right), _plain(said)) for right, said in pairs]
    frequent = Counter(right for right, _ in plain)
    # An answer called "other" is counted with the others.
    own = [label for label, _ in sorted(frequent.items(), key=lambda entry: (-entry[1], entry[0])) if label != OTHER]
    labels = own[:most]
    known = set(labels)
    table = Counter((right if right in known else OTHER, said if said in known else OTHER) for right, said in plain)
    if any(OTHER in pair for pair in table):
        labels.append(OTHER)
    return Confusion(tuple(labels), tuple(tuple(table[right, said] for said in labels) for right in labels))


def _plain(answer: str) -> str:
    # "A" and "+" normalise to nothing, and are not the same.
    return normalize_answer(answer) or answer
