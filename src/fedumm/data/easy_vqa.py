"""``easy_vqa``: the PyPI package of that name (Zhou, 2019): one flat-coloured shape an image.

5,000 images of 64 x 64 pixels, 38,575 training and 9,673 test questions, 13 answers. The
images come with the package; nothing is downloaded. Captions ("a blue rectangle") say what the
questions' answers say of an image.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.shapes.compose import article
from fedumm.tasks import GENEVAL, I2T, T2I, VQA

Questions = tuple[list[str], list[str], list[int]]
"""Texts, answers and image numbers, one each."""

_SHAPES = {"circle", "rectangle", "triangle"}


def load(request: DataRequest) -> DataSplits:
    """Training questions, and test questions to evaluate on."""
    import easy_vqa

    train = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    test = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    return DataSplits(
        _rows("train", *train, request, request.max_train_samples),
        _rows("test", *test, request, request.max_eval_samples),
    )


def answer_type(answer: str) -> str:
    """``yes/no``, ``shape`` or ``color``."""
    if answer in {"yes", "no"}:
        return "yes/no"
    return "shape" if answer in _SHAPES else "color"


def captions(questions: Questions) -> dict[int, dict[str, Any]]:
    """Image number to its caption as a prompt of GenEval, for each image whose questions name shape and colour."""
    facts: dict[int, dict[str, str]] = {}
    for text, answer, image in zip(*questions, strict=True):
        kind = answer_type(answer)
        words = text.rstrip("?").split()
        if kind != "yes/no":
            facts.setdefault(image, {})[kind] = answer
            named = _SHAPES & set(words)
            if kind == "color" and named:
                facts[image]["shape"] = named.pop()
        elif (answer == "yes") != bool({"no", "not"} & set(words)):
            # What is there has its shape or its colour: "is there a red shape?".
            before = words[words.index("shape") - 1] if "shape" in words else ""
            shape = _SHAPES & set(words)
            facts.setdefault(image, {}).update({"color": before} if before else {"shape": shape.pop()})
    return {
        image: {
            "tag": "colors",
            "include": [{"class": f["shape"], "count": 1, "color": f["color"]}],
            "prompt": article(f"{f['color']} {f['shape']}"),
        }
        for image, f in sorted(facts.items())
        if len(f) == 2
    }


def _rows(split: str, questions: Questions, paths: dict[int, str], request: DataRequest, limit: int) -> Any:
    from datasets import Dataset, Features, Image, Value, concatenate_datasets

    end = None if limit == -1 else limit
    texts, answers, images = questions[0][:end], questions[1][:end], questions[2][:end]
    text = Value("string")
    if VQA.name not in request.mix:
        texts, answers, images = [], [], []
    prompts = dict(islice(captions(questions).items(), end)) if {T2I.name, I2T.name} & set(request.mix) else {}
    # The files are small: with their bytes in the table the rows do not depend on where they lie.
    files = {i: {"bytes": Path(paths[i]).read_bytes(), "path": None} for i in sorted({*images, *prompts})}
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
    asked = Dataset.from_dict(columns, features=features)
    if not prompts:
        return asked
    columns = {
        "image": [files[i] for i in prompts],
        "caption": [prompt["prompt"] for prompt in prompts.values()],
        GENEVAL.column: [json.dumps(prompt) for prompt in prompts.values()],
        "image_id": [f"{split}-{i}" for i in prompts],
    }
    features = Features({"image": Image(), **{name: text for name in columns if name != "image"}})
    return concatenate_datasets([asked, Dataset.from_dict(columns, features=features)])
