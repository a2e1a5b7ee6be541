"""Flat-coloured shapes on a plain background, found by their outlines: no weights, nothing to learn.

For the scenes of ``--dataset shapes`` and ``easy_vqa``, and for what a model draws after them: blurred,
a little noisy, or not a shape at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from fedumm.data.shapes.scene import COLORS, outline
from fedumm.detectors.protocol import Look
from fedumm.metrics.geneval import Detection, Prompt

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CLASSES = ("circle", "square", "rectangle", "triangle", "cross")
_KINDS = ("circle", "rectangle", "triangle", "cross")
_CONTRAST = 60.0
"""Least distance (in RGB, 0..441) of a shape's colour from the background's."""

_SMALLEST = 0.01
"""Least share of the image."""

_LIKENESS = 0.78
"""Least intersection over union with the ideal shape in the same box."""

_CUT = 0.88
"""The same for what the frame of the image may have cut off: a blot in a corner has two straight sides, too."""

_PART = 0.25
"""Least share of a component that another colour must have to be a shape of its own."""

_LONGEST = 1.5
"""Most that a circle, triangle or cross is longer in one direction than in the other."""

_NEARLY = 0.2
"""A rectangle whose sides differ by less than this share is also a square."""

_RGB = np.array(list(COLORS.values()), np.float64)


@dataclass(frozen=True)
class _Found:
    """A shape: what it looks like, how much, where, and of which colour."""

    kind: str
    likeness: float
    box: tuple[float, float, float, float]
    color: str


class ExactDetector:
    """Components of the foreground, compared with ideal circles, rectangles, triangles and crosses."""

    def look(self, images: Sequence[Image.Image]) -> list[Look]:
        """Shapes on each image, which is RGB of any size."""
        return [_look(image) for image in images]

    def threshold(self, prompt: Prompt) -> float:
        """Every shape that is found counts."""
        return 0.0


def load(detector_weights: str, color_weights: str, device: str) -> ExactDetector:
    """It needs no weights, and runs on the CPU."""
    return ExactDetector()


def _look(image: Image.Image) -> Look:
    found = find_shapes(np.asarray(image.convert("RGB"), np.float64))
    detections = []
    for number, shape in enumerate(found):
        for name in _names(shape):
            detections.append(Detection(name, shape.box, shape.likeness, number))
    return Look(detections, lambda detection: found[detection.number].color)


def _names(shape: _Found) -> list[str]:
    if shape.kind != "rectangle":
        return [shape.kind]
    left, top, right, bottom = shape.box
    width, height = right - left, bottom - top
    return ["rectangle", "square"] if abs(width - height) < _NEARLY * max(width, height) else ["rectangle"]


def find_shapes(pixels: Floats) -> list[_Found]:
    """Shapes on an image ``(height, width, 3)`` of levels 0..255, largest first."""
    background = _background(pixels)
    distance = np.linalg.norm(pixels - background, axis=2)
    labels, count = ndimage.label(distance > _CONTRAST)
    found = []
    for number in range(1, count + 1):
        for part, rgb in _parts(pixels, distance, labels == number):
            shape = _recognise(pixels, part, rgb, background)
            if shape is not None:
                found.append((int(part.sum()), shape))
    return [shape for _, shape in sorted(found, key=lambda entry: -entry[0])]


def _background(pixels: Floats) -> Floats:
    """The most frequent colour on the border, in steps of 32 levels; the median of its pixels."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    steps, which, counts = np.unique(border // 32, axis=0, return_inverse=True, return_counts=True)
    common = np.abs(steps - steps[counts.argmax()]).max(1) <= 1
    background: Floats = np.median(border[common[which.ravel()]], axis=0)
    return background


def _parts(pixels: Floats, distance: Floats, component: Bools) -> list[tuple[Bools, Floats]]:
    """A component as one shape, or, if its inside has several colours, as one for each; with their colours."""
    if component.mean() < _SMALLEST:
        return []
    # Towards the edge a shape fades into the background: its colour is that of its inside.
    core = component & (
        ndimage.binary_erosion(component, border_value=1) | (distance > 0.8 * distance[component].max())
    )
    nearest = _nearest(pixels)
    shares = np.bincount(nearest[core], minlength=len(_RGB)) / core.sum()
    colors = [color for color in np.argsort(-shares) if shares[color] >= _PART]
    centres = _apart([np.median(pixels[core & (nearest == color)], axis=0) for color in colors])
    if len(centres) < 2:
        return [(component, np.median(pixels[core], axis=0))]
    which = np.linalg.norm(pixels[:, :, None] - centres, axis=3).argmin(2)
    parts = []
    for place, centre in enumerate(centres):
        labels, count = ndimage.label(component & (which == place))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        # A seam of mixed colours around another shape is thin: opening leaves nothing of it.
        for number in np.flatnonzero(sizes >= _SMALLEST * component.size) + 1:
            part = labels == number
            if ndimage.binary_erosion(part, border_value=1).any():
                parts.append((part, centre))
    return parts


def _apart(centres: Sequence[Floats]) -> Floats:
    """Those that differ as much as a shape does from its background.

    Between two named colours, as on a drawn shape of a colour that has no name, a small change changes the name.
    """
    kept: list[Floats] = []
    for centre in centres:
        if all(np.linalg.norm(centre - other) >= _CONTRAST for other in kept):
            kept.append(centre)
    return np.array(kept)


def _nearest(pixels: Floats) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = np.linalg.norm(pixels[:, :, None] - _RGB, axis=3).argmin(2)
    return nearest


def _recognise(pixels: Floats, part: Bools, rgb: Floats, background: Floats) -> _Found | None:
    """The ideal shape that ``part`` is most like."""
    contrast = rgb - background
    if np.linalg.norm(contrast) < _CONTRAST:
        return None
    # How much of a pixel is covered: where it lies between background and shape.
    cover = np.clip((pixels - background) @ contrast / (contrast @ contrast), 0, 1) * ndimage.binary_dilation(part)
    rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    box = _edges(cover, top, bottom, left, right)
    around = np.s_[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    inner = cover[around]
    shift = (around[1].start, around[0].start)
    local = (box[0] - shift[0], box[1] - shift[1], box[2] - shift[0], box[3] - shift[1])
    sides = sorted((box[2] - box[0], box[3] - box[1]))
    if sides[0] < 2:
        return None
    kinds = _KINDS if sides[1] <= _LONGEST * sides[0] else ("rectangle",)
    kind, likeness = max(
        ((kind, max(_likeness(inner, _ideal(kind, inner.shape, near)) for near in _near(local))) for kind in kinds),
        key=lambda entry: entry[1],
    )
    if likeness < (_CUT if _at_frame(cover, sides[0]) else _LIKENESS):
        return None
    return _Found(kind, likeness, box, list(COLORS)[int(np.linalg.norm(_RGB - rgb, axis=1).argmin())])


def _at_frame(cover: Floats, shortest: float) -> bool:
    """Whether the shape goes on to the frame, along more than a quarter of its shorter side."""
    frame = (cover[0], cover[-1], cover[:, 0], cover[:, -1])
    return any(int((line > 0.75).sum()) > shortest / 4 for line in frame)


def _edges(cover: Floats, top: int, bottom: int, left: int, right: int) -> tuple[float, float, float, float]:
    """The box to a fraction of a pixel: its outermost rows and columns count as much as they are covered."""
    inner = cover[top:bottom, left:right]
    across, down = inner.max(0), inner.max(1)
    return (
        float(left + 1 - across[0]), float(top + 1 - down[0]),
        float(right - 1 + across[-1]), float(bottom - 1 + down[-1]),
    )  # fmt: skip


def _near(box: tuple[float, float, float, float]) -> list[tuple[float, float, float, float]]:
    """Boxes that it may be as well: blur widens it, and the tip of a triangle is too thin to be seen."""
    left, top, right, bottom = box
    return [
        (left + i, top + i - tip, right - i, bottom - i)
        for i in (-0.5, 0.0, 0.5)
        for tip in (0.0, 0.75, 1.5)
    ]  # fmt: skip


def _likeness(cover: Floats, ideal: Floats) -> float:
    """Intersection over union of two partly covered grids."""
    return float(np.minimum(cover, ideal).sum() / np.maximum(cover, ideal).sum())


@lru_cache(maxsize=4096)
def _ideal(kind: str, shape: tuple[int, int], box: tuple[float, float, float, float]) -> Floats:
    """How much of each pixel of a ``shape`` grid the ideal shape in ``box`` covers."""
    fine = 8
    canvas = Image.new("L", (shape[1] * fine, shape[0] * fine))
    pen = ImageDraw.Draw(canvas)
    left, top, right, bottom = (fine * edge for edge in box)
    if kind == "circle":
        pen.ellipse([left, top, right - 1, bottom - 1], 255)
    else:
        x, y, w, h = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
        pen.polygon([(x + w * u, y + h * v) for u, v in outline(kind)], 255)
    small = canvas.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, np.float64) / 255
