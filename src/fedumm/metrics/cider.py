"""CIDEr-D (Vedantam et al., 2015, https://arxiv.org/abs/1411.5726), as COCO's evaluation computes it, from 0 to 10.

A text and a reference are compared as vectors of their n-grams (n from 1 to 4), each weighed by how rare it is among
the references of a corpus. COCO takes the texts that are scored for that corpus. Here it is named beforehand, so that
a text's score does not depend on which others are scored with it: parts may be scored in different places.

Words are those of :func:`fedumm.metrics.text.words`, where COCO uses a tokenizer written in Java.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from fedumm.metrics.text import words

LONGEST = 4
"""Words of an n-gram."""

HIGHEST = 10.0
"""Score of a text that is its only reference, if its n-grams of each length tell anything."""

_SIGMA = 6.0
_REMEMBERED = 1 << 14

Ngram = tuple[str, ...]
Vectors = tuple[tuple[dict[Ngram, float], ...], tuple[float, ...], int]
"""By n - 1: n-grams with their weights, and the length of that vector; the number of 2-grams."""


class Cider:
    """The score of a text, given the corpus.

    Args:
        corpus: the references of each of its images.

    Example:
        >>> cider = Cider([["a red dog runs home"], ["a blue cat sleeps"]])
        >>> cider("a red dog runs home", ["a red dog runs home"])
        10.0
    """

    def __init__(self, corpus: Iterable[Sequence[str]]) -> None:
        counts, images = Counter[Ngram](), 0
        for references in corpus:
            counts.update({gram for text in references for gram in ngrams(words(text))})
            images += 1
        self._rarest = math.log(images) if images else 0.0
        # An n-gram of one image is as rare as one of none.
        self._rarity = {gram: self._rarest - math.log(count) for gram, count in counts.items() if count > 1}
        self._made: dict[str, Vectors] = {}

    def __call__(self, prediction: str, references: Sequence[str]) -> float:
        """The mean over ``references``, of which there is at least one."""
        said = self._vectors(prediction)
        scores = [_similarity(said, self._vectors(text)) for text in references]
        return min(HIGHEST, HIGHEST * math.fsum(scores) / len(scores))

    def _vectors(self, text: str) -> Vectors:
        """References come again and again: what was made of them is kept."""
        if text not in self._made:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            self._made[text] = self._make_vectors(text)
        return self._made[text]

    def _make_vectors(self, text: str) -> Vectors:
        counts = Counter(ngrams(words(text)))
        vectors: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(LONGEST))
        for gram, count in counts.items():
            vectors[len(gram) - 1][gram] = count * self._rarity.get(gram, self._rarest)
        norms = tuple(math.sqrt(math.fsum(weight * weight for weight in vector.values())) for vector in vectors)
        return vectors, norms, sum(count for gram, count in counts.items() if len(gram) == 2)


def ngrams(text: Sequence[str]) -> list[Ngram]:
    """All of 1 to :data:`LONGEST` words."""
    return [tuple(text[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(text) - n + 1)]


def _similarity(said: Vectors, reference: Vectors) -> float:
    """The mean over n of the vectors' cosine, no n-gram of ``said`` counting for more than the reference has of it,
    less the more the lengths differ."""
    penalty = math.exp(-((said[2] - reference[2]) ** 2) / (2 * _SIGMA**2))
    cosines = 0.0
    for own, other, norm, other_norm in zip(said[0], reference[0], said[1], reference[1], strict=True):
        if norm and other_norm:
            common = math.fsum(min(weight, other[gram]) * other[gram] for gram, weight in own.items() if gram in other)
            cosines += common / (norm * other_norm)
    return penalty * cosines / LONGEST
