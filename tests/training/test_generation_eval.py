"""Captions drawn while training: the same ones on any number of hosts, and only where there is something to draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.centralized import train_centrally
from fedumm.training.generation_eval import drawing_test

CPU = torch.device("cpu")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")


def config(**options: Any) -> CentralConfig:
    return CentralConfig(
        **{
            "model_backend": "januspro",
            "model_name_or_path": "tiny",
            "task": "unified",
            "geneval_prompts": 9,
            **options,
        }
    )


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(config(), CPU)


@pytest.fixture(scope="module")
def rows() -> Any:
    mix = {"vqa": 1, "t2i": 1}
    return load_data("shapes", DataRequest(columns=COLUMNS, mix=mix, max_train_samples=2, max_eval_samples=120)).eval


def test_hosts_share_the_images_of_all_categories(backbone: Backbone, rows: Any) -> None:
    whole = drawing_test(backbone, rows, config())
    assert whole is not None
    texts = [prompt["prompt"] for prompt in whole.prompts]
    assert set(texts) <= set(rows["caption"])
    assert sorted(Counter(prompt["tag"] for prompt in whole.prompts).values()) == [1, 1, 1, 2, 2, 2]
    assert len(set(whole.seeds)) == 9
    many = drawing_test(backbone, rows, config(geneval_prompts=60))
    assert many is not None
    assert set(Counter(prompt["tag"] for prompt in many.prompts).values()) == {10}
    own = Counter(prompt["prompt"] for prompt in many.prompts if prompt["tag"] == "single_object")
    assert max(own.values()) - min(own.values()) <= 1, "captions take turns"
    parts = [drawing_test(backbone, rows, config(), first, 4) for first in range(4)]
    assert sorted(
        (p["prompt"], s) for own in parts if own for p, s in zip(own.prompts, own.seeds, strict=True)
    ) == sorted(zip(texts, whole.seeds, strict=True))
    assert drawing_test(backbone, rows, config(geneval_prompts=1), 3, 4) is None, "fewer captions than hosts"


@pytest.mark.parametrize(("given", "size"), [(0, 0), (3, 3), (64, 0)])
def test_a_small_evaluation_batch_holds_for_drawing_too(backbone: Backbone, rows: Any, given: int, size: int) -> None:
    """A large one is meant for scoring: images to draw keep to what fits."""
    test = drawing_test(backbone, rows, config(eval_batch_size=given))
    assert test is not None
    assert test.size == size


def test_scores_are_those_of_the_categories(backbone: Backbone, rows: Any) -> None:
    test = drawing_test(backbone, rows, config())
    assert test is not None
    scores = test.score(backbone, lambda *_: None)
    assert scores.count == 9
    assert sum(count for _, count in scores.parts.values()) == 9
    assert scores.score == pytest.approx(sum(share for share, _ in scores.parts.values()) / len(scores.parts))


def test_images_are_kept_with_their_captions_and_verdicts(backbone: Backbone, rows: Any, tmp_path: Path) -> None:
    whole = drawing_test(backbone, rows, config())
    part = drawing_test(backbone, rows, config(), 1, 4)
    assert whole is not None
    assert part is not None
    scores = whole.score(backbone, lambda *_: None, tmp_path / "whole")
    part.score(backbone, lambda *_: None, tmp_path / "part")
    files = sorted((tmp_path / "whole").iterdir())
    assert [file.name[:4] for file in files] == [f"{number:04}" for number in range(9)]
    right = sum(file.name.endswith("-right.png") for file in files)
    assert right == round(sum(share * count for share, count in scores.parts.values()))
    for file, prompt in zip(files, whole.prompts, strict=True):
        with Image.open(file) as image:
            assert image.text["Description"] == prompt["prompt"]  # type: ignore[attr-defined]
    same = {file.name: file.read_bytes() for file in files}
    assert {file.name: file.read_bytes() for file in (tmp_path / "part").iterdir()}.items() <= same.items()


def test_nothing_is_drawn_where_options_or_data_leave_it_out(backbone: Backbone, rows: Any) -> None:
    assert drawing_test(backbone, rows, config(geneval_prompts=0)) is None
    assert drawing_test(backbone, rows, config(task="vqa")) is None
    assert drawing_test(backbone, rows.remove_columns("geneval"), config()) is None
    answering = load_backbone(CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny"), CPU)
    assert drawing_test(answering, rows, config()) is None


@pytest.mark.parametrize(
    ("every", "drawn"), [(0, [True, False, True]), pytest.param(1, [True, True, True], marks=pytest.mark.slow)]
)
def test_the_baseline_reports_both_tasks_and_draws_as_often_as_asked(every: int, drawn: list[bool]) -> None:
    said: list[str] = []
    options = config(dataset="shapes", max_train_samples=36, max_eval_samples=18, num_epochs=2, geneval_every=every)
    result = train_centrally(options, said.append, lambda *_: None, lambda *_: None)
    assert set(result.before) == set(result.after) == {"vqa", "t2i", "geneval"}
    scored = [line for line in said if "acc=" in line]
    assert ["geneval=" in line for line in scored] == drawn
    assert all("image=" in line and "nats" in line for line in scored)
    assert result.after["t2i"].loss != result.before["t2i"].loss


def test_a_training_that_stops_early_draws_after_its_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedumm.training.centralized.mean_score", lambda scores: 0.5)
    options = config(dataset="shapes", max_train_samples=12, max_eval_samples=12, num_epochs=5, patience=1)
    result = train_centrally(options, lambda line: None, lambda *_: None, lambda *_: None)
    assert result.epochs == 1
    assert set(result.after) == {"vqa", "t2i", "geneval"}
