"""``shapes`` as a data set: scenes drawn on the fly, four questions each, from a seed of their own."""

from __future__ import annotations

import io
from typing import Any

from fedumm.data import shapes
from fedumm.data.source import DataRequest, DataSplits

TRAIN_SCENES, EVAL_SCENES = 4000, 500
QUESTIONS = 4
TRAIN_SEED, EVAL_SEED = 2, 3
"""Not the seeds of the pretraining (0 and 1): no scene of it comes up here."""


def load(request: DataRequest) -> DataSplits:
    """Up to 16,000 training and 2,000 evaluation questions; only the scenes asked for are drawn."""
    return DataSplits(
        _rows(TRAIN_SEED, _scenes(request.max_train_samples, TRAIN_SCENES)),
        _rows(EVAL_SEED, _scenes(request.max_eval_samples, EVAL_SCENES)),
    )


def _scenes(limit: int, most: int) -> int:
    return most if limit == -1 else min(most, -(-limit // QUESTIONS))


def _rows(seed: int, scenes: int) -> Any:
    from datasets import Dataset, Features, Image, Value

    columns: dict[str, list[Any]] = {name: [] for name in ("image", "question", "answer", "answer_type", "image_id")}
    for index in range(scenes):
        scene, rng = shapes.scene_at(index, seed)
        buffer = io.BytesIO()
        shapes.draw(scene).save(buffer, "PNG")
        for question in (shapes.ask(rng, scene) for _ in range(QUESTIONS)):
            values = ({"bytes": buffer.getvalue(), "path": None}, question.text, question.answer, question.answer_type)
            for column, value in zip(columns.values(), (*values, f"{seed}-{index}"), strict=True):
                column.append(value)
    features = Features({"image": Image(), **{name: Value("string") for name in columns if name != "image"}})
    return Dataset.from_dict(columns, features=features)
