"""One set of column names, whatever a data set calls them.

==========================  ==================================================
``image``                   picture (bytes or a file)
``question``                text
``multiple_choice_answer``  the answer to train on: the humans' most frequent one
``answers``                 all human answers, a list of strings
``answer_type``             ``yes/no``, ``number``, ``other``, or the set's own
``question_type``           how the question begins
``image_id``                equal for questions on the same image
``question_id``             unique
``caption``                 text to draw the image from; of several, the first
``geneval``                 the caption as a prompt of GenEval (JSON), if known
``task``                    what the row is for: ``vqa`` or ``t2i``
==========================  ==================================================

A row is for one task; what it has nothing for is null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fedumm.errors import FedummError
from fedumm.tasks import GENEVAL

OTHER_NAMES = {"id_image": "image_id", "id_question": "question_id", "answer": "multiple_choice_answer"}
ANSWERS = ("multiple_choice_answer", "answers")
CAPTIONS = ("caption", "captions", "text", "prompt")
"""Names of the column with captions, the first that is there."""

METADATA = ("answer_type", "question_type", "image_id", "question_id")


def canonical(rows: Any, columns: Sequence[str], name: str) -> Any:
    """``rows`` with the canonical columns; what neither ``columns`` nor a report needs is dropped.

    Derived where missing: ``answers`` and ``multiple_choice_answer`` from each other,
    ``answer_type`` from the answer. Answers may be strings or ``{"answer": ...}`` records.

    Raises:
        FedummError: a column of ``columns`` is neither there nor derivable, or a row has no answer.
    """
    there = rows.column_names
    for other, wanted in OTHER_NAMES.items():
        if other in there and wanted not in there:
            # What a backend reads under its own name stays there too.
            rows = rows.add_column(wanted, rows[other][:]) if other in columns else rows.rename_column(other, wanted)
    derived = _answers(rows) if set(ANSWERS) & set(rows.column_names) else {}
    kept = [c for c in dict.fromkeys([*columns, *METADATA]) if c in rows.column_names and c not in derived]
    if missing := [c for c in columns if c not in kept and c not in derived]:
        raise FedummError(f"--dataset {name} has no column {', '.join(missing)}. It has: {', '.join(there)}.")
    if derived and set(ANSWERS) & set(columns) and "" in derived["multiple_choice_answer"]:
        raise FedummError(f"--dataset {name}: row {derived['multiple_choice_answer'].index('')} has no answer.")
    rows = rows.select_columns(kept)
    for column, values in derived.items():
        rows = rows.add_column(column, values)
    return rows


def canonical_captions(rows: Any, columns: Sequence[str], name: str) -> Any:
    """``rows`` with ``columns``, of which one is ``caption``, and ``geneval`` and ``image_id`` where known.

    An image's caption counts once, however many questions go with it. ``answer_type``, which reports
    and partitions go by, is the category of GenEval, or ``caption``.

    Raises:
        FedummError: a column is missing, or a row has no caption.
    """
    there = rows.column_names
    if "caption" in columns and (found := next((c for c in CAPTIONS if c in there), None)):
        texts = [_caption(entry, row, name) for row, entry in enumerate(rows[found][:])]
        rows = rows.remove_columns(list({found, "caption"} & set(there)))
        rows = rows.add_column("caption", texts)
    if missing := [c for c in columns if c not in rows.column_names]:
        raise FedummError(f"--dataset {name} has no column {', '.join(missing)}. It has: {', '.join(there)}.")
    if "image_id" not in there and "id_image" in there:
        rows = rows.rename_column("id_image", "image_id")
    kept = [c for c in dict.fromkeys([*columns, GENEVAL.column, "image_id"]) if c in rows.column_names]
    rows = rows.select_columns(kept)
    if {"image_id", "caption"} <= set(kept):
        pairs = list(zip(rows["image_id"][:], rows["caption"][:], strict=True))
        first = {pair: row for row, pair in reversed(list(enumerate(pairs)))}
        rows = rows if len(first) == len(rows) else rows.select(sorted(first.values()))
    prompts = rows[GENEVAL.column][:] if GENEVAL.column in kept else [None] * len(rows)
    return rows.add_column("answer_type", [_tag(p, i, name) if p else "caption" for i, p in enumerate(prompts)])


def _tag(text: str, row: int, name: str) -> str:
    """Kind of a prompt of GenEval, which is the row's type."""
    from fedumm.metrics.geneval import check_prompt

    try:
        tag: str = check_prompt(json.loads(text))["tag"]
        return tag
    except (TypeError, ValueError, RecursionError) as error:
        raise FedummError(f"--dataset {name}: geneval of row {row} is no prompt of GenEval: {error}.") from error


def _caption(entry: Any, row: int, name: str) -> str:
    text = entry[0] if isinstance(entry, list | tuple) and entry else entry
    if not isinstance(text, str) or not text.strip():
        raise FedummError(f"--dataset {name}: row {row} has no caption.")
    return text


def _answers(rows: Any) -> dict[str, list[Any]]:
    """The three answer columns, from those there are; a row without any has an empty one.

    A slice of a column is read at once, where iterating over it reads a row at a time.
    """
    names = rows.column_names
    best_column, all_column = (next(c for c in order if c in names) for order in (ANSWERS, ANSWERS[::-1]))
    given = [(_texts(b), _texts(a)) for b, a in zip(rows[best_column][:], rows[all_column][:], strict=True)]
    best = [_mode(b or a) for b, a in given]
    types = rows["answer_type"][:] if "answer_type" in names else [_answer_type(b) for b in best]
    return {"multiple_choice_answer": best, "answers": [a or b for b, a in given], "answer_type": types}


def _texts(entry: Any) -> list[str]:
    """Answers of one question: a string, strings, records with ``answer``, or a record of lists."""
    if isinstance(entry, dict):
        entry = entry["answer"]
    items = list(entry) if isinstance(entry, list | tuple) else [entry]
    texts = [item["answer"] if isinstance(item, dict) else item for item in items]
    return [str(text) for text in texts if text is not None]


def _mode(answers: Sequence[str]) -> str:
    return Counter(answers).most_common(1)[0][0] if answers else ""


def _answer_type(answer: str) -> str:
    if answer.strip().lower() in {"yes", "no"}:
        return "yes/no"
    return "number" if answer.strip().replace(".", "", 1).isdigit() else "other"
