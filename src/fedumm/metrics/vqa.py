"""VQA v2 accuracy, as the official evaluator computes it.

The standard is ``PythonEvaluationTools/vqaEvaluation/vqaEval.py`` of
https://github.com/GT-Vision-Lab/VQA (Goyal et al., 2017, https://arxiv.org/abs/1612.00837).
The shortcut ``min(matches / 3, 1)`` is another metric: it leaves out steps 2 to 5.

1. In the prediction and in every human answer, newline and tab become a space; then strip.
2. Only if the human answers are not all identical, both sides are normalised (3 and 4).
3. Punctuation marks are deleted or become a space; dots not before a digit are deleted.
4. Lower case, number words to digits, articles dropped, apostrophes put back.
5. Leave one out: for each annotator, ``min(1, matches among the others / 3)``; then the mean.
6. Means in percent: overall, per answer type and per question type.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import fsum

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_DOT = re.compile(r"\.(?!\d)")
_MOST_DOTS = int(re.UNICODE)  # The official call passes this flag where re.sub takes a count: 32.

_NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_ARTICLES = frozenset({"a", "an", "the"})

# The official contraction table. Each key is one of these words with one apostrophe missing
# (couldn't've: couldnt've, couldn'tve); the words with a capital never match lower-cased text.
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am
    mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't
    she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
    who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've
    you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:at] + word[at + 1 :]: word for word in _CONTRACTED.split() for at, char in enumerate(word) if char == "'"
}
# Three official entries are irregular: one loses its apostrophe, two change nothing
# (their regular keys, "lets" and "shes", are not in the table).
_CONTRACTIONS |= {"somebody'd": "somebodyd", "let's": "let's", "she's": "she's"}


@dataclass(frozen=True)
class VqaResult:
    """VQA v2 accuracy of a set of answers, in percent and not rounded.

    The official tool prints two decimals. Types are in alphabetical order; without types
    their dictionaries are empty. The counts are what :func:`merge` weighs by.
    """

    overall: float
    count: int
    per_answer_type: dict[str, float] = field(default_factory=dict)
    per_question_type: dict[str, float] = field(default_factory=dict)
    answer_type_counts: dict[str, int] = field(default_factory=dict)
    question_type_counts: dict[str, int] = field(default_factory=dict)


def normalize_answer(text: str) -> str:
    """Steps 3 and 4 of the official rule: punctuation, then words.

    A mark is deleted if ``text`` has it next to a space, or has digit-comma-digit anywhere;
    otherwise it becomes a space. Colons and apostrophes stay. Step 1 (newline and tab to
    space, strip) is left to :func:`vqa_score`.

    Example:
        >>> normalize_answer("The two T-shirts, dont!")
        "2 t shirts don't"
        >>> normalize_answer("1,000-2.5.")
        '10002.5'
    """
    words = (_NUMBERS.get(word, word) for word in _strip_punctuation(text).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_score(prediction: str, references: Sequence[str], *, always_normalize: bool = False) -> float:
    """Score of one answer, 0 to 1, against the human answers to its question.

    With unanimous references nothing is normalised, so "Yes" scores 0 against ten "yes":
    the official rule. ``always_normalize=True`` normalises there too; that is not the
    official metric and must not be reported as such.

    The official rule goes on below ten references: with two or three it reaches at most
    1/3 or 2/3. With one it is undefined, as no other annotator is left; the score is then
    1 or 0 for equality after normalising both sides, since one answer cannot show agreement.

    Example:
        >>> vqa_score("2", ["two"] * 2 + ["three"] * 8)
        0.6

    Raises:
        ValueError: there is no reference.
        TypeError: ``references`` is one string instead of a sequence of them.
    """
    if isinstance(references, str):
        raise TypeError("references must be a sequence of answers, not one string")
    if len(references) == 0:
        raise ValueError("references is empty: VQA accuracy needs at least one human answer")
    prediction, answers = _to_one_line(prediction), [_to_one_line(answer) for answer in references]
    if always_normalize or len(answers) == 1 or len(set(answers)) > 1:
        prediction, answers = _normalized(prediction), [_normalized(answer) for answer in answers]
    return _leave_one_out(answers.count(prediction), len(answers))


def best_score(references: Sequence[str]) -> float:
    """The highest :func:`vqa_score` that any answer can reach: 1/3 or 2/3 at most with two or three references.

    Example:
        >>> best_score(["red"] * 2 + ["blue"])
        0.4444444444444444

    Raises:
        ValueError, TypeError: as :func:`vqa_score`.
    """
    if len(references) == 0:
        raise ValueError("references is empty: VQA accuracy needs at least one human answer")
    # An answer that scores above 0 is, as the rule compares it, equal to one of them.
    return max(vqa_score(answer, references) for answer in dict.fromkeys(references))


def normalises_to_nothing(text: str) -> bool:
    """Whether the official rule leaves nothing of ``text`` where it normalises, as of "A" or "+".

    An empty prediction is then right.
    """
    return not normalize_answer(_to_one_line(text))


def vqa_accuracy(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    answer_types: Sequence[str] | None = None,
    question_types: Sequence[str] | None = None,
) -> VqaResult:
    """Official VQA v2 accuracy in percent; see :func:`vqa_score` for one question's score.

    Example:
        >>> result = vqa_accuracy(["red", "2"], [["red"] * 10, ["3"] * 10], ["other", "number"])
        >>> result.overall, result.per_answer_type
        (50.0, {'number': 0.0, 'other': 100.0})

    Raises:
        ValueError: nothing to score, a question without references, or lengths that differ.
    """
    _check_lengths(predictions, references, answer_types, question_types)
    scores = [vqa_score(*pair) for pair in zip(predictions, references, strict=True)]
    answers, questions = _group(scores, answer_types), _group(scores, question_types)
    return VqaResult(
        overall=_percent(scores),
        count=len(scores),
        per_answer_type={name: _percent(group) for name, group in answers.items()},
        per_question_type={name: _percent(group) for name, group in questions.items()},
        answer_type_counts={name: len(group) for name, group in answers.items()},
        question_type_counts={name: len(group) for name, group in questions.items()},
    )


def merge(results: Sequence[VqaResult]) -> VqaResult:
    """The result over several clients' examples together: means weighted by their counts.

    Equal, up to rounding, to :func:`vqa_accuracy` on the concatenated examples. A type's
    mean is over the clients that have it.

    Example:
        >>> merge([VqaResult(overall=100.0, count=1), VqaResult(overall=40.0, count=2)]).overall
        60.0

    Raises:
        ValueError: there are no results, or none of them has an example.
    """
    overall, counts = _weighted_means(({"": r.overall}, {"": r.count}) for r in results)
    if not counts:
        raise ValueError("no examples in the results to merge")
    answers, answer_counts = _weighted_means((r.per_answer_type, r.answer_type_counts) for r in results)
    questions, question_counts = _weighted_means((r.per_question_type, r.question_type_counts) for r in results)
    return VqaResult(overall[""], counts[""], answers, questions, answer_counts, question_counts)


def _check_lengths(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    answer_types: Sequence[str] | None,
    question_types: Sequence[str] | None,
) -> None:
    total = len(predictions)
    if total == 0:
        raise ValueError("predictions is empty: there is nothing to score")
    columns = {"references": references, "answer_types": answer_types, "question_types": question_types}
    for name, column in columns.items():
        if column is not None and len(column) != total:
            raise ValueError(f"{name} has {len(column)} items, predictions has {total}")
    for index, answers in enumerate(references):
        if len(answers) == 0:
            raise ValueError(f"references[{index}] is empty: each question needs at least one human answer")


def _to_one_line(text: str) -> str:
    """Step 1."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def _strip_punctuation(text: str) -> str:
    """Step 3. Whether a mark is deleted depends on the original ``text``, not on other marks' removal."""
    delete_all = _COMMA_IN_NUMBER.search(text) is not None
    replacement = {
        ord(mark): "" if delete_all or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _MARKS
        if mark in text
    }
    return _DOT.sub("", text.translate(replacement), count=_MOST_DOTS)


# Answers repeat ("yes", "2"): a cache saves most of the work.
_normalized = lru_cache(maxsize=1 << 16)(normalize_answer)


def _leave_one_out(matches: int, total: int) -> float:
    """Step 5, when ``matches`` of ``total`` annotators gave the predicted answer.

    Each of these sees one match fewer among the others than the rest do. In whole numbers
    up to the one division, so 3 of 10 is the float 0.9.
    """
    if total == 1:
        return float(matches)
    thirds = matches * min(3, matches - 1) + (total - matches) * min(3, matches)
    return thirds / (3 * total)


def _percent(scores: Sequence[float]) -> float:
    return 100 * fsum(scores) / len(scores)


def _group(scores: Sequence[float], types: Sequence[str] | None) -> dict[str, list[float]]:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for name, score in zip(types or (), scores, strict=False):
        groups[name].append(score)
    return dict(sorted(groups.items()))


def _weighted_means(
    parts: Iterable[tuple[Mapping[str, float], Mapping[str, int]]],
) -> tuple[dict[str, float], dict[str, int]]:
    """Per name: the mean of the means weighted by their counts, and the sum of the counts."""
    terms: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for means, counts in parts:
        for name, mean in means.items():
            if counts[name] > 0:
                terms[name].append((mean, counts[name]))
    totals = {name: sum(count for _, count in terms[name]) for name in sorted(terms)}
    return {name: fsum(m * n for m, n in terms[name]) / total for name, total in totals.items()}, totals
