"""Drawn images as a folder, in the layout of GenEval: ``00000/metadata.jsonl``, ``00000/samples/0000.png``.

====================  ===================================================
``generation.json``   what drew them, and how
``results.jsonl``     a verdict an image
``summary.json``      share of right images by category, and overall
====================  ===================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fedumm.backends.protocol import Progress
from fedumm.detectors import Detector
from fedumm.errors import FedummError
from fedumm.files import replacing, write_atomically
from fedumm.generation.judging import score_images
from fedumm.images import ImageError, open_image
from fedumm.metrics.geneval import GenEvalResult, summarise
from fedumm.output import check_plain
from fedumm.seeds import derive
from fedumm.texts import one_line

SETTINGS, RESULTS, SUMMARY = "generation.json", "results.jsonl", "summary.json"

Draw = Callable[[Sequence[str], Sequence[int]], Iterable[Image.Image]]
"""From captions and seeds to images, in order; each is kept before the next one is asked for."""


@dataclass(frozen=True)
class Sample:
    """One image to draw: the prompt's number, and the image's among those of its prompt."""

    prompt: int
    number: int

    def path(self, folder: Path) -> Path:
        """Where it is."""
        return folder / f"{self.prompt:05}" / "samples" / f"{self.number:04}.png"

    def seed(self, seed: int) -> int:
        """Its own seed: it does not depend on what else is drawn, or when."""
        return derive(seed, "image", self.prompt, self.number)


class DrawnFolder:
    """A set of prompts, drawn ``num_images`` times each.

    Args:
        path: an empty or new folder, or one that an earlier call with the same arguments began.
        settings: what drew the images, and how.

    Raises:
        FedummError: the folder holds something else, or can't be written to.
    """

    def __init__(
        self, path: Path, prompts: Sequence[dict[str, Any]], num_images: int, settings: Mapping[str, Any]
    ) -> None:
        self.path, self.prompts = path, prompts
        self.samples = [Sample(p, n) for p in range(len(prompts)) for n in range(num_images)]
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_plain(path)
            self._claim({**settings, "num_images": num_images, "prompts": len(prompts)})
        except OSError as error:
            raise FedummError(f"--out {path} can't be written to: {error}") from error

    def _claim(self, settings: dict[str, Any]) -> None:
        if (self.path / SETTINGS).exists():
            try:
                old = json.loads((self.path / SETTINGS).read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                old = {}
            old = old if isinstance(old, dict) else {}
            other = sorted(name for name in {*old, *settings} if old.get(name) != settings.get(name))
            if other:
                raise FedummError(
                    f"--out {self.path} holds images that were drawn otherwise ({', '.join(other)}). "
                    "Choose another folder."
                )
        elif any(self.path.iterdir()):
            raise FedummError(f"--out {self.path} holds other files. Choose another folder.")
        else:
            write_atomically(self.path / SETTINGS, json.dumps(settings, indent=1) + "\n")
        for number, prompt in enumerate(self.prompts):
            self._claim_prompt(self.path / f"{number:05}", json.dumps(prompt) + "\n")

    def _claim_prompt(self, folder: Path, line: str) -> None:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        metadata = folder / "metadata.jsonl"
        if metadata.exists() and metadata.read_bytes() != line.encode():
            raise FedummError(f"--out {self.path} holds images of other prompts. Choose another folder.")
        write_atomically(metadata, line)

    def draw(self, draw: Draw, seed: int, progress: Progress) -> int:
        """Draw what is missing, and return how many images that were. What is there stays.

        ``draw`` is not called if nothing is missing.
        """
        missing = [sample for sample in self.samples if not _readable(sample.path(self.path))]
        done = len(self.samples) - len(missing)
        progress("drawing", done, len(self.samples))
        if not missing:
            return 0
        captions = [self.prompts[sample.prompt]["prompt"] for sample in missing]
        images = draw(captions, [sample.seed(seed) for sample in missing])
        for number, (sample, image) in enumerate(zip(missing, images, strict=True), start=1):
            path = sample.path(self.path)
            with replacing(path) as draft:
                image.save(draft, "PNG")
            progress("drawing", done + number, len(self.samples))
        return len(missing)

    def judge(self, detector: Detector, progress: Progress) -> GenEvalResult:
        """Look at all images; writes ``results.jsonl`` and ``summary.json``."""
        lines, verdicts = [], []
        for done, sample in enumerate(self.samples, start=1):
            prompt, path = self.prompts[sample.prompt], sample.path(self.path)
            (verdict,) = score_images([_opened(path)], [prompt], detector)
            name = path.relative_to(self.path).as_posix()
            lines.append(
                {"filename": name, "tag": prompt["tag"], "prompt": prompt["prompt"], "correct": verdict.correct,
                 "reason": verdict.reason, "metadata": prompt}
            )  # fmt: skip
            verdicts.append((prompt["tag"], verdict.correct))
            progress("judging", done, len(self.samples))
        result = summarise(verdicts)
        write_atomically(self.path / RESULTS, "".join(json.dumps(line) + "\n" for line in lines))
        parts = {tag: {"correct": share, "images": count} for tag, (share, count) in result.categories.items()}
        write_atomically(
            self.path / SUMMARY, json.dumps({"overall": result.overall, "categories": parts}, indent=1) + "\n"
        )
        return result


def _readable(path: Path) -> bool:
    try:
        open_image(path)
    except ImageError:
        return False
    return True


def _opened(path: Path) -> Image.Image:
    try:
        return open_image(path)
    except ImageError as error:
        raise FedummError(
            f"{path} can't be read as an image: {one_line(error)}. Delete it, and it is drawn again."
        ) from None
