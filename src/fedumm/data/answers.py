"""What the answer to a question is, in whatever form a data set holds it.

==========================================  ====================================================
in the data                                 read as
==========================================  ====================================================
a text                                      the text without spaces around it; blank: no answer
a list, records with ``answer``, a record   all its answers, in order; blank ones are left out
of lists, a list written as a text
a class label                               its name
a number beside ``choices``, or a letter    that choice, counted from 0, or from A
a whole number, ``2.0`` in a column of      ``2``
whole numbers
true, false                                 ``yes``, ``no``
==========================================  ====================================================

The answer to train on is the one that the data name as such, else the most frequent one: votes are counted by the
normalised text of the VQA v2 rule (:func:`fedumm.metrics.vqa.normalize_answer`), and of the spellings that count as
one the most frequent is taken; of equally frequent ones the first.
"""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import Any

from fedumm.data.column_values import values_of
from fedumm.metrics.vqa import normalize_answer
from fedumm.texts import one_line

BEST, ALL, CHOICES = "multiple_choice_answer", "answers", "choices"
_ALL_NAMES = (ALL, "direct_answers", "answer", BEST)
_BEST_NAMES = (BEST, "answer")
_INDEX_NAMES = ("correct_choice_idx", "answer_idx", "answer_index", "correct_idx")
COLUMNS = frozenset({*_ALL_NAMES, *_BEST_NAMES, *_INDEX_NAMES, CHOICES})
"""Columns that something of an answer is read from."""

_IN_RECORDS = ("answer", "text")
_LIST = re.compile(r"""\[\s*(['"{\d\]-])""")
"""How a list begins that is written as a text. What else is in brackets is a text."""

_REMEMBERED = 2**16
"""So many texts are read once, and are one object for all rows: most answers repeat."""

Entry = Any
Reader = Callable[[Entry], list[str]]


class AnswerError(ValueError):
    """An entry that is no answer: half a sentence that says why."""


@dataclass(frozen=True)
class Answers:
    """The answers of each row.

    Attributes:
        best: the one to train on; None where there is none.
        all: every answer, the best one alone if the data have no others.
        choices: what could be chosen from; None for a question without choices, or for all.
        types: ``yes/no``, ``number`` or ``other`` by the best answer.
        bad: why a row has no answer.
        notes: what was read as something else, in words.
    """

    best: list[str | None]
    all: list[list[str]]
    choices: list[list[str] | None] | None
    types: list[str]
    bad: dict[int, str]
    notes: tuple[str, ...]


def has_answers(columns: Iterable[str]) -> bool:
    """Whether one of ``columns`` holds answers."""
    return not {*_ALL_NAMES, *_INDEX_NAMES}.isdisjoint(columns)


def read_answers(rows: Any) -> Answers:
    """The answers in the columns of ``rows`` (a ``datasets.Dataset`` with one of :data:`COLUMNS`)."""
    there = rows.column_names
    options = _Column(rows, CHOICES if CHOICES in there else "", blanks=True)
    index = _INDEX_NAMES if options.name else ()
    named = _Column(rows, next((name for name in (*index, *_BEST_NAMES) if name in there), ""))
    several = next((name for name in _ALL_NAMES if name in there), "")
    everyone = _Column(rows, several if several != named.name else "")
    found = Answers([], [], [] if options.name else None, [], {}, ())
    # The values of a column that is not there have no end.
    entries = zip(range(len(rows)), options.values, named.values, everyone.values, strict=False)
    for row, offers, own, others in entries:
        best, said, offered = None, list[str](), None
        try:
            offered = options.read(offers) or None
            chosen = _chosen(named.read(own), offered, named)
            said = everyone.read(others) or chosen
            best = most_common(chosen or said)
            if best is None:
                found.bad[row] = "has no answer"
        except AnswerError as error:
            found.bad[row] = str(error)
        found.best.append(best)
        found.all.append(said)
        found.types.append(answer_type(best or ""))
        if found.choices is not None:
            found.choices.append(offered)
    notes = dict.fromkeys(note for column in (named, everyone, options) for note in column.notes)
    return replace(found, notes=tuple(notes))


def most_common(answers: Sequence[str]) -> str | None:
    """The answer with most votes, None without any; see the module for what counts as the same answer."""
    if len(set(answers)) < 2:
        return answers[0] if answers else None
    votes = Counter(map(_vote, answers))
    first = votes.most_common(1)[0][0]
    return Counter(answer for answer in answers if _vote(answer) == first).most_common(1)[0][0]


def answer_type(answer: str) -> str:
    """``yes/no``, ``number`` or ``other``."""
    text = answer.strip().lower()
    if text in {"yes", "no"}:
        return "yes/no"
    return "number" if text.replace(".", "", 1).isdigit() else "other"


@lru_cache(_REMEMBERED)
def _vote(answer: str) -> str:
    """What ``answer`` is counted as. "A" and "+" normalise to nothing, and are not the same."""
    return normalize_answer(answer) or answer


def _chosen(answers: list[str], choices: list[str] | None, column: _Column) -> list[str]:
    """``answers``, of which those that are the place of a choice, or its letter, are that choice."""
    if not choices:
        return answers
    return [
        answer if answer in choices and not column.numbers else _choice(answer, choices, column.name)
        for answer in answers
    ]


def _choice(answer: str, choices: list[str], column: str) -> str:
    letter = len(answer) == 1 and "A" <= answer.upper() <= "Z"
    if not (letter or answer.removeprefix("-").isdecimal()):
        return answer
    place = ord(answer.upper()) - ord("A") if letter else int(answer)
    if not 0 <= place < len(choices):
        raise AnswerError(f"has the {column} {answer}, and {len(choices)} choices")
    return choices[place]


class _Column:
    """One column of ``rows``, and how its entries are read.

    Args:
        name: empty: there is none, and its entries say nothing.
        blanks: whether blank texts count.

    Attributes:
        values: its entries, once.
        read: the texts of an entry, stripped, without blank ones.
    """

    def __init__(self, rows: Any, name: str, blanks: bool = False) -> None:
        self.name, self._blanks = name, blanks
        self.values = values_of(rows, name) if name else repeat(None)
        feature = rows.features[name] if name else None
        self.notes: list[str] = []
        kind = getattr(feature, "dtype", "")
        self._whole = kind.startswith("float") and _all_whole(values_of(rows, name))
        self.numbers = (self._whole or kind.startswith(("int", "uint"))) and not hasattr(feature, "names")
        if self._whole:
            self._note(f"{name}: numbers such as 2.0 are read as 2")
        self._text = lru_cache(_REMEMBERED)(self._text_entry)
        self.read = self._reader_of(feature) if name else _nothing

    def _reader_of(self, feature: Any) -> Reader:
        names = getattr(feature, "names", None)
        if names is not None:
            self._note(f"{self.name}: numbers of classes are read as their names")
            return lambda entry: [] if entry is None or entry < 0 else [names[entry].strip()]
        if isinstance(feature, dict):
            field = next((name for name in _IN_RECORDS if name in feature), None)
            if field is None:
                return self._unreadable
            inner = self._reader_of(feature[field])
            return lambda entry: [] if entry is None else inner(entry[field])
        item = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        if item is not None:
            inner = self._reader_of(item)
            if isinstance(item, dict) and not isinstance(feature, list):
                return lambda entry: self._joined(inner, _records(entry))
            return lambda entry: self._joined(inner, entry)
        return self._scalar

    def _joined(self, inner: Reader, entries: Sequence[Entry] | None) -> list[str]:
        return [text for entry in entries or () for text in inner(entry)]

    def _unreadable(self, entry: Entry) -> list[str]:
        raise AnswerError(f"has in {self.name} neither a text nor a list, nor a record with 'answer'")

    def _scalar(self, entry: Entry) -> list[str]:
        if isinstance(entry, str):
            return self._text(entry)
        if entry is None or entry != entry:  # not a number: an empty cell
            return []
        if isinstance(entry, bool):
            self._note(f"{self.name}: true and false are read as yes and no")
            return ["yes" if entry else "no"]
        if isinstance(entry, float):
            return [str(int(entry)) if self._whole else str(entry)]
        if isinstance(entry, int):
            return [str(entry)]
        raise AnswerError(f"has a {type(entry).__name__} in {self.name}, not a text")

    def _text_entry(self, entry: str) -> list[str]:
        text = entry.strip()
        if text.endswith("]") and _LIST.match(text):
            self._note(f"{self.name}: lists written as texts are read as lists")
            return self._texts(_written_list(text, self.name))
        return self._texts([text])

    def _texts(self, items: Iterable[str]) -> list[str]:
        return [text for item in items if (text := item.strip()) or self._blanks]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _nothing(entry: Entry) -> list[str]:
    return []


def _all_whole(values: Iterable[Entry]) -> bool:
    return all(value is None or math.isnan(value) or value.is_integer() for value in values)


def _records(entry: Any) -> list[Entry]:
    """Records of one entry, which may be a record of lists instead."""
    if isinstance(entry, dict):
        return [dict(zip(entry, values, strict=True)) for values in zip(*entry.values(), strict=True)]
    return list(entry or ())


def _written_list(text: str, column: str) -> list[str]:
    """The entries of a list of texts, or of records with ``answer``, as Python, JSON or numpy (no commas) write it.

    Raises:
        AnswerError: it is something else, which a model should not be trained to say.
    """
    wrong = AnswerError(f"has in {column} {one_line(text, 60)!r}, which looks like a list and is none of texts")
    try:
        found = ast.literal_eval(text)
        if any(isinstance(entry, dict) for entry in found):
            found = entries = [entry[_IN_RECORDS[0]] for entry in found]
        else:
            # Python joins texts without a comma between them, as numpy writes them.
            tokens = tokenize.generate_tokens(io.StringIO(text).readline)
            entries = [ast.literal_eval(token.string) for token in tokens if token.type == tokenize.STRING]
    except (SyntaxError, ValueError, TypeError, LookupError, MemoryError, RecursionError, tokenize.TokenError):
        raise wrong from None
    if not all(isinstance(entry, str) for entry in (*found, *entries)) or "".join(found) != "".join(entries):
        raise wrong
    return entries
