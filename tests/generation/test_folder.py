"""Sets of drawn images: the layout, what is drawn again, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedumm.data.shapes.compose import CATEGORIES, caption, compose, composed_at, named_combinations, part_of
from fedumm.data.shapes.scene import draw
from fedumm.detectors.exact import ExactDetector
from fedumm.errors import FedummError
from fedumm.generation.folder import DrawnFolder, Sample
from fedumm.generation.grid import grid
from fedumm.generation.prompts import shapes_prompts

PROMPTS = [caption(composed_at(i, 5, "new")[0]) for i in range(6)]
SETTINGS = {"model": "a", "seed": 3}


class Painter:
    """Draws a scene of the caption where it can, and remembers what it was asked for."""

    def __init__(self, wrong: Sequence[str] = ()) -> None:
        self.wrong = wrong
        self.asked: list[tuple[str, int]] = []

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> Iterator[Image.Image]:
        for text, seed in zip(captions, seeds, strict=True):
            self.asked.append((text, seed))
            rng, prompt = np.random.default_rng(seed), next(p for p in PROMPTS if p["prompt"] == text)
            while True:
                composed = compose(rng, prompt["tag"], "new")
                if caption(composed) == prompt:
                    break
            yield Image.new("RGB", (64, 64), "white") if text in self.wrong else draw(composed.scene)


def quiet(*_: object) -> None:
    pass


def test_the_layout_is_that_of_geneval(tmp_path: Path) -> None:
    folder = DrawnFolder(tmp_path / "out", PROMPTS, 2, SETTINGS)
    assert folder.draw(Painter(), 3, quiet) == 12
    for number, prompt in enumerate(PROMPTS):
        own = tmp_path / "out" / f"{number:05}"
        assert json.loads((own / "metadata.jsonl").read_text()) == prompt
        assert sorted(p.name for p in (own / "samples").iterdir()) == ["0000.png", "0001.png"]


def test_verdicts_and_their_summary_are_written(tmp_path: Path) -> None:
    wrong = PROMPTS[2]
    folder = DrawnFolder(tmp_path, PROMPTS, 2, SETTINGS)
    folder.draw(Painter([wrong["prompt"]]), 3, quiet)
    result = folder.judge(ExactDetector(), quiet)
    assert {tag: share for tag, (share, _) in result.categories.items()} == {
        p["tag"]: float(p is not wrong) for p in PROMPTS
    }
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert {line["prompt"] for line in lines if not line["correct"]} == {wrong["prompt"]}
    assert all(line["reason"] for line in lines if not line["correct"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["overall"] == pytest.approx(5 / 6)
    assert summary["categories"][wrong["tag"]] == {"correct": 0.0, "images": 2}


def test_an_image_has_its_own_seed(tmp_path: Path) -> None:
    painter = Painter()
    DrawnFolder(tmp_path, PROMPTS, 3, SETTINGS).draw(painter, 3, quiet)
    seeds = [seed for _, seed in painter.asked]
    assert len(set(seeds)) == len(seeds) == 18
    assert seeds[1] == Sample(0, 1).seed(3) != Sample(0, 1).seed(4)


def test_what_was_drawn_stays_and_what_is_missing_or_broken_is_drawn(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Tired(Painter):
        def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> Iterator[Image.Image]:
            for number, image in enumerate(super().__call__(captions, seeds)):
                if number == 8:
                    raise Stop
                yield image

    with pytest.raises(Stop):
        DrawnFolder(tmp_path, PROMPTS, 2, SETTINGS).draw(Tired(), 3, quiet)
    kept = tmp_path / "00000" / "samples" / "0000.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "00001" / "samples" / "0000.png").write_bytes(b"\x89PNG broken")
    again = DrawnFolder(tmp_path, PROMPTS, 2, SETTINGS)
    painter = Painter()
    assert again.draw(painter, 3, quiet) == 5
    assert painter.asked[0] == (PROMPTS[1]["prompt"], Sample(1, 0).seed(3))
    assert kept.stat().st_mtime_ns == before
    assert again.draw(painter, 3, quiet) == 0


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        (PROMPTS, {**SETTINGS, "seed": 4}, r"drawn otherwise \(seed\)"),
        (PROMPTS[:5], SETTINGS, r"drawn otherwise \(prompts\)"),
        (PROMPTS[::-1], SETTINGS, "images of other prompts"),
    ],
)
def test_images_of_something_else_are_refused(tmp_path: Path, prompts: Any, settings: Any, message: str) -> None:
    DrawnFolder(tmp_path, PROMPTS, 2, SETTINGS)
    with pytest.raises(FedummError, match=message):
        DrawnFolder(tmp_path, prompts, 2, settings)


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FedummError, match="holds other files"):
        DrawnFolder(tmp_path, PROMPTS, 2, SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(FedummError, match="can't be written to"):
        DrawnFolder(tmp_path / "thesis.txt" / "out", PROMPTS, 2, SETTINGS)


def test_own_prompts_are_distinct_balanced_and_new() -> None:
    prompts = shapes_prompts(60)
    assert len({p["prompt"] for p in prompts}) == len(prompts) == 60
    counts = Counter(p["tag"] for p in prompts)
    assert set(counts) == set(CATEGORIES)
    assert counts["single_object"] == 4, "there are no more"
    for prompt in prompts:
        if prompt["tag"] != "single_object":
            assert "test" in {part_of(kind) for kind in named_combinations(prompt)}
    assert len(shapes_prompts(3)) == 3


def test_a_grid_has_every_image_in_its_place() -> None:
    images = [Image.new("RGB", (10, 10), (i, 0, 0)) for i in range(5)]
    sheet = grid(images, 2)
    assert sheet.size == (24, 38)
    assert [sheet.getpixel((14 * (i % 2), 14 * (i // 2)))[0] for i in range(5)] == list(range(5))  # type: ignore[index]
    assert sheet.getpixel((20, 34)) == (255, 255, 255)
    assert grid(images[:1]) is images[0]
    assert grid(images[:4]).size == (24, 24)
