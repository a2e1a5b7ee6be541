"""One set of column names, whatever a data set calls them.

==========================  ==================================================
``image``                   picture (:class:`fedumm.data.picture.Picture`)
``image_2`` ...             the row's further pictures, null where there is none
``question``                text; numbers are read as texts
``multiple_choice_answer``  the answer to train on (:mod:`fedumm.data.answers`)
``answers``                 all human answers, a list of strings
``choices``                 what can be chosen from, a list of strings, if known
``answer_type``             ``yes/no``, ``number``, ``other``, or the set's own
``question_type``           how the question begins
``image_id``                equal for rows with the same image
                            (:mod:`fedumm.data.identity`)
``question_id``             unique
``caption``                 text to draw the image from, one a row
                            (:mod:`fedumm.data.cell_texts`)
``text``                    text to write of the image: the first of ``texts``
``texts``                   all of an image's texts, a list of strings
``geneval``                 the caption as a prompt of GenEval (JSON), if known
``source_row``              number of the row in the data as they were given
``task``                    what the row is for: ``vqa``, ``i2t`` or ``t2i``
==========================  ==================================================

A row is for one task; what it has nothing for is null. Rows are chosen and put into order by their numbers, and derived
columns lie beside the table: no image is copied, and nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedumm.config.columns import COLUMN_NAMES
from fedumm.data.answers import ALL, BEST, CHOICES, has_answers, read_answers
from fedumm.data.cell_texts import TextColumn, TextError
from fedumm.data.column_values import ROWS, SOURCE_ROW, values_of
from fedumm.data.identity import plain
from fedumm.data.layouts.arrow import dataset
from fedumm.data.names import could_be, listed
from fedumm.errors import FedummError
from fedumm.tasks import GENEVAL, I2T, T2I, VQA
from fedumm.texts import one_line

QUESTION_IDS = ("questionid", "idquestion", "qid")
CAPTIONS = ("caption", "captions", "text", "prompt")
"""Names of the column with captions, the first that is there."""

TEXTS = (("caption", "captions"), ("text", "texts"))
"""Names of the columns with texts to write: those of the first pair of which one is there."""

_KEPT = ("question_type", "question_id")
_CAPTION_FIELDS = ("raw", "caption", "text")


@dataclass
class Selection:
    """Samples of one task, by the rows that they are made of.

    Attributes:
        numbers: the row of each sample; a row may make several.
        columns: derived columns, with a value for each sample.
        kept: columns of the data that go on as they are.
        left_out, bad, notes: see :class:`fedumm.data.request.SplitReport`.
    """

    numbers: list[int]
    columns: dict[str, list[Any]]
    kept: list[str]
    left_out: dict[str, int] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the samples."""
        self.numbers = [self.numbers[place] for place in places]
        self.columns = {name: [values[place] for place in places] for name, values in self.columns.items()}


def questions(rows: Any, chosen: Iterable[int], columns: Sequence[str], name: str) -> Selection:
    """A sample for each row of ``chosen``.

    Args:
        columns: what the backend reads.
        name: of the data set, for messages.

    Raises:
        FedummError: a column of ``columns`` is neither there nor derivable.
    """
    there = rows.column_names
    derived: dict[str, Sequence[Any]] = {}
    answers = read_answers(rows) if has_answers(there) else None
    if answers:
        derived = {BEST: answers.best, ALL: answers.all, "answer_type": answers.types}
        if answers.choices is not None:
            derived[CHOICES] = answers.choices
    if "answer_type" in there:
        kinds = as_text(rows, "answer_type")
        own = derived.get("answer_type", kinds)
        derived["answer_type"] = [kind or guess for kind, guess in zip(kinds, own, strict=True)]
    if (theirs := next((c for c in there if plain(c) in QUESTION_IDS), "")) and theirs != "question_id":
        derived["question_id"] = _question_ids(rows, theirs)
    asked = _Texts(rows, VQA.column) if VQA.column in {*columns} & {*there} and _no_texts(rows, VQA.column) else None
    bad: dict[int, str] = {}
    if asked:
        derived[VQA.column] = [texts[0] if len(texts) == 1 else None for texts in asked.texts]
        bad = {n: "has a question that is no text" for n, text in enumerate(derived[VQA.column]) if not text}
    kept = [c for c in dict.fromkeys([*columns, *_KEPT]) if c in there and c not in derived]
    _check_columns([c for c in columns if c not in kept and c not in derived], rows, name)
    scored = answers is not None and not {BEST, ALL}.isdisjoint(columns)
    bad |= answers.bad if answers and scored else {}
    numbers = [n for n in chosen if n not in bad]
    made = {column: [values[n] for n in numbers] for column, values in derived.items()}
    notes = (*(asked.notes if asked else ()), *(answers.notes if answers and scored else ()))
    return Selection(numbers, made, kept, bad={n: bad[n] for n in chosen if n in bad}, notes=notes)


def captions(rows: Any, chosen: Iterable[int], columns: Sequence[str], name: str) -> Selection:
    """A sample for each caption of each row of ``chosen``.

    ``answer_type``, which reports and partitions go by, is the category of GenEval, or ``caption``.

    Raises:
        FedummError: a column of ``columns`` is missing, or a prompt of GenEval is none.
    """
    there = rows.column_names
    found = next((c for c in CAPTIONS if c in there), "") if T2I.column in columns else ""
    kept = [c for c in dict.fromkeys([*columns, GENEVAL.column]) if c in there and c not in (found, T2I.column)]
    _check_columns([c for c in columns if c not in kept and not (found and c == T2I.column)], rows, name)
    read = _Texts(rows, found, _CAPTION_FIELDS) if found else None
    texts = read.texts if read else [[""]] * len(rows)
    prompts = list(values_of(rows, GENEVAL.column)) if GENEVAL.column in there else [None] * len(rows)
    made = Selection([], {"answer_type": []} | ({T2I.column: []} if found else {}), kept)
    made.notes = read.notes if read else ()
    for n in chosen:
        own = texts[n]
        if not own:
            made.bad[n] = read.bad.get(n, "has no caption") if read else ""
        made.numbers += [n] * len(own)
        if found:
            made.columns[T2I.column] += own
        if own:
            made.columns["answer_type"] += [_tag(prompts[n], n, name)] * len(own)
    return made


def texts(rows: Any, chosen: Iterable[int], columns: Sequence[str], name: str) -> Selection:
    """A sample for each row of ``chosen``, with its texts in order, equal ones once.

    ``answer_type`` is that of the data, else the category of GenEval, or ``caption``.

    Raises:
        FedummError: a column of ``columns`` is missing, or a prompt of GenEval is none.
    """
    there = rows.column_names
    found = _text_columns(there)
    kept = [c for c in dict.fromkeys(columns) if c in there and c not in (*I2T.columns, *found)]
    _check_columns([c for c in columns if c not in kept and not (found and c in I2T.columns)], rows, name)
    read = [_Texts(rows, column, _CAPTION_FIELDS) for column in found]
    prompts = list(values_of(rows, GENEVAL.column)) if GENEVAL.column in there else [None] * len(rows)
    kinds = as_text(rows, "answer_type") if "answer_type" in there else [None] * len(rows)
    made = Selection([], {"text": [], "texts": [], "answer_type": []}, [c for c in kept if c != "answer_type"])
    made.notes = tuple(note for column in read for note in column.notes)
    for n in chosen:
        own = list(dict.fromkeys(text for column in read for text in column.texts[n]))
        if problem := next((column.bad[n] for column in read if n in column.bad), "" if own else "has no text"):
            made.bad[n] = problem
            continue
        made.numbers.append(n)
        made.columns["text"].append(own[0])
        made.columns["texts"].append(own)
        made.columns["answer_type"].append(kinds[n] or _tag(prompts[n], n, name))
    return made


def one_an_image(made: Selection, images: Sequence[str]) -> int:
    """Let the samples of ``made`` that show one image be one, with the texts of all; how many this leaves out.

    Args:
        images: of each sample; all of them together, where it has several.
    """
    by_image: dict[str, int] = {}
    owned = [by_image.setdefault(image, place) for place, image in enumerate(images)]
    joined: dict[int, dict[str, None]] = {}
    for place, first in enumerate(owned):
        joined.setdefault(first, {}).update(dict.fromkeys(made.columns["texts"][place]))
    made.columns["texts"] = [list(joined.get(place, ())) for place in range(len(owned))]
    made.keep(sorted(joined))
    return len(owned) - len(joined)


def _text_columns(there: Sequence[str]) -> list[str]:
    pairs = ([name for name in pair if name in there] for pair in TEXTS)
    return next(filter(None, pairs), [])


SAMPLES = {VQA.name: questions, I2T.name: texts, T2I.name: captions}
"""What makes samples of rows, by task."""


class _Texts:
    """The texts of each row of a column, why one has none, and what was read as something else, in words."""

    def __init__(self, rows: Any, name: str, fields: Sequence[str] = ()) -> None:
        column = TextColumn(rows, name, fields)
        self.texts: list[list[str]] = []
        self.bad: dict[int, str] = {}
        for row, cell in enumerate(column.values()):
            try:
                self.texts.append(column.read(cell))
            except TextError as error:
                self.texts.append([])
                self.bad[row] = str(error)
        self.notes = tuple(column.notes)


def _no_texts(rows: Any, column: str) -> bool:
    return getattr(rows.features[column], "dtype", "") not in ("string", "large_string")


def as_text(rows: Any, column: str) -> list[str | None]:
    """A column as text; class labels by their names."""
    names = getattr(rows.features[column], "names", None)
    values = values_of(rows, column)
    if names is not None:
        return [None if value is None or value < 0 else names[value] for value in values]
    return [None if value is None or value != value else str(value) for value in values]


def _question_ids(rows: Any, column: str) -> list[Any]:
    """Whole numbers as they are, all else as text."""
    whole = getattr(rows.features[column], "dtype", "").startswith(("int", "uint"))
    return list(values_of(rows, column)) if whole else as_text(rows, column)


def mark_of(columns: Sequence[str], mark: str) -> str:
    """Of ``columns``, the one with something in it for rows of the task that ``mark`` marks; empty: none."""
    if mark == I2T.column:
        return next(iter(_text_columns(columns)), "")
    names = CAPTIONS if mark == T2I.column else (mark,)
    return next((name for name in names if name in columns), "")


def beside(rows: Any, kept: Sequence[str], numbers: Sequence[int], columns: Mapping[str, Sequence[Any]]) -> Any:
    """The columns ``kept`` of ``rows`` by ``numbers``, with ``columns`` beside them; nothing of ``rows`` is copied.

    A row that comes again takes its value of ``columns`` from a further table of as many rows as there are: as many
    tables as the most frequent number comes times.

    Args:
        rows: a ``datasets.Dataset`` whose rows were not chosen by :meth:`~datasets.Dataset.select` before.
        columns: texts, lists of texts or whole numbers, one for each of ``numbers``.
    """
    import numpy as np
    import pyarrow as pa
    from datasets import concatenate_datasets

    own = [rows.select_columns(list(kept))] if kept else []
    order = np.asarray(numbers, np.int64)
    earlier = _times_earlier(order)
    tables = []
    for level in range(earlier.max(initial=0) + 1):
        samples = np.flatnonzero(earlier == level)
        places = np.full(len(rows), -1)
        places[order[samples]] = samples
        made = {name: _array(name, values, places) for name, values in columns.items()}
        tables.append(concatenate_datasets([*own, dataset(pa.table(made))], axis=1))
    table = tables[0] if len(tables) == 1 else concatenate_datasets(tables)
    index = earlier * len(rows) + order
    return table if np.array_equal(index, np.arange(len(table))) else table.select(index)


def _times_earlier(numbers: Any) -> Any:
    """How many times each of an array of numbers comes before its own place."""
    import numpy as np

    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    times = np.empty_like(order)
    times[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return times


def _array(name: str, values: Sequence[Any], places: Any) -> Any:
    """The Arrow column ``name`` of the ``values`` at ``places``, null where one is -1."""
    import pyarrow as pa

    first = next((value for value in values if value is not None), "")
    kind = pa.int64() if isinstance(first, int) or name == SOURCE_ROW else pa.string()
    kind = pa.list_(kind) if name in (ALL, CHOICES, "texts") else kind
    parts = (places[start : start + ROWS].tolist() for start in range(0, len(places), ROWS))
    made = [pa.array([None if place < 0 else values[place] for place in part], kind) for part in parts]
    return pa.chunked_array(made, kind)


def _check_columns(missing: Sequence[str], rows: Any, name: str) -> None:
    if not missing:
        return
    ours = list(dict.fromkeys("answer" if column in (BEST, ALL) else column for column in missing))
    free = [column for column in rows.column_names if column not in COLUMN_NAMES]
    meant = {column: could_be(column, free, rows.features) for column in ours if column in COLUMN_NAMES}
    doubts = [f" {' and '.join(theirs)} could each be {column}." for column, theirs in meant.items() if theirs]
    pairs = ",".join(f"{column}={theirs[0] if theirs else 'NAME'}" for column, theirs in meant.items())
    raise FedummError(
        f"--dataset {name} has no column {', '.join(ours)}. It has: {listed(rows.column_names)}.{''.join(doubts)}"
        + (f" If one of them is meant, say which: --columns {one_line(pairs)}" if pairs else "")
    )


def _tag(text: str | None, row: int, name: str) -> str:
    """Kind of a prompt of GenEval, which is the row's type."""
    from fedumm.metrics.geneval import check_prompt

    if not text:
        return "caption"
    try:
        tag: str = check_prompt(json.loads(text))["tag"]
        return tag
    except (TypeError, ValueError, RecursionError) as error:
        raise FedummError(f"--dataset {name}: geneval of row {row} is no prompt of GenEval: {error}.") from error
