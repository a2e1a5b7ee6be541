"""An adapter as an object answers, draws and is scored as the commands do, from any folder, with one model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

import fedumm
from fedumm.adapters.folder import read_folder, save_folder
from fedumm.adapters.origin import Origin
from fedumm.cli.main import main
from fedumm.config import RunConfig
from fedumm.data.source import available_sources
from fedumm.training import backbone as loading

QUESTION = "what color is the shape?"


def saved(folder: Path, **options: Any) -> Path:
    """An adapter that changes what the small model says."""
    config = RunConfig(model_name_or_path="tiny", lora_r=2, **options)
    backbone = loading.load_backbone(config, torch.device("cpu"))
    state = {name: t + 0.05 for name, t in backbone.adapter().items()}
    save_folder(folder, state, backbone.adapter_config(), "card", Origin.of(config))
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("blip") / "adapter", model_backend="blip_vqa")


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("shape.png")
    return tmp_path / "shape.png"


def test_it_answers_as_the_command_does_and_loads_its_model_once(
    blip: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(blip, tmp_path / "copy")
    assert main(["ask", "shape.png", QUESTION, "--adapter", "copy", "--gpu", "cpu"]) == 0
    said = capsys.readouterr().out.strip()
    loads: list[Any] = []
    load = loading.load_backbone
    monkeypatch.setattr(loading, "load_backbone", lambda *args: loads.append(args) or load(*args))
    adapter = fedumm.Adapter(copy, gpu="cpu")
    assert not loads, "no model before it is needed"
    assert adapter.answer(picture, QUESTION) == said
    assert adapter.answer(str(picture), QUESTION) == said
    with Image.open(picture) as opened:
        assert adapter.answer(opened, QUESTION) == said
    assert adapter.answer([picture], QUESTION) == said
    assert len(loads) == 1
    assert os.fspath(adapter) == str(copy)
    assert read_folder(adapter)[0].keys() == read_folder(blip)[0].keys()


def test_it_is_scored_on_objects_and_names(blip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    adapter = fedumm.Adapter(blip, gpu="cpu")
    few = {"max_train_samples": 4, "max_eval_samples": 12}
    found = adapter.evaluate(dataset="easy_vqa", **few)
    again = fedumm.evaluate(adapter=blip, gpu="cpu", dataset="easy_vqa", out="scored", **few)
    assert found.score == again.score == pytest.approx(found.predictions["score"].mean())
    assert found.predictions.equals(again.predictions)
    assert len(repr(found)) < 500, "what a notebook shows of it"
    assert found.interval is not None
    assert found.interval[0] <= found.score <= found.interval[1]
    by_type = found.predictions.groupby("answer_type")["score"].mean()
    assert dict(found.by_answer_type.loc["vqa"]["score"]) == pytest.approx(dict(by_type))
    assert list(found.by_question_type.columns) == list(found.by_answer_type.columns)
    assert Path("scored/predictions.parquet").is_file()
    letters = adapter.evaluate(dataset="easy_vqa", answer_metric=lambda said, right: 1 / (1 + len(said)), **few)
    assert list(letters.predictions["score"]) == [1 / (1 + len(one)) for one in found.predictions["answer"]]
    red = Image.new("RGB", (64, 64), "red")
    rows = Dataset.from_dict({"image": [red] * 10, "question": [QUESTION] * 10, "answer": ["red"] * 10})
    rows = rows.add_column("image_id", list(range(10)))
    mine = adapter.evaluate(dataset=rows, eval_fraction=0.3)
    assert list(mine.predictions["answer"]) == [adapter.answer(red, QUESTION)] * 3
    assert "python_Dataset" not in available_sources()


def test_it_draws_the_same_for_the_same_seed(tmp_path: Path) -> None:
    adapter = fedumm.Adapter(saved(tmp_path / "janus", model_backend="januspro", task="t2i"), gpu="cpu")
    one, same, other = (np.asarray(adapter.draw("a red circle", seed)) for seed in (3, 3, 4))
    assert one.shape[-1] == 3
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    with pytest.raises(fedumm.FedummError, match="caption is empty"):
        adapter.draw(" ")


def test_what_it_can_t_do_is_one_clear_error(blip: Path, picture: Path, tmp_path: Path) -> None:
    adapter = fedumm.Adapter(blip, gpu="cpu")
    (tmp_path / "text.png").write_text("no image")
    for call, said in (
        (lambda: adapter.draw("a red circle"), "can't draw"),
        (lambda: adapter.answer(picture), "Which question"),
        (lambda: adapter.answer([picture, picture], QUESTION), "reads one image"),
        (lambda: adapter.answer([], QUESTION), "no image"),
        (lambda: adapter.answer("nowhere.png", QUESTION), "Image not found"),
        (lambda: adapter.answer(tmp_path / "text.png", QUESTION), "can't be read as an image"),
        (lambda: adapter.evaluate(), "Say which data set"),
        (lambda: adapter.evaluate(dataset="easy_vqa", lr=1), "Unknown option 'lr'"),
        (lambda: adapter.evaluate(dataset="easy_vqa", split="test"), "split= is one of eval, train"),
        (lambda: adapter.evaluate(dataset="easy_vqa", format="vqa"), "out=DIR"),
        (lambda: adapter.evaluate(dataset="easy_vqa", max_eval_samples=0), "--max_eval_samples"),
        (lambda: fedumm.evaluate(adapter=adapter.answer, dataset="easy_vqa"), "adapter= is a folder"),
        (lambda: fedumm.Adapter(tmp_path / "none"), "Adapter folder not found"),
        (lambda: fedumm.Adapter(blip, gpus="0"), "Did you mean 'gpu'"),
    ):
        with pytest.raises(fedumm.FedummError, match=said):
            call()
