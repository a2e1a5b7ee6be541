"""Scenes of flat-coloured shapes on a plain background, and how they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (230, 20, 25),
    "green": (20, 215, 40),
    "blue": (25, 40, 235),
    "yellow": (245, 235, 25),
    "black": (15, 15, 18),
    "gray": (130, 130, 130),
    "brown": (155, 60, 45),
    "teal": (15, 130, 130),
    "orange": (250, 140, 20),
    "purple": (130, 30, 150),
}
_BAR = 0.4
"""Width of a cross's bars, as a share of the cross."""

_SUPERSAMPLE = 4


@dataclass(frozen=True)
class Item:
    """One shape: its name, colour name, RGB as drawn, centre and half sizes (in 0..1)."""

    shape: str
    color: str
    rgb: RGB
    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True)
class Scene:
    """A background colour and the shapes on it, which do not touch."""

    background: RGB
    items: tuple[Item, ...]


def outline(shape: str) -> list[tuple[float, float]]:
    """Corners of every shape but the circle, in the square from (-1, -1) to (1, 1); y points down."""
    if shape == "triangle":
        return [(0, -1), (1, 1), (-1, 1)]
    if shape == "diamond":
        return [(0, -1), (1, 0), (0, 1), (-1, 0)]
    if shape == "star":
        turns = [math.pi * (k / 5 - 0.5) for k in range(10)]
        radii = [1.05, 0.45] * 5
        return [(r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]
    if shape == "arrow":
        return [(-1, -_BAR), (0, -_BAR), (0, -1), (1, 0), (0, 1), (0, _BAR), (-1, _BAR)]
    if shape == "cross":
        b = _BAR
        return [
            (-b, -1),
            (b, -1),
            (b, -b),
            (1, -b),
            (1, b),
            (b, b),
            (b, 1),
            (-b, 1),
            (-b, b),
            (-1, b),
            (-1, -b),
            (-b, -b),
        ]
    return [(-1, -1), (1, -1), (1, 1), (-1, 1)]


def draw(scene: Scene, size: int = 64) -> Image.Image:
    """Draw ``scene`` as an RGB image of ``size`` x ``size`` pixels, edges smoothed."""
    side = size * _SUPERSAMPLE
    image = Image.new("RGB", (side, side), scene.background)
    pen = ImageDraw.Draw(image)
    for item in scene.items:
        x, y, w, h = item.x, item.y, item.half_width, item.half_height
        if item.shape == "circle":
            pen.ellipse([(x - w) * side, (y - h) * side, (x + w) * side, (y + h) * side], item.rgb)
        else:
            pen.polygon([((x + w * u) * side, (y + h * v) * side) for u, v in outline(item.shape)], item.rgb)
    return image.resize((size, size), Image.Resampling.BOX)
