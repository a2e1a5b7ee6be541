#!/usr/bin/env python
"""What unification costs: questions only, captions only, both, and both with clients that have one of the two.

    python benchmarks/unified.py

Federates the shipped `tiny` of `januspro` on `--dataset shapes` (4 clients, Dirichlet 0.5, 3 rounds, 3 seeds), and
measures both abilities of the last adapter on the common test set, also the one that was not trained: VQA accuracy on
600 questions, cross-entropy of 300 images' tokens, and GenEval on 600 images of its captions, 100 of each category,
judged by the exact detector. The captions name combinations of shapes, colours, numbers and places that no training
scene shows. Every run sees as many samples as its clients have rows. Also draws `docs/unified.png`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from PIL import Image, ImageDraw

from common import ROOT, Table, main, spread
from fedumm.adapters import AdapterState
from fedumm.adapters.folder import read_folder
from fedumm.config import FederateConfig
from fedumm.federation.runners.in_process import run_in_process
from fedumm.formatting import CATEGORIES
from fedumm.metrics.evaluation import Scores
from fedumm.report.run_folder import RunFolder, create
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.data import load_splits
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.generation_eval import drawing_test
from fedumm.training.threads import cores

SEEDS = (1, 2, 3)
SETTINGS: dict[str, dict[str, Any]] = {
    "untrained": {},
    "questions only": {"task": "vqa"},
    "captions only": {"task": "t2i"},
    "unified": {},
    "unified, task:1": {"partition": "task:1"},
}
CAPTIONS = (
    "a purple circle", "an orange triangle", "three crosses", "four squares", "a circle and a square",
    "a cross left of a triangle", "a square above a circle", "a green cross and a gray circle",
)  # fmt: skip
CONFIG = FederateConfig(
    model_backend="januspro", model_name_or_path="tiny", dataset="shapes", task="unified", num_clients=4,
    num_rounds=3, dirichlet_alpha=0.5, geneval_prompts=0, threads=1, in_process=True,
)  # fmt: skip
FIGURE = ROOT / "docs" / "unified.png"
_TILE, _SCALE = 32, 3


@dataclass(frozen=True)
class Outcome:
    """Both abilities of an adapter, and what it draws of the figure's captions."""

    scores: Scores
    images: list[Image.Image]


def judge(config: FederateConfig, adapter: AdapterState | None) -> Outcome:
    """Score ``adapter`` (None: the fresh one, which changes nothing) on the whole test set."""
    config = replace(config, task="unified", partition="", geneval_prompts=600)
    backbone: Backbone = load_backbone(config, torch.device("cpu"))
    if adapter is not None:
        backbone.put(adapter)
    rows = load_splits(config).eval
    data = backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
    cache_features(backbone, [data], config, lambda *_: None)
    drawing = drawing_test(backbone, rows, config)
    assert drawing is not None
    backend: Any = backbone.backend
    images = backend.draw(
        backbone.model, backbone.processor, CAPTIONS, [config.seed + i for i in range(len(CAPTIONS))], backbone.device
    )
    return Outcome(evaluate(backbone, data, config) | {"geneval": drawing.score(backbone, lambda *_: None)}, images)


def one_run(name: str, seed: int) -> tuple[str, int, Outcome]:
    """Federate and judge."""
    torch.set_num_threads(1)
    config = replace(CONFIG, seed=seed, **SETTINGS[name])
    if name == "untrained":
        return name, seed, judge(config, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        create(path, config, "benchmarks/unified.py").release()
        run_in_process(config, RunFolder(path, config), lambda *_: None)
        adapter, _ = read_folder(path / "adapter" / "last")
        # Low-rank factors fit the model however they were trained.
        return name, seed, judge(config, adapter)


def save_figure(outcomes: Mapping[str, Outcome]) -> None:
    """What each adapter of the first seed draws, a row each."""
    side = _TILE * _SCALE
    left, top = 120, 46
    sheet = Image.new("RGB", (left + side * len(CAPTIONS), top + side * len(outcomes)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, caption in enumerate(CAPTIONS):
        pen.text((left + column * side + 4, 2), "\n".join(wrap(caption, 14)), fill="black", font_size=11)
    for row, (name, outcome) in enumerate(outcomes.items()):
        pen.text((4, top + row * side + side // 2 - 6), name, fill="black", font_size=12)
        for column, image in enumerate(outcome.images):
            big = image.resize((side - 4, side - 4), Image.Resampling.NEAREST)
            sheet.paste(big, (left + column * side, top + row * side))
    sheet.save(FIGURE, optimize=True)


def run() -> list[Table]:
    jobs = [(name, seed) for seed in SEEDS for name in SETTINGS]
    outcomes: dict[str, dict[int, Outcome]] = {name: {} for name in SETTINGS}
    with ProcessPoolExecutor(max_workers=cores()) as pool:
        for name, seed, outcome in pool.map(one_run, *zip(*jobs, strict=True)):
            outcomes[name][seed] = outcome
            values = {
                task: round(own.score if own.loss is None else own.loss, 4) for task, own in outcome.scores.items()
            }
            print(name, seed, values, flush=True)
    save_figure({name: own[SEEDS[0]] for name, own in outcomes.items()})
    both, drawn, asked = [], [], []
    kinds = sorted(outcomes["untrained"][SEEDS[0]].scores["vqa"].parts)
    for name, own in outcomes.items():
        scores = [outcome.scores for outcome in own.values()]
        losses = [s["t2i"].loss for s in scores]
        both.append(
            [
                name,
                spread([s["vqa"].score for s in scores]),
                spread([loss for loss in losses if loss is not None], 1, 3),
                spread([s["geneval"].score for s in scores]),
            ]
        )
        drawn.append([name, *(spread([s["geneval"].parts[tag][0] for s in scores]) for tag in CATEGORIES)])
        asked.append([name, *(spread([s["vqa"].parts[kind][0] for s in scores]) for kind in kinds)])
    return [
        Table(
            f"Both abilities, mean ± standard deviation over {len(SEEDS)} seeds",
            ["trained on", "accuracy %", "image tokens, nats", "GenEval %"],
            both,
        ),
        Table("GenEval by category, %", ["trained on", *CATEGORIES.values()], drawn),
        Table("Accuracy by type of answer, %", ["trained on", *kinds], asked),
    ]


if __name__ == "__main__":
    main("unified", __doc__, run)
