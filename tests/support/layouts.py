"""Small data sets in the layouts of well-known ones, as their sites give them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fedumm.data import DataRequest, DataSplits, load_data, read_image

BLIP = ("image", "question", "multiple_choice_answer", "answers")


def png(red: int = 0, kind: str = "PNG") -> bytes:
    """A picture of 6 x 4 pixels of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (red, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes | str | Any) -> Path:
    """A file; what is neither bytes nor text is written as JSON. Its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pictures(folder: Path, names: Sequence[str], first: int = 0) -> None:
    """PNG files under any name, of which number ``i`` has ``10 * (first + i)`` of red."""
    for number, name in enumerate(names, start=first):
        write(folder / name, png(10 * number))


def jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each row."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """A WebDataset: of each key its files, by their endings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, files in samples.items():
            for ending, content in files.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def load(data: Path | str, cache: Path, **more: Any) -> DataSplits:
    """Rows with questions, through the door that a run takes."""
    request = {"columns": BLIP, "cache_dir": str(cache), **more}
    return load_data(str(data), DataRequest(**request))


def reds(rows: Any) -> list[int]:
    """What is in each row's picture, divided by ten."""
    return [round(read_image(rows, row).getpixel((0, 0))[0] / 10) for row in range(len(rows))]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and size of everything in a folder: equal before and after if nothing was written."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [".", *folders, *files]:
            facts = os.stat(os.path.join(place, name))
            found[os.path.join(place, name)] = (facts.st_mtime_ns, facts.st_size)
    return found


ANSWERS = ["yes"] * 8 + ["no", "yes it is"]


def questions_and_annotations(idents: Sequence[int], images: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two files of VQA v2; the question with id 7 is ``is this 7?``."""
    head = {"info": {"version": "2.0"}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
    asked = [
        {"image_id": image, "question": f"is this {ident}?", "question_id": ident}
        for ident, image in zip(idents, images, strict=True)
    ]
    given = [
        {
            "question_type": "is this",
            "multiple_choice_answer": "yes",
            "answers": [
                {"answer": text, "answer_confidence": "maybe", "answer_id": i} for i, text in enumerate(ANSWERS, 1)
            ],
            "image_id": image,
            "answer_type": "yes/no",
            "question_id": ident,
        }
        for ident, image in zip(idents, images, strict=True)
    ]
    return {**head, "questions": asked}, {**head, "annotations": given}


def vqa_v2(folder: Path, begins: tuple[str, str] = ("v2_OpenEnded_mscoco", "v2_mscoco")) -> Path:
    """VQA v2 with three training and two validation questions, without pictures."""
    for subset, idents, images in (("train2014", [458752000, 7, 8], [9, 9, 25]), ("val2014", [1, 2], [42, 73])):
        asked, given = questions_and_annotations(idents, images)
        write(folder / f"{begins[0]}_{subset}_questions.json", asked)
        write(folder / f"{begins[1]}_{subset}_annotations.json", given)
    return folder


def coco_pictures(folder: Path) -> None:
    """Pictures of :func:`vqa_v2`, by COCO's names."""
    pictures(folder, [f"train2014/COCO_train2014_{image:012d}.jpg" for image in (9, 25)], 1)
    pictures(folder, [f"val2014/COCO_val2014_{image:012d}.jpg" for image in (42, 73)], 3)


Builder = Callable[[Path], Path]
