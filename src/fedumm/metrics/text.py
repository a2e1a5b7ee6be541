"""Scores of texts of any length against references, 0 to 1: the best over the references.

===============  ===========================================================================================
``rouge_l``      F1 of the longest common subsequence of words (Lin, 2004, https://aclanthology.org/W04-1013),
                 as the package ``rouge-score`` computes it without stemming
``token_f1``     F1 of the words, however they are ordered, by SQuAD's rule (Rajpurkar et al., 2016,
                 https://arxiv.org/abs/1606.05250; texts of no word as in version 2)
``exact``        1 if nothing differs by the same rule, which leaves out case, punctuation and articles; else 0
===============  ===========================================================================================

Beyond these packages, which know English: letters of every script count, punctuation of every script is left out by
SQuAD's rule, and each character of a script that is written without spaces is a word.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

Words = tuple[str, ...]

_REMEMBERED = 1 << 16

# Han, kana, Thai, Lao, Khmer and Myanmar.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_UNSPACED_ONE = re.compile(rf"([{_UNSPACED}])")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = frozenset(string.punctuation)


@lru_cache(_REMEMBERED)
def words(text: str) -> Words:
    """Runs of letters and digits, in lower case: "X-ray 3.5" is ``x``, ``ray``, ``3``, ``5``."""
    return tuple(_WORD.findall(text.lower()))


@lru_cache(_REMEMBERED)
def squad_words(text: str) -> Words:
    """What SQuAD's rule leaves: "The X-ray, 3.5" is ``xray``, ``35``."""
    kept = "".join(c for c in text.lower() if c not in _MARKS and not unicodedata.category(c).startswith("P"))
    return tuple(_UNSPACED_ONE.sub(r" \1 ", _ARTICLES.sub(" ", kept)).split())


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """See the module.

    Example:
        >>> token_f1("the left lung", ["lung, left", "right lung"])
        1.0

    Raises:
        ValueError: there is no reference.
        TypeError: ``references`` is one string instead of a sequence of them.
    """
    return _best(_token_f1, squad_words, prediction, references)


def exact(prediction: str, references: Sequence[str]) -> float:
    """See the module; errors are those of :func:`token_f1`."""
    return _best(lambda said, own: float(said == own), squad_words, prediction, references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """See the module; errors are those of :func:`token_f1`.

    Example:
        >>> rouge_l("a cat on the mat", ["the cat sat on the mat"])
        0.7272727272727273
    """
    return _best(_rouge_l, words, prediction, references)


def _best(
    score: Callable[[Words, Words], float], words_of: Callable[[str], Words], prediction: str, references: Sequence[str]
) -> float:
    if isinstance(references, str):
        raise TypeError("references must be a sequence of texts, not one string")
    if len(references) == 0:
        raise ValueError("references is empty: a text is scored against at least one")
    said = words_of(prediction)
    return max(score(said, words_of(text)) for text in references)


def _token_f1(said: Words, reference: Words) -> float:
    if not said or not reference:
        return float(said == reference)
    return _f1((Counter(said) & Counter(reference)).total(), len(said), len(reference))


def _rouge_l(said: Words, reference: Words) -> float:
    return _f1(_common(said, reference), len(said), len(reference))


def _f1(same: int, said: int, reference: int) -> float:
    return 2 * same / (said + reference) if same else 0.0


def _common(first: Words, second: Words) -> int:
    """Length of the longest common subsequence, a bit for each word of ``second`` (Hyyro, 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = (1 << len(second)) - 1
    # A zero where the subsequence grows by one.
    row = everywhere
    for word in first:
        found = row & places.get(word, 0)
        row = (row + found | row - found) & everywhere
    return len(second) - row.bit_count()
