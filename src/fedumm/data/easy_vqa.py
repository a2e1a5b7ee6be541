"""``easy_vqa``: the PyPI package of that name (Zhou, 2019): one flat-coloured shape an image.

5,000 images of 64 x 64 pixels, 38,575 training and 9,673 test questions, 13 answers. The
images come with the package; nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedumm.data.source import DataRequest, DataSplits

_SHAPES = {"circle", "rectangle", "triangle"}


def load(request: DataRequest) -> DataSplits:
    """Training questions, and test questions to evaluate on."""
    import easy_vqa

    return DataSplits(
        _rows("train", easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths(), request.max_train_samples),
        _rows("test", easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths(), request.max_eval_samples),
    )


def answer_type(answer: str) -> str:
    """``yes/no``, ``shape`` or ``color``."""
    if answer in {"yes", "no"}:
        return "yes/no"
    return "shape" if answer in _SHAPES else "color"


def _rows(split: str, questions: tuple[list[str], list[str], list[int]], paths: dict[int, str], limit: int) -> Any:
    from datasets import Dataset, Features, Image, Value

    end = None if limit == -1 else limit
    texts, answers, images = questions[0][:end], questions[1][:end], questions[2][:end]
    text = Value("string")
    # The files are small: with their bytes in the table the rows do not depend on where they lie.
    files = {i: {"bytes": Path(paths[i]).read_bytes(), "path": None} for i in sorted(set(images))}
    columns = {
        "image": [files[i] for i in images],
        "question": texts,
        "multiple_choice_answer": answers,
        "answer_type": [answer_type(a) for a in answers],
        "question_type": [" ".join(t.split()[:2]) for t in texts],
        "image_id": [f"{split}-{i}" for i in images],
        "question_id": [f"{split}-{n}" for n in range(len(texts))],
    }
    features = Features({"image": Image(), **{name: text for name in columns if name != "image"}})
    return Dataset.from_dict(columns, features=features)
