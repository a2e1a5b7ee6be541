"""``shapes`` as a data set: scenes drawn on the fly, each with a caption and two questions."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from typing import Any

from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.shapes.compose import caption, composed_at
from fedumm.data.shapes.questions import ask
from fedumm.data.shapes.scene import draw
from fedumm.tasks import I2T, T2I, VQA

TRAIN_SCENES, EVAL_SCENES = 2000, 300
QUESTIONS = 2
TRAIN_SEED, EVAL_SEED = 2, 3
"""Not the seeds of the pretraining (0 and 1): no scene of it comes up here."""


def load(request: DataRequest) -> DataSplits:
    """Up to 4,000 training and 600 evaluation questions, and half as many captions.

    Only the scenes asked for are drawn. The combinations that the evaluation captions name come up in
    no training scene (see :mod:`fedumm.data.shapes.compose`).
    """
    return DataSplits(
        scene_rows(TRAIN_SEED, _scenes(request.max_train_samples, TRAIN_SCENES, request.mix), "new", request.mix),
        scene_rows(EVAL_SEED, _scenes(request.max_eval_samples, EVAL_SCENES, request.mix), "test", request.mix),
    )


def _scenes(limit: int, most: int, tasks: Collection[str]) -> int:
    per_scene = QUESTIONS if set(tasks) == {VQA.name} else 1
    return most if limit == -1 else min(most, -(-limit // per_scene))


def scene_rows(seed: int, scenes: int, part: str, tasks: Collection[str]) -> Any:
    """Rows for questions (with no ``caption``), then for captions (with no ``question``), as ``tasks`` ask."""
    from datasets import Dataset, Features, Image, Value

    names = ("image", "question", "answer", "answer_type", "question_type", "caption", "geneval", "image_id")
    asked: list[tuple[Any, ...]] = []
    captions: list[tuple[Any, ...]] = []
    for index in range(scenes):
        composed, rng = composed_at(index, seed, part)
        buffer = io.BytesIO()
        draw(composed.scene).save(buffer, "PNG")
        image, image_id = {"bytes": buffer.getvalue(), "path": None}, f"{seed}-{index}"
        metadata = caption(composed, colored=bool(rng.integers(2)))
        questions = ask(rng, composed, QUESTIONS)
        asked += [(image, q.text, q.answer, q.answer_type, q.category, None, None, image_id) for q in questions]
        about = (composed.category, metadata["prompt"], json.dumps(metadata))
        captions.append((image, None, None, None, *about, image_id))
    rows = [*(asked if VQA.name in tasks else ()), *(captions if {T2I.name, I2T.name} & set(tasks) else ())]
    features = Features({"image": Image(), **{name: Value("string") for name in names[1:]}})
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return Dataset.from_dict(dict(zip(names, map(list, columns), strict=True)), features=features)
