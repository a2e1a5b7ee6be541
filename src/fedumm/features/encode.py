"""From images to features, always in the same way."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import PIL
import torch
import transformers

from fedumm.backends.feature_table import Block
from fedumm.backends.protocol import FrozenStage, Progress
from fedumm.features.images import DistinctImages, Image
from fedumm.features.layout import Layout
from fedumm.features.numbers import eight_bits
from fedumm.images import VERSION as READER

_GPU_BATCH = 64
_CPU_PIXELS = 2**20
_FORMAT = 2
"""Rises when files hold features in another way: those of before are not looked at."""

_MEASURED = 8
"""Images whose size stands for that of all, where images differ."""


class Encoder:
    """A frozen stage at work on the images of a run.

    Args:
        dtype: in which features are kept; int8 stands for multiples of scales.
        arithmetic: type of the products (``torch.autocast``).

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
        arithmetic: torch.dtype = torch.float32,
    ) -> None:
        self.stage, self.device, self.arithmetic = stage, device, arithmetic
        self.dtype = stage.dtype or dtype
        self.scaled = stage.dtype is None and dtype == torch.int8
        self.distinct, self.progress = distinct, progress
        self.computed = self.done = self.remade = 0
        self._shape: tuple[int, ...] | None = None
        self._image_bytes = 0.0

    @property
    def images(self) -> Sequence[Image]:
        """All of them; when they are asked for first, they are read, to tell which are the same."""
        return self.distinct.all

    def layout(self, shape: tuple[int, ...] | None = None) -> Layout:
        """What a file of features holds, of images of this ``shape`` (None: the stage is asked)."""
        return Layout(self.shape() if shape is None else shape, self.dtype, self.stage.one_by_one, self.scaled)

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

    def _measure(self) -> None:
        first = self.distinct.first_few(_MEASURED if self.stage.one_by_one else 1)
        with self._at_work():
            if self.stage.one_by_one:
                block = self._kept(self._one_by_one(first))
            else:
                block = self._kept(Block(self._here(self.stage.encode(_pixels(first).to(self.device)))))
        self._image_bytes = sum(map(block.image_bytes, range(len(first)))) / len(first)
        self._shape = tuple(block.features.shape[1:])

    def encode(self, images: Sequence[Image]) -> Block:
        """The features of ``images``, on the CPU.

        They depend neither on which images come together nor on what else goes on: the stage is in evaluation mode.
        """
        return self._encoded(images, self._count)

    def encode_again(self, images: Sequence[Image]) -> Block:
        """The same, in the middle of a run: it is no progress."""
        return self._encoded(images, lambda _: None)

    def seconds(self, images: Sequence[Image]) -> tuple[Block, float]:
        """The features of ``images``, and how long they took; not counted as computed."""
        start = time.perf_counter()
        block = self.encode_again(images)
        return block, time.perf_counter() - start

    def _encoded(self, images: Sequence[Image], told: Callable[[int], None]) -> Block:
        with self._at_work():
            if self.stage.one_by_one:
                return self._kept(self._one_by_one(images, told))
            return self._kept(Block(self._together(images, told)))

    def batch_size(self) -> int:
        """Images that go through the stage at a time."""
        return 1 if self.stage.one_by_one else _batch_size(_pixels(self.distinct.first_few(1)), self.device)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        training = [module for module in self.stage.module.modules() if module.training]
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.arithmetic == torch.bfloat16)
        with torch.no_grad(), autocast:
            for module in training:
                module.training = False
            try:
                yield
            finally:
                for module in training:
                    module.training = True

    def _kept(self, block: Block) -> Block:
        return eight_bits(block) if self.scaled else block

    def _one_by_one(self, images: Sequence[Image], told: Callable[[int], None] = lambda _: None) -> Block:
        features, beside = [], []
        for image in images:
            own, numbers = self._alone(image)
            features.append(own)
            beside.append(numbers)
            told(1)
        return Block.of_images(features, beside)

    def _alone(self, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
        features, beside = self.stage.encode(image.dataset.pixels([image.row]))
        if features.ndim != 2 or beside.ndim != 1 or beside.dtype != torch.int64:
            raise TypeError(
                f"{self.stage.name}: features (n, width) and int64 numbers (m,) are expected of an image, not "
                f"{tuple(features.shape)} and {beside.dtype} {tuple(beside.shape)}"
            )
        return self._here(features), beside.cpu()

    def _together(self, images: Sequence[Image], told: Callable[[int], None]) -> torch.Tensor:
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
            parts.append(self._here(features))
            told(len(pixels))
        return torch.cat(parts).contiguous()

    def _here(self, features: torch.Tensor) -> torch.Tensor:
        """On the CPU, in the type in which they are kept, or in float32 if that has 8 bits."""
        return features.to("cpu", torch.float32 if self.scaled else self.dtype)

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


def stage_key(encoder: Encoder) -> str:
    """A digest of everything that features depend on but the image.

    The weights of the stage with names and shapes, its settings, the type in which features are kept and that of the
    products, the versions of the libraries and of our reader of images, and what rounding may depend on: the kind of
    processor and the number of torch threads.
    """
    stage, device = encoder.stage, encoder.device
    cpu = [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    where = cpu if device.type == "cpu" else [torch.cuda.get_device_name(device)]
    versions = [torch.__version__, transformers.__version__, PIL.__version__, READER]
    kinds = [str(encoder.dtype), encoder.scaled, str(encoder.arithmetic)]
    facts = [_FORMAT, stage.name, stage.settings, *kinds, device.type, *where, *versions]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(stage.module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
