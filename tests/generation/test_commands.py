"""``fedumm draw`` and ``fedumm geneval`` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedumm.cli.main import main

PAINTER = [
    "--model_backend",
    "painter",
    "--plugin",
    str(Path(__file__).parents[1] / "support" / "painter_backend.py"),
]
GENEVAL = ["geneval", *PAINTER, "--num_prompts", "6", "--num_images", "3", "--batch_size", "4"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAINTER_LOG", str(tmp_path / "drawn.log"))


def pixels(file: str) -> Any:
    return np.asarray(Image.open(file))


def drawn(folder: Path) -> int:
    log = folder / "drawn.log"
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def test_a_caption_becomes_a_picture_and_the_same_one_each_time(tmp_path: Path) -> None:
    for out in ("a.png", "b.png"):
        assert main(["draw", "a red circle", *PAINTER, "--temperature", "0.5", "--out", out]) == 0
    assert pixels("a.png").shape == (64, 64, 3)
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    assert main(["draw", "a red circle", *PAINTER, "--temperature", "0.5", "--out", "c.png", "--seed", "7"]) == 0
    assert not np.array_equal(pixels("a.png"), pixels("c.png"))


def test_several_pictures_are_a_grid_with_a_row_for_each_caption(tmp_path: Path) -> None:
    options = [*PAINTER, "--temperature", "0.5", "--num", "3"]
    assert main(["draw", "a red circle", "two squares", *options]) == 0
    assert pixels("drawing.png").shape == (64 * 2 + 4, 64 * 3 + 8, 3)
    assert main(["draw", "a red circle", *options, "--num", "4", "--out", "square.png"]) == 0
    assert pixels("square.png").shape == (132, 132, 3)
    assert drawn(tmp_path) == 10


@pytest.mark.slow
def test_geneval_counts_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GENEVAL, "--temperature", "0.5", "--out", "good"]) == 0
    output = capsys.readouterr().out
    assert "18 image(s) drawn, 0 were there" in output
    assert "overall (mean of categories)" in output
    assert json.loads(Path("good/summary.json").read_text())["overall"] == 1.0
    assert main([*GENEVAL, "--out", "half"]) == 0
    results = [json.loads(line) for line in Path("half/results.jsonl").read_text().splitlines()]
    assert 0 < sum(r["correct"] for r in results) < len(results) == 18
    for result in results:
        blank = len(np.unique(pixels(f"half/{result['filename']}"))) == 1
        assert result["correct"] == (not blank)


@pytest.mark.slow
def test_geneval_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*GENEVAL, "--temperature", "0.5", "--out", "out"]
    assert main(command) == 0
    first = {path: path.read_bytes() for path in Path("out").rglob("*.png")}
    for path in list(first)[:5]:
        path.unlink()
    assert main(command) == 0
    assert "5 image(s) drawn, 13 were there" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in Path("out").rglob("*.png")} == first
    assert main(command) == 0
    assert drawn(tmp_path) == 23
    assert main([*command, "--seed", "1"]) == 2
    assert "drawn otherwise (seed)" in capsys.readouterr().err


def test_geneval_reads_a_file_of_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = [
        {"tag": "single_object", "prompt": "a circle", "include": [{"class": "circle", "count": 1}]},
        {"tag": "colors", "prompt": "a red circle", "include": [{"class": "circle", "count": 1, "color": "blue"}]},
    ]
    Path("own.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    options = ["--prompts", "own.jsonl", "--temperature", "0.5", "--num_images", "2", "--out", "out"]
    assert main(["geneval", *PAINTER, *options]) == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary == {
        "overall": 0.5,
        "categories": {"single_object": {"correct": 1.0, "images": 2}, "colors": {"correct": 0.0, "images": 2}},
    }
    assert "red instead of blue" in Path("out/results.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("draw", "the following arguments are required: CAPTION"),
        ("draw 'a dog' --out dog.jpg", "--out dog.jpg: the name must end in .png."),
        ("draw 'a dog' --out no/dog.png", "--out no/dog.png: no such folder."),
        ("draw ' '", "A caption is empty: say what to draw."),
        ("draw 'a dog' --num 0", "--num must be positive, not 0."),
        ("draw 'a dog' --temperature 0", "--temperature must be positive, not 0.0."),
        ("draw 'a dog' --guidance -1", "--guidance must be 0 or more, not -1.0."),
        ("draw 'a dog' --batch_size -1", "--batch_size must be 0 or more, not -1."),
        ("draw 'a dog' --seed -1", "--seed must be 0 or more, not -1."),
        ("draw 'a dog'", "Say which model to use: --adapter FOLDER of a run, or --model_backend."),
        ("draw 'a dog' --adapter none", "Adapter folder not found: none"),
        ("draw 'a dog' --model_backend blip_vqa --model_name_or_path tiny", "it has no method"),
        ("geneval", "the following arguments are required: --out"),
        ("geneval --out x --num_images 0", "--num_images must be positive, not 0."),
        ("geneval --out x --prompts none.jsonl", "The prompts in none.jsonl can't be read"),
        ("geneval --out x --model_backend januspro --detector exakt", "Unknown detector 'exakt'."),
        ("geneval --out x --adapter none", "Adapter folder not found: none"),
        ("geneval --out x", "Say which model to use: --adapter FOLDER of a run, or --model_backend."),
    ],
)
def test_a_mistake_is_one_clear_message(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import shlex

    assert main(shlex.split(arguments)) == 2
    errors = capsys.readouterr().err
    assert message in errors.splitlines()[0]
    assert not list(tmp_path.glob("*.png"))
