"""Features in files: what is missing is written, all is mapped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedumm.backends.feature_table import FeatureBlock
from fedumm.errors import FedummError
from fedumm.features.encode import Encoder, stage_key
from fedumm.features.images import Image
from fedumm.features.numbers import finite
from fedumm.features.options import CacheOptions
from fedumm.features.rights import Rights
from fedumm.features.store import DamagedError, ShardStore, StoredFile
from fedumm.features.stored_block import StoredBlock
from fedumm.features.weigh import WEIGHED, weighed

SHARD = 64
"""Images in a file, at most."""

_WAIT = 0.05
_PATIENCE = 300.0
"""Seconds without a new file after which others' claims are passed over: their process may be stopped."""

_ATTEMPTS = 3
FOLDER = "features"
"""In the cache's folder: a folder for each stage."""


@dataclass(frozen=True)
class Kept:
    """Features, and the block and the position in it of each image's, by its key."""

    blocks: Sequence[FeatureBlock]
    places: dict[str, tuple[int, int]]


def groups(images: Sequence[Image]) -> Iterator[Sequence[Image]]:
    """The images of each file."""
    for start in range(0, len(images), SHARD):
        yield images[start : start + SHARD]


class DiskCache:
    """The files of one stage, as one process fills and uses them.

    Raises:
        OSError: this user has no folder for them.
    """

    def __init__(self, encoder: Encoder, options: CacheOptions) -> None:
        if options.folder.parts[:1] == ("~",):
            raise OSError("this user has no home folder")
        self.encoder, self.options = encoder, options
        rights = Rights.of(options.folder, options.named)
        self.store = ShardStore(options.folder / FOLDER / stage_key(encoder), options.folder, rights)

    def fill(self, needed: float) -> tuple[str, Kept]:
        """Write what is missing, and map all.

        Room is there if ``auto`` takes at most half of what is free, ``disk`` at most all, and both no more than
        ``disk_bytes`` together with what is in the cache already. ``auto`` then weighs, if there is much and
        something is missing (:mod:`fedumm.features.weigh`). Where writing fails, what this call wrote is removed.

        Args:
            needed: how often the features of any image are needed; 0: not known.

        Returns:
            What was weighed, if anything; and the features.

        Raises:
            OSError: no room, or the folder can't be written to.
            NotWorthwhileError: computing the features each time is faster.
        """
        encoder, note = self.encoder, ""
        known = self._known()
        self._check_room(encoder.distinct.fewest - len(known))
        missing = sum(image.key not in known for image in encoder.images)
        self._check_room(missing)
        large = missing and len(encoder.images) * encoder.image_bytes() > WEIGHED
        if self.options.mode == "auto" and needed and large:
            self._create()
            note = weighed(encoder, self.store, missing, needed)
        try:
            return note, self._filled(known)
        except OSError:
            self.store.withdraw()
            raise

    def _filled(self, known: dict[str, tuple[Path, int]]) -> Kept:
        images = self.encoder.images
        for _ in range(_ATTEMPTS):
            self._complete(known)
            known = self._known()
            used = dict.fromkeys(known[image.key][0] for image in images if image.key in known)
            files = self._mapped(list(used))
            if len(files) == len(used) and all(image.key in known for image in images):
                self.store.hold()
                return self._kept(files, known)
            # The files that do not fit are gone by now, and their images missing again.
            known = self._known()
        raise OSError("files are damaged again as soon as they are written")

    def _known(self) -> dict[str, tuple[Path, int]]:
        known = self.store.find()
        self.encoder.remade = self.store.removed
        return known

    def _mapped(self, paths: Sequence[Path]) -> list[StoredFile]:
        files: list[StoredFile] = []
        if not paths:
            return files
        layout = self.encoder.layout(self.store.shape())
        for count, path in enumerate(paths, start=1):
            try:
                files.append(self.store.open(path, layout))
            except DamagedError:
                self.store.remove(path)
            self.encoder.progress("opening stored features", count, len(paths))
        return files

    def _kept(self, files: Sequence[StoredFile], known: dict[str, tuple[Path, int]]) -> Kept:
        number = {file.path: i for i, file in enumerate(files)}
        places = {key: (number[path], place) for key, (path, place) in known.items() if path in number}
        own: list[dict[int, Image]] = [{} for _ in files]
        for image in self.encoder.images:
            block, place = places[image.key]
            own[block][place] = image
        blocks = [
            StoredBlock(file, lambda file, images=images: self._again(file, images))  # type: ignore[misc]
            for file, images in zip(files, own, strict=True)
        ]
        return Kept(blocks, places)

    @torch.inference_mode(False)  # whoever asks first, others train on what is made here
    def _again(self, file: StoredFile, own: dict[int, Image]) -> tuple[FeatureBlock, dict[int, int]]:
        """Instead of a damaged file: the images of this run that were in it, encoded and written anew.

        Raises:
            FedummError: what was just written is damaged, too.
        """
        self.options.say(
            f"A file of stored {self.encoder.stage.name} is damaged. It is removed, and its {len(own)} images are "
            "encoded again."
        )
        self.store.remove(file.path)
        images = list(own.values())
        keys = [image.key for image in images]
        block = self.encoder.encode_again(images)
        places = {place: position for position, place in enumerate(own)}
        path = self.store.path_of(keys)
        try:
            self.store.write(path, keys, block)
            written = self.store.open(path, self.encoder.layout(self.store.shape()))
            for position in range(len(keys)):
                written.check(position)
        except OSError:
            return block, places  # in memory
        except DamagedError as error:
            raise FedummError(
                f"{self.options.folder}: files are damaged again as soon as they are written. "
                "Choose another --feature_cache_dir, or --feature_cache memory or off."
            ) from error
        return written.block, places

    def _check_room(self, missing: int) -> None:
        if missing <= 0:
            return
        need, options = missing * self.encoder.image_bytes(), self.options
        there = next(p for p in (options.folder, *options.folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        if need > (free if options.mode == "disk" else free // 2):
            raise OSError(f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
        if options.disk_bytes and need > (left := options.disk_bytes - self._size()):
            raise OSError(
                f"{need / 1e9:.1f} GB are needed and {max(0, left) / 1e9:.1f} GB are left of "
                f"--feature_cache_disk_gb {options.disk_bytes / 1e9:g} (fedumm cache lists what is there)"
            )

    def _size(self) -> int:
        """Bytes of all features in the cache."""
        return sum(path.lstat().st_size for path in (self.options.folder / FOLDER).glob("*/*.safetensors"))

    def _create(self) -> None:
        stage, encoder = self.encoder.stage, self.encoder
        self.store.create(
            {
                "stage": stage.name,
                "model": self.options.model,
                "settings": stage.settings,
                "dtype": str(encoder.dtype).removeprefix("torch."),
                "shape": list(encoder.shape()),
                "one_by_one": stage.one_by_one,
                "scaled": encoder.scaled,
            }
        )

    def _complete(self, known: Container[str]) -> None:
        """Write what is not yet ``known``, together with other processes that do the same."""
        encoder = self.encoder
        missing = [[image for image in group if image.key not in known] for group in groups(encoder.images)]
        pending = [group for group in missing if group]
        if pending:
            self._create()
        moved = time.monotonic()
        while pending:
            encoder.done = len(encoder.images) - sum(map(len, pending))
            waited = time.monotonic() - moved
            left = [group for group in pending if not self._write(group, alone=waited > _PATIENCE)]
            if len(left) < len(pending):
                moved = time.monotonic()
            else:
                encoder.progress("waiting for other hosts' features", encoder.done, len(encoder.images))
                time.sleep(_WAIT)
            pending = left

    def _write(self, group: Sequence[Image], alone: bool) -> bool:
        """Whether the features of ``group`` are there now; not if another process is at them.

        ``alone``: that process has been at them for too long; at worst, work is done twice.
        """
        keys = [image.key for image in group]
        path = self.store.path_of(keys)
        if path.exists():
            return True
        with self.store.claim(path) as mine:
            if (mine or alone) and not path.exists():
                block = self.encoder.encode(group)
                if not all(finite(part) for place in range(len(keys)) for part in block.parts(place)):
                    raise OSError(f"{self.encoder.stage.name}: numbers that are not finite in {self.encoder.dtype}")
                self.store.write(path, keys, block)
            return mine or alone
