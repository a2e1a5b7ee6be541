"""The exact detector sees what was drawn: all of it, blurred or noisy, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from fedumm.data import DataRequest, load_data, read_image
from fedumm.data.shapes.compose import CATEGORIES, Composed, caption, composed_at
from fedumm.data.shapes.scene import COLORS, Item, Scene, draw
from fedumm.detectors import EXACT, MASK2FORMER, fitting, get_detector, register_detector
from fedumm.detectors.exact import ExactDetector
from fedumm.errors import FedummError
from fedumm.generation import score_images

SCENES, CLOUDS = 240, 300
DETECTOR = ExactDetector()
Spoil = Callable[[Image.Image, np.random.Generator], Image.Image]


def noisy(sigma: float) -> Spoil:
    def spoil(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        pixels = np.asarray(image) + rng.normal(0, sigma, (image.height, image.width, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return spoil


def blurred(radius: float) -> Spoil:
    return lambda image, _: image.filter(ImageFilter.GaussianBlur(radius))


def shown(prompt: dict[str, Any], composed: Composed) -> bool:
    """Whether the scene itself is what ``prompt`` asks for: from the numbers that it is drawn with."""
    items = composed.scene.items

    def matching(clause: dict[str, Any]) -> list[Item]:
        return [i for i in items if i.shape == clause["class"]]

    for clause in prompt["include"]:
        own = matching(clause)
        if len(own) < clause["count"] or any(i.color != clause.get("color", i.color) for i in own):
            return False
        if "position" in clause:
            relation, target = clause["position"]
            for one in own:
                for other in matching(prompt["include"][target]):
                    dx, dy = one.x - other.x, one.y - other.y
                    across = abs(dx) > abs(dy)
                    is_there = ("left of" if dx < 0 else "right of") if across else ("above" if dy < 0 else "below")
                    if is_there != relation:
                        return False
    return not any(len(matching(clause)) >= clause["count"] for clause in prompt.get("exclude", ()))


@pytest.mark.parametrize(
    ("size", "spoil", "least"),
    [
        (64, lambda image, _: image, 1.0), (32, lambda image, _: image, 1.0), (32, noisy(12), 0.99),
        *(
            pytest.param(size, spoil, least, marks=pytest.mark.slow)
            for size, spoil, least in (
                (128, lambda image, _: image, 1.0), (64, noisy(12), 1.0),
                (64, blurred(1.0), 0.99), (32, blurred(0.7), 0.98),
            )
        ),
    ],
)  # fmt: skip
def test_scenes_are_what_their_captions_say(size: int, spoil: Spoil, least: float) -> None:
    rng = np.random.default_rng(0)
    scenes = [composed_at(i, 17, ("known", "new", "test")[i % 3])[0] for i in range(SCENES)]
    images = [spoil(draw(c.scene, size), rng) for c in scenes]
    prompts = [caption(c, bool(i % 2)) for i, c in enumerate(scenes)]
    right = [verdict.correct for verdict in score_images(images, prompts, DETECTOR)]
    assert sum(right) >= least * SCENES
    assert {p["tag"] for p in prompts} == set(CATEGORIES)


@pytest.mark.slow
def test_other_captions_are_right_only_where_they_are_true() -> None:
    """Each image against the captions of its neighbours."""
    scenes = [composed_at(i, 17, "new")[0] for i in range(SCENES)]
    prompts = [caption(c, bool(i % 2)) for i, c in enumerate(scenes)]
    images = [draw(c.scene) for c in scenes]
    for step in (1, 6, 12):
        others = prompts[step:] + prompts[:step]
        verdicts = score_images(images, others, DETECTOR)
        truth = [shown(prompt, scene) for prompt, scene in zip(others, scenes, strict=True)]
        assert [v.correct for v in verdicts] == truth
        assert any(truth)
        assert not all(truth)


def garbled(rng: np.random.Generator) -> Image.Image:
    """Coloured clouds on a light ground, as an untrained model draws them."""
    cloud = np.asarray(noisy(200)(Image.new("RGB", (64, 64), (128, 128, 128)), rng).filter(ImageFilter.GaussianBlur(5)))
    mask = cloud.mean(2, keepdims=True) > cloud.mean()
    return Image.fromarray(np.where(mask, (cloud - 128.0) * 4 + 128, 240).clip(0, 255).astype(np.uint8))


def test_what_is_no_shape_is_not_seen() -> None:
    rng = np.random.default_rng(0)
    images = [
        Image.new("RGB", (64, 64), (240, 240, 240)),
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)),
    ]
    line = images[0].copy()
    ImageDraw.Draw(line).line([5, 5, 60, 58], (230, 20, 25), 3)
    for look in DETECTOR.look([*images, line]):
        assert not look.detections


@pytest.mark.slow
def test_a_garbled_image_hardly_ever_passes() -> None:
    """The score of a model that cannot draw is near 0: now and then a cloud is as round as a circle, but not often."""
    rng = np.random.default_rng(0)
    clouds = [garbled(rng) for _ in range(CLOUDS)]
    prompts = [caption(composed_at(i, 17, "new")[0]) for i in range(CLOUDS)]
    verdicts = score_images(clouds, prompts, DETECTOR)
    assert sum(verdict.correct for verdict in verdicts) <= 0.01 * CLOUDS
    assert sum(bool(look.detections) for look in DETECTOR.look(clouds)) <= 0.12 * CLOUDS
    # A shape that may have any colour is the easiest to pass by luck; all other prompts ask for more.
    assert all(prompt["tag"] == "single_object" for prompt, v in zip(prompts, verdicts, strict=True) if v.correct)


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_what_the_frame_cuts_off_is_no_shape(x: float, y: float) -> None:
    """A quarter or half of a disc in a corner or at an edge has straight sides, but is no square or rectangle."""
    items = (Item("circle", "teal", COLORS["teal"], x, y, 0.3, 0.3),)
    (look,) = DETECTOR.look([draw(Scene((240, 240, 240), items))])
    assert not look.detections


def test_a_whole_shape_may_reach_the_frame() -> None:
    for shape in ("square", "circle", "triangle", "cross"):
        items = (Item(shape, "red", COLORS["red"], 0.25, 0.75, 0.25, 0.25),)
        (look,) = DETECTOR.look([noisy(12)(draw(Scene((240, 240, 240), items), 32), np.random.default_rng(0))])
        assert shape in {d.name for d in look.detections}


def test_a_half_drawn_shape_is_no_shape() -> None:
    scene = Scene((240, 240, 240), (Item("circle", "red", COLORS["red"], 0.5, 0.5, 0.3, 0.3),))
    image = draw(scene)
    image.paste((240, 240, 240), (0, 0, 34, 34))
    (look,) = DETECTOR.look([image])
    assert not look.detections


def test_touching_shapes_of_two_colours_are_two() -> None:
    items = (
        Item("square", "red", COLORS["red"], 0.3, 0.5, 0.2, 0.2),
        Item("circle", "blue", COLORS["blue"], 0.7, 0.5, 0.2, 0.2),
    )
    (look,) = DETECTOR.look([draw(Scene((240, 240, 240), items))])
    named = {(d.name, look.color_of(d)) for d in look.detections}
    assert named == {("square", "red"), ("rectangle", "red"), ("circle", "blue")}


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "cross"])
@pytest.mark.parametrize("rgb", [(17, 83, 184), (72, 130, 130), (95, 38, 32), (238, 178, 17)])
def test_a_colour_between_two_names_does_not_split_a_shape(shape: str, rgb: tuple[int, int, int]) -> None:
    """As models draw them: pixels on either side of the border between blue and teal, gray and teal, and so on."""
    image = draw(Scene((240, 240, 240), (Item(shape, "", rgb, 0.5, 0.5, 0.25, 0.25),)), 32)
    shades = np.linspace(-12, 12, 32)[:, None, None] * (1, -1, 1)
    (look,) = DETECTOR.look([Image.fromarray((np.asarray(image) + shades).clip(0, 255).astype(np.uint8))])
    assert {d.number for d in look.detections} == {0}
    assert shape in {d.name for d in look.detections}


def test_a_rectangle_is_a_square_only_if_its_sides_are_about_equal() -> None:
    for width, height, names in ((0.3, 0.3, {"rectangle", "square"}), (0.3, 0.27, {"rectangle", "square"}),
                                 (0.3, 0.2, {"rectangle"}), (0.12, 0.4, {"rectangle"})):  # fmt: skip
        item = Item("rectangle", "green", COLORS["green"], 0.5, 0.5, width, height)
        (look,) = DETECTOR.look([draw(Scene((240, 240, 240), (item,)))])
        assert {d.name for d in look.detections} == names


def test_boxes_are_where_shapes_are() -> None:
    item = Item("circle", "teal", COLORS["teal"], 0.4, 0.6, 0.2, 0.2)
    (look,) = DETECTOR.look([draw(Scene((240, 240, 240), (item,)), 100)])
    (found,) = look.detections
    assert found.box == pytest.approx((20, 40, 60, 80), abs=0.6)


def test_every_colour_is_told_from_the_others() -> None:
    for name, rgb in COLORS.items():
        for change in (-14, 0, 14):
            near = tuple(int(np.clip(c + change, 0, 255)) for c in rgb)
            item = Item("square", name, near, 0.5, 0.5, 0.25, 0.25)  # type: ignore[arg-type]
            (look,) = DETECTOR.look([draw(Scene((235, 240, 230), (item,)))])
            assert {look.color_of(d) for d in look.detections} == {name}


def test_the_pictures_of_easy_vqa_are_what_its_captions_say() -> None:
    request = DataRequest(columns=("image", "caption"), mix={"t2i": 1}, max_train_samples=300, max_eval_samples=1)
    rows = load_data("easy_vqa", request).train
    prompts = [json.loads(text) for text in rows["geneval"]]
    images = [read_image(rows, row) for row in range(len(rows))]
    wrong = [v.reason for v in score_images(images, prompts, DETECTOR) if not v.correct]
    assert len(wrong) <= 3, wrong


def test_the_detector_fits_what_the_prompts_name() -> None:
    own = [caption(composed_at(i, 17, "new")[0]) for i in range(12)]
    assert fitting(own) == EXACT
    dog = {"tag": "single_object", "prompt": "a dog", "include": [{"class": "dog", "count": 1}]}
    assert fitting([*own, dog]) == MASK2FORMER
    pink = {"tag": "colors", "prompt": "a pink circle", "include": [{"class": "circle", "count": 1, "color": "pink"}]}
    assert fitting([pink]) == MASK2FORMER


def test_a_users_own_detector_is_made_of_what_the_command_line_says() -> None:
    @register_detector("mine")
    def load(detector_weights: str, color_weights: str, device: str) -> Any:
        return detector_weights, color_weights, device

    assert get_detector("mine", "a", "b", "cuda") == ("a", "b", "cuda")
    with pytest.raises(FedummError, match="'other' is no function of"):
        register_detector("other", "x")


def test_an_unknown_detector_names_those_there_are() -> None:
    with pytest.raises(FedummError, match=r"Unknown detector 'exakt'. Available: exact, mask2former\+clip. Did you"):
        get_detector("exakt")
