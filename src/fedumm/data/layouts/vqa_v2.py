"""VQA v2, VQA v1 and OK-VQA as their sites give them: questions, annotations, and COCO's pictures.

::

    v2_OpenEnded_mscoco_train2014_questions.json     {"questions": [{"image_id", "question", "question_id"}, ...]}
    v2_mscoco_train2014_annotations.json             {"annotations": [{"question_id", "image_id", "question_type",
    v2_OpenEnded_mscoco_val2014_questions.json         "answer_type", "multiple_choice_answer",
    v2_mscoco_val2014_annotations.json                 "answers": [{"answer", "answer_confidence", "answer_id"}, ...]}]}
    train2014/COCO_train2014_000000000009.jpg
    val2014/COCO_val2014_000000000042.jpg

The JSON files lie in the folder, or in ``Questions/`` and ``Annotations/``. Those of VQA v1 and OK-VQA begin with
``OpenEnded_mscoco_`` and ``mscoco_``, those of abstract scenes with ``OpenEnded_abstract_v002_`` and
``abstract_v002_``. The pictures lie in the folder or below ``--image_root``. Questions without annotations, as the test
questions are, can't be learnt from, and are no split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedumm.data.layouts import arrow
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_stream import elements
from fedumm.data.layouts.pictures import PictureFolders
from fedumm.data.layouts.places import check_inside
from fedumm.data.request import DataRequest
from fedumm.data.splits import split_kind
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"(v2_)?OpenEnded_((?:mscoco|abstract_v002)_(\w+?\d{4}))_questions\.json")
_FOLDERS = ("", "Questions", "Annotations", "questions", "annotations")
_ROWS = 10_000
_COPIED = ("question_id", "multiple_choice_answer", "answer_type", "question_type")


class _Files(NamedTuple):
    questions: Path
    annotations: Path
    subset: str  # train2014


def recognise(path: Path) -> bool:
    """Whether there are questions with annotations under their official names."""
    return bool(_splits(path))


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads each split that has annotations."""
    folders, splits = PictureFolders.of(path, request), _splits(path)
    check_inside([file for files in splits.values() for file in files[:2]], path, request)
    return {split: partial(_rows, files, folders) for split, files in splits.items()}


def _splits(path: Path) -> dict[str, _Files]:
    """Files by kind of split."""
    found: dict[str, _Files] = {}
    files = {file.name: file for folder in _FOLDERS for file in (path / folder).glob("*_questions.json")}
    for questions in files.values():
        if match := _NAME.fullmatch(questions.name):
            name = f"{match[1] or ''}{match[2]}_annotations.json"
            place = next((path / folder / name for folder in _FOLDERS if (path / folder / name).is_file()), None)
            if place and (split := split_kind(match[3])) in found:
                raise LayoutError(f"{found[split].questions.name} and {questions.name} are there: keep one of them")
            if place:
                found[split] = _Files(questions, place, match[3])
    return found


def _rows(files: _Files, folders: PictureFolders) -> Any:
    questions = _table(files.questions, "questions", lambda q: {name: q[name] for name in _ASKED})
    table = _joined(_table(files.annotations, "annotations", _annotation), questions, files)
    names = folders.complete(_file_names(table["image_id"], files), _places(files.subset), files.subset, files.subset)
    return arrow.dataset(table.append_column("image", names))


_ASKED = ("question_id", "image_id", "question")


def _annotation(entry: dict[str, Any]) -> dict[str, Any]:
    row = {name: entry.get(name) for name in _COPIED}
    return {**row, "answers": [answer["answer"] for answer in entry["answers"]]}


def _table(file: Path, key: str, row: Callable[[dict[str, Any]], dict[str, Any]]) -> pa.Table:
    def rows() -> Iterator[dict[str, Any]]:
        for element in elements(file):
            if element.key == key and element.listed:
                try:
                    yield row(element.value)
                except (KeyError, TypeError) as error:
                    raise LayoutError(f"{file.name}: one of its {key} lacks {one_line(error, 60)}") from error

    table = arrow.table_of(rows())
    if not table.num_rows:
        raise LayoutError(f"{file.name} has no {key}")
    return table


def _joined(annotations: pa.Table, questions: pa.Table, files: _Files) -> pa.Table:
    """The questions in their order, each with its annotation; the official files are in one order."""
    if not annotations["question_id"].equals(questions["question_id"]):
        where = dict(zip(annotations["question_id"].to_pylist(), range(annotations.num_rows), strict=True))
        rows = [where.get(ident, -1) for ident in questions["question_id"].to_pylist()]
        if missing := rows.count(-1):
            raise LayoutError(
                f"{missing:,} of {len(rows):,} questions in {files.questions.name} have no answers in "
                f"{files.annotations.name}: are they of one version?"
            )
        annotations = annotations.take(rows)
    for name in annotations.column_names:
        if name != "question_id":
            questions = questions.append_column(name, annotations[name])
    return questions


def _file_names(idents: pa.ChunkedArray, files: _Files) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    before, end = ("COCO", "jpg") if "_mscoco_" in files.questions.name else ("abstract_v002", "png")
    digits = pc.utf8_lpad(pc.cast(idents, pa.string()), 12, "0")
    return pc.binary_join_element_wise(f"{before}_{files.subset}_", digits, f".{end}", "")


def _places(subset: str) -> list[str]:
    return [subset, f"images/{subset}", f"Images/mscoco/{subset}", f"coco/{subset}", "images"]
