#!/usr/bin/env python
"""Loading a large data set: time and peak memory of the official files of VQA v2, and of a table.

    python benchmarks/loading.py

443,757 questions with ten answers each on 82,783 pictures, which are files of one byte: as VQA v2's official JSON, and
as a CSV with one answer. Each way is a process of its own. Memory is the peak of the resident set, less what the
process has with its libraries imported. `json.loads` is Python's own reading of the same two files, for comparison.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from common import Table, main

QUESTIONS, IMAGES = 443_757, 82_783
COLUMNS = ["what", "files MB", "rows", "seconds", "peak MB"]
SUBSET = "train2014"


def image_of(question: int) -> int:
    return 9 + 7 * (question * IMAGES // QUESTIONS)


def answers_of(question: int) -> list[str]:
    words = ["yes", "no", "a red bus", str(question % 20), "playing tennis in the park", "blue and white"]
    return [words[(question + (i % 3 == 0) * i) % len(words)] for i in range(10)]


def entries(kind: str, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        entry: dict[str, Any] = {"image_id": image_of(number), "question_id": 458752000 + number}
        if kind == "questions":
            yield {**entry, "question": f"What is the number {number} doing in this picture of a street?"}
            continue
        given = answers_of(number)
        records = [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(given, start=1)]
        kinds = {"question_type": "what is the", "answer_type": "other"}
        yield {**entry, **kinds, "multiple_choice_answer": given[1], "answers": records}


def write_json(file: IO[str], kind: str, count: int) -> None:
    """As the official files are: on one line."""
    file.write(json.dumps({"info": {}, "data_type": "mscoco"})[:-1] + f', "{kind}": [')
    for number, entry in enumerate(entries(kind, count)):
        file.write((", " if number else "") + json.dumps(entry))
    file.write("]}")


def official(folder: Path) -> Path:
    """VQA v2, of which the validation part is small."""
    for subset, count in ((SUBSET, QUESTIONS), ("val2014", 100)):
        (folder / subset).mkdir(parents=True)
        for image in {image_of(number) for number in range(count)}:
            (folder / subset / f"COCO_{subset}_{image:012d}.jpg").write_bytes(b"x")
        for kind, name in (("questions", "v2_OpenEnded_mscoco"), ("annotations", "v2_mscoco")):
            with (folder / f"{name}_{subset}_{kind}.json").open("w") as file:
                write_json(file, kind, count)
    return folder


def table(folder: Path, pictures: Path) -> Path:
    """The same questions as a CSV, with the same pictures."""
    folder.mkdir()
    (folder / SUBSET).symlink_to(pictures / SUBSET)
    for name, count in (("train", QUESTIONS), ("val", 100)):
        with (folder / f"{name}.csv").open("w") as file:
            file.write("image,question,answer,image_id\n")
            for number, entry in enumerate(entries("questions", count)):
                image = f"{SUBSET}/COCO_{SUBSET}_{entry['image_id']:012d}.jpg"
                file.write(f'{image},"{entry["question"]}",{answers_of(number)[1]},{entry["image_id"]}\n')
    return folder


def raw_rows(folder: str, pictures: str) -> int:
    from fedumm.data import DataRequest
    from fedumm.data.folder import load_folder

    return len(load_folder(Path(folder), DataRequest(image_roots=(pictures,))).train)


def run_rows(folder: str, pictures: str) -> int:
    from fedumm.data import DataRequest, load_data

    columns = ("image", "question", "multiple_choice_answer", "answers")
    return len(load_data(folder, DataRequest(columns=columns, image_roots=(pictures,))).train)


def by_json(folder: str, _: str) -> int:
    files = sorted(Path(folder).glob(f"*{SUBSET}*.json"))
    return len([json.loads(file.read_text()) for file in files]) and QUESTIONS


WAYS: dict[str, tuple[str, Callable[[str, str], int]]] = {
    "official JSON, its rows": ("vqa_v2", raw_rows),
    "official JSON, as a run has them": ("vqa_v2", run_rows),
    "official JSON, `json.loads`": ("vqa_v2", by_json),
    "CSV, its rows": ("table", raw_rows),
    "CSV, as a run has them": ("table", run_rows),
}


def child(way: str, folder: str, pictures: str) -> None:
    """Print rows, seconds and bytes of memory of one way."""
    import datasets
    import pyarrow.compute  # noqa: F401

    import fedumm.data.source  # noqa: F401

    datasets.disable_progress_bars()
    before, start = _peak(), time.monotonic()
    rows = WAYS[way][1](folder, pictures)
    print(json.dumps([rows, time.monotonic() - start, _peak() - before]))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run() -> list[Table]:
    lines = []
    with tempfile.TemporaryDirectory() as name:
        pictures = official(Path(name, "vqa_v2"))
        folders = {"vqa_v2": pictures, "table": table(Path(name, "table"), pictures)}
        for way, (kind, _) in WAYS.items():
            command = [sys.executable, __file__, "--child", way, str(folders[kind]), str(pictures)]
            found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            ending = "json" if kind == "vqa_v2" else "csv"
            size = sum(file.stat().st_size for file in folders[kind].glob(f"*.{ending}"))
            lines.append([way, f"{size / 1e6:.0f}", f"{found[0]:,}", f"{found[1]:.1f}", f"{found[2] / 1e6:.0f}"])
    return [Table("Loading 443,757 questions", COLUMNS, lines)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main("loading", __doc__, run)
