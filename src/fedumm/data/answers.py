"""What the answer to a question is, in whatever form a data set holds it.

==========================================  ====================================================
in the data                                 read as
==========================================  ====================================================
a text                                      the text without spaces around it; blank: no answer
a list, records with ``answer``, a record   all its answers, in order; blank ones are left out
of lists, one of these written as a text
a class label                               its name
a number beside ``choices``, or a letter    that choice, counted from 0, or from A
a whole number, ``2.0`` in a column of      ``2``
whole numbers
true, false                                 ``yes``, ``no``
==========================================  ====================================================

Beside ``choices`` it is decided once for a column whether it holds numbers or letters of choices: a column such as
``correct_choice_idx`` does, and so does one of whole numbers. One of texts does if each row has one, all are whole
numbers, or all are letters (``B``, ``(B)``, ``B.``, ``(B) blue``), and not all are choices as they stand; so
does one of letters and choices, if no letter is a choice.

The answer to train on is the one that the data name as such, else the most frequent one: votes are counted by the
normalised text of the VQA v2 rule (:func:`fedumm.metrics.vqa.normalize_answer`), and of the spellings that count as
one the most frequent is taken; of equally frequent ones the first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from fedumm.data.cell_texts import TextColumn, TextError
from fedumm.metrics.vqa import normalize_answer
from fedumm.texts import one_line

BEST, ALL, CHOICES = "multiple_choice_answer", "answers", "choices"
_ALL_NAMES = (ALL, "direct_answers", "answer", BEST)
_BEST_NAMES = (BEST, "answer")
_INDEX_NAMES = ("correct_choice_idx", "answer_idx", "answer_index", "correct_idx")
ANSWER_COLUMNS = frozenset({*_ALL_NAMES, *_BEST_NAMES, *_INDEX_NAMES})
"""Columns that answers are read from."""

_IN_RECORDS = ("answer", "text")
_NUMBER = re.compile(r"(-?[0-9]{1,15})(\.0+)?")
_LETTER = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])[.):]?)")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])[.):])\s+(\S.*)", re.DOTALL)

_REMEMBERED = 2**16

Reader = Callable[[Any, list[str]], list[str]]
"""Answers of a cell, given the row's choices."""


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
    return not ANSWER_COLUMNS.isdisjoint(columns)


def read_answers(rows: Any) -> Answers:
    """The answers in the columns of ``rows`` (a ``datasets.Dataset`` with one of :data:`ANSWER_COLUMNS`)."""
    there = rows.column_names
    options = TextColumn(rows, CHOICES if CHOICES in there else "", _IN_RECORDS, blanks=True)
    named, everyone = (TextColumn(rows, name, _IN_RECORDS) for name in _columns(there))
    read_named = _reader(named, options, named.name)
    read_everyone = _reader(everyone, options, "" if named.name and everyone.name not in _BEST_NAMES else everyone.name)
    found = Answers([], [], [] if options.name else None, [], {}, ())
    # The values of a column that is not there have no end.
    cells = zip(range(len(rows)), options.values(), named.values(), everyone.values(), strict=False)
    for row, offers, own, others in cells:
        best, said, offered = None, list[str](), list[str]()
        try:
            offered = _choices(options, offers)
            chosen = read_named(own, offered)
            said = read_everyone(others, offered) or chosen
            best = most_common(chosen or said)
            if best is None:
                found.bad[row] = "has no answer"
        except TextError as error:
            found.bad[row] = str(error)
        found.best.append(best)
        found.all.append(said)
        found.types.append(answer_type(best or ""))
        if found.choices is not None:
            found.choices.append(offered or None)
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


def _columns(there: Sequence[str]) -> tuple[str, str]:
    """The column with the one answer of a row and that with all of them, each empty if there is none."""
    index = _INDEX_NAMES if CHOICES in there or not {*_ALL_NAMES} & {*there} else ()
    named = next((name for name in (*index, *_BEST_NAMES) if name in there), "")
    several = next((name for name in _ALL_NAMES if name in there), "")
    return named, several if several != named else ""


def _choices(options: TextColumn, cell: Any) -> list[str]:
    """What can be chosen from. Of two choices in a table with columns for four, two are blank."""
    found = options.read(cell)
    while found and not found[-1]:
        found = found[:-1]
    return found


def _reader(column: TextColumn, options: TextColumn, texts: str) -> Reader:
    """How the cells of ``column`` are read; ``texts`` is empty if its texts are never those of places."""
    always = column.name in _INDEX_NAMES
    if not always and not (options.name and column.name and _are_places(column, options, bool(texts))):
        return lambda cell, choices: column.read(cell)
    return lambda cell, choices: [_choice(text, choices, column.name, always) for text in column.read(cell)]


def _are_places(column: TextColumn, options: TextColumn, texts: bool) -> bool:
    """Whether ``column`` holds the numbers or the letters of choices."""
    if not (column.numbers or texts):
        return False
    answers = itself = number = letter = both = doubtful = 0
    for cell, offers in zip(column.values(), options.values(), strict=True):
        try:
            said, choices = column.read(cell), _choices(options, offers)
        except TextError:
            continue
        if not choices or not said:
            continue
        if len(said) > 1 and not column.numbers:
            return False
        place = _place(said[0], choices)
        answers += 1
        itself += said[0] in choices
        number += bool(_NUMBER.fullmatch(said[0]))
        letter += _letter(said[0], choices) is not None
        both += place is not None and said[0] in choices
        doubtful += place is not None and choices[place : place + 1] not in ([], said)
    spelt = letter and not (number or both) and letter + itself == answers
    if answers and (column.numbers or spelt or (itself < answers and answers in (number, letter))):
        column.note("numbers of choices, from 0, are read as these" if number else "letters are read as choices")
        return True
    if doubtful:
        column.note("some could be numbers or letters of choices; all are read as texts")
    return False


def _letter(text: str, choices: Sequence[str]) -> int | None:
    """The place of the choice whose letter ``text`` is, alone or with this very choice."""
    if match := _LETTER.fullmatch(text):
        return _place_of(match[1] or match[2])
    if match := _LETTER_AND_TEXT.fullmatch(text):
        place = _place_of(match[1] or match[2])
        if place < len(choices) and match[3].casefold() == choices[place].casefold():
            return place
    return None


def _place_of(letter: str) -> int:
    return ord(letter.upper()) - ord("A")


def _place(text: str, choices: Sequence[str]) -> int | None:
    number = _NUMBER.fullmatch(text)
    return int(number[1]) if number else _letter(text, choices)


def _choice(text: str, choices: Sequence[str], column: str, always: bool) -> str:
    """The choice whose number or letter ``text`` is, in a column of these; ``always``: of nothing else."""
    place = _place(text, choices)
    if place is None and not always and (not choices or text in choices):
        return text
    shown = f"has the {column} {one_line(text, 60)}"
    if not choices:
        raise TextError(f"{shown}, and no choices")
    if place is None:
        raise TextError(f"{shown}, which is no number of a choice")
    if not 0 <= place < len(choices):
        raise TextError(f"{shown}, and {len(choices)} choices")
    return choices[place]
