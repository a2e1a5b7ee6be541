"""Questions about two pictures, of a folder with a table: checked, federated, asked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from fedumm.cli.main import run
from support.vlm_families import save

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.timeout(240),
]
COLOURS = ("red", "green", "blue")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Is the second picture like the first one? Some rows have one picture."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(12):
        size = (40 + 4 * number, 60)
        Image.new("RGB", size, COLOURS[number % 3]).save(folder / f"{number}.png")
    chance = random.Random(0)
    for split, count in (("train", 24), ("val", 6)):
        lines = ["image,image_2,question,answer"]
        for row in range(count):
            one, other = (chance.randrange(6) + 6 * (split == "val") for _ in range(2))
            second = "" if row % 4 == 0 else f"{other}.png"
            lines.append(f"{one}.png,{second},are they alike?,{'yes' if one % 3 == other % 3 else 'no'}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def command(name: str, *options: str) -> int:
    return run(name, options, "fedumm")


def federated(run: Path, model: Path, data: Path, *more: str) -> bytes:
    options = [
        "--model_backend", "hf_vlm", "--model_name_or_path", str(model), "--dataset", str(data), "--num_clients", "2",
        "--num_rounds", "2", "--threads", "1", "--lora_r", "4", "--in_process", "--name", str(run),
        "--feature_cache_dir", str(run.parent / "features"), *more,
    ]  # fmt: skip
    assert command("federate", *options) == 0
    return (run / "adapter" / "last" / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_pairs_are_learnt_from_and_asked_about(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save("qwen3_vl", tmp_path / "model")
    made = {
        mode: federated(tmp_path / mode, model, pairs, "--feature_cache", mode) for mode in ("off", "memory", "disk")
    }
    assert made["off"] == made["memory"] == made["disk"]
    capsys.readouterr()
    adapter = str(tmp_path / "off" / "adapter" / "last")
    images = [str(pairs / "0.png"), str(pairs / "1.png")]
    assert command("ask", images[0], "are they alike?", "--more_images", images[1], "--adapter", adapter) == 0
    assert capsys.readouterr().out.strip()


def test_rows_with_several_images_are_bad_for_a_backend_that_reads_one(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("check", str(pairs), "--model_backend", "blip_vqa", "--model_name_or_path", "tiny") == 2
    said = capsys.readouterr()
    assert "training row 1 (train.csv, line 3): has 2 images, and this backend reads one" in said.out + said.err


def test_a_check_tells_how_many_images_there_are(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save("qwen3_vl", tmp_path / "model")
    assert command("check", str(pairs), "--model_backend", "hf_vlm", "--model_name_or_path", str(model)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "images a sample" in told
    assert "6 x 1, 18 x 2" in told
