"""From images to features, always in the same way."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import groupby

import PIL
import torch
import transformers

from fedumm.backends.feature_table import Block
from fedumm.backends.protocol import FrozenStage, Progress
from fedumm.features.images import DistinctImages, Image
from fedumm.images import VERSION as READER

_GPU_BATCH = 64
_CPU_PIXELS = 2**20
_FORMAT = 2
"""Rises when files hold features in another way: those of before are not looked at."""

_MEASURED = 8
"""Images whose size stands for that of all, where images differ."""


class Encoder:
    """A frozen stage at work on the images of a run.

    Attributes:
        computed: images encoded so far.
        done: the same for the progress shown, with those that others encoded.
        remade: files that did not fit, and whose images were encoded again.
    """

    def __init__(
        self,
        stage: FrozenStage,
        dtype: torch.dtype,
        device: torch.device,
        distinct: DistinctImages,
        progress: Progress,
    ) -> None:
        self.stage, self.dtype, self.device = stage, dtype, device
        self.distinct, self.progress = distinct, progress
        self.computed = self.done = self.remade = 0
        self._shape: tuple[int, ...] | None = None
        self._image_bytes = 0.0

    @property
    def images(self) -> Sequence[Image]:
        """All of them; when they are asked for first, they are read, to tell which are the same."""
        return self.distinct.all

    def shape(self) -> tuple[int, ...]:
        """That of one image's features; of those that differ in length, without the first dimension."""
        if self._shape is None:
            self._measure()
        return self._shape or ()

    def image_bytes(self) -> float:
        """Size of one image's features; where images differ, an estimate: the mean of the first ones."""
        if self._shape is None:
            self._measure()
        return self._image_bytes

    @torch.no_grad()
    def _measure(self) -> None:
        if self.stage.one_by_one:
            first = self.distinct.first_few(_MEASURED)
            block = Block.of_images(*zip(*map(self._alone, first), strict=True))
            self._shape = tuple(block.features.shape[1:])
            self._image_bytes = sum(map(block.image_bytes, range(len(first)))) / len(first)
        else:
            first = self.distinct.first_few(1)
            self._shape = tuple(self.stage.encode(_pixels(first).to(self.device)).shape[1:])
            self._image_bytes = math.prod(self._shape) * self.dtype.itemsize

    @torch.no_grad()
    def encode(self, images: Sequence[Image]) -> Block:
        """The features of ``images``, on the CPU."""
        if not self.stage.one_by_one:
            return Block(self._together(images))
        parts = []
        for image in images:
            parts.append(self._alone(image))
            self._count(1)
        return Block.of_images(*zip(*parts, strict=True))

    def _alone(self, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
        features, beside = self.stage.encode(image.dataset.pixels([image.row]))
        if features.ndim != 2 or beside.ndim != 1 or beside.dtype != torch.int64:
            raise TypeError(
                f"{self.stage.name}: features (n, width) and int64 numbers (m,) are expected of an image, not "
                f"{tuple(features.shape)} and {beside.dtype} {tuple(beside.shape)}"
            )
        return features.to("cpu", self.dtype), beside.cpu()

    def _together(self, images: Sequence[Image]) -> torch.Tensor:
        """``(len(images), ...)``.

        A short batch is filled up, so that the stage always sees one shape and its rounding never
        depends on which images came together.
        """
        size = _batch_size(_pixels(images[:1]), self.device)
        parts = []
        for start in range(0, len(images), size):
            pixels = _pixels(images[start : start + size])
            full = torch.cat([pixels, pixels[-1:].expand(size - len(pixels), *pixels.shape[1:])])
            features = self.stage.encode(full.to(self.device, non_blocking=True))[: len(pixels)]
            parts.append(features.to("cpu", self.dtype))
            self._count(len(pixels))
        return torch.cat(parts).contiguous()

    def _count(self, images: int) -> None:
        self.computed += images
        self.done += images
        self.progress(self.stage.name, self.done, len(self.images))


def _pixels(images: Sequence[Image]) -> torch.Tensor:
    runs = groupby(images, key=lambda image: id(image.dataset))
    own = [list(run) for _, run in runs]
    return torch.cat([run[0].dataset.pixels([image.row for image in run]) for run in own])


def _batch_size(pixels: torch.Tensor, device: torch.device) -> int:
    """Images at a time: many on a GPU; on a CPU the power of two that keeps within a megapixel."""
    if device.type != "cpu":
        return _GPU_BATCH
    fitting: int = max(1, _CPU_PIXELS // pixels[0, 0].numel())
    return int(min(_GPU_BATCH, 2 ** (fitting.bit_length() - 1)))


def stage_key(stage: FrozenStage, dtype: torch.dtype, device: torch.device) -> str:
    """A digest of everything that features depend on but the image.

    The weights of the stage with names and shapes, its settings, the type in which features are kept,
    the versions of the libraries and of our reader of images, and what rounding may depend on: the kind of
    processor and the number of torch threads.
    """
    cpu = [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    where = cpu if device.type == "cpu" else [torch.cuda.get_device_name(device)]
    versions = [torch.__version__, transformers.__version__, PIL.__version__, READER]
    facts = [_FORMAT, stage.name, stage.settings, str(dtype), device.type, *where, *versions]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(stage.module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
