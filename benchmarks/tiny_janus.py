#!/usr/bin/env python
"""What the shipped `tiny` of `januspro` can do before any fine-tuning.

    python benchmarks/tiny_janus.py

On scenes of which it has seen none: of the combinations of shapes, colours, numbers and places that its pretraining
showed (`known`), of these and the ones that the training scenes of `--dataset shapes` add (`new`), and with captions of
combinations kept for testing (`test`). Drawing: 100 images of each of GenEval's categories, judged by the exact
detector; a share of 50 % of 100 images has a standard error of 5 points. Answering: two questions on each of 300
scenes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from common import Table, main
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, DataSplits
from fedumm.data.places import Places
from fedumm.data.prepare import prepare
from fedumm.data.shapes.compose import CATEGORIES as TAGS
from fedumm.data.shapes.compose import PARTS, caption, composed_at
from fedumm.data.shapes.source import EVAL_SCENES, EVAL_SEED, scene_rows
from fedumm.formatting import CATEGORIES
from fedumm.generation import score_images
from fedumm.metrics.geneval import summarise
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.evaluation import evaluate

IMAGES = 100
CONFIG = CentralConfig(
    model_backend="januspro", model_name_or_path="tiny", dataset="shapes", task="vqa", feature_cache="off"
)
_BATCH = 60


def asked(backbone: Backbone, part: str) -> list[str]:
    """Accuracy on questions about scenes of ``part``, in all and by type of answer."""
    raw = scene_rows(EVAL_SEED, EVAL_SCENES, part, ("vqa",))
    request = DataRequest(columns=tuple(backbone.backend.keep_columns()), mix=CONFIG.mix)
    rows = prepare(DataSplits(raw, raw), request, Places(), "shapes").eval
    data = backbone.backend.build_dataset(rows, backbone.processor, CONFIG.max_q_len, CONFIG.max_a_len)
    score = evaluate(backbone, data, CONFIG)["vqa"]
    print(part, score, flush=True)
    return [f"{100 * share:.1f}" for share in (score.score, *(share for share, _ in score.parts.values()))]


def drawn(backbone: Backbone, part: str) -> list[str]:
    """GenEval on captions of scenes of ``part``, in all and by category."""
    prompts: list[dict[str, Any]] = []
    for index in range(IMAGES * len(TAGS)):
        composed, rng = composed_at(index, EVAL_SEED, part)
        prompts.append(caption(composed, bool(rng.integers(2))))
    right: list[bool] = []
    for start in range(0, len(prompts), _BATCH):
        right += _right(backbone, prompts[start : start + _BATCH], start)
    result = summarise((prompt["tag"], own) for prompt, own in zip(prompts, right, strict=True))
    print(part, json.dumps(result.categories), flush=True)
    return [f"{100 * share:.0f}" for share in (result.overall, *(result.categories[tag][0] for tag in TAGS))]


def _right(backbone: Backbone, prompts: Sequence[dict[str, Any]], seed: int) -> list[bool]:
    from fedumm.detectors.exact import ExactDetector

    backend: Any = backbone.backend
    texts, seeds = [prompt["prompt"] for prompt in prompts], range(seed, seed + len(prompts))
    images = backend.draw(backbone.model, backbone.processor, texts, seeds, backbone.device)
    return [verdict.correct for verdict in score_images(images, prompts, ExactDetector())]


def run() -> list[Table]:
    torch.set_num_threads(2)
    backbone = load_backbone(CONFIG, torch.device("cpu"))
    columns = ["scenes", "all", *CATEGORIES.values()]
    answers = [[part, *asked(backbone, part)] for part in PARTS]
    images = [[part, *drawn(backbone, part)] for part in PARTS]
    return [
        Table("Images right, %", columns, images),
        Table("Answers right, %", ["scenes", "all", "colour", "number", "shape", "yes/no"], answers),
    ]


if __name__ == "__main__":
    main("tiny_janus", __doc__, run)
