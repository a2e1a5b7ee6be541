"""Drawing captions, as many at a time as fit into memory; a few of them judged while a model is being trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.backends.protocol import DrawsImages, DrawsTokens, Progress
from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.files import replacing
from fedumm.metrics.evaluation import Evaluation
from fedumm.metrics.geneval import CATEGORIES
from fedumm.seeds import derive
from fedumm.tasks import GENEVAL, T2I
from fedumm.texts import one_line
from fedumm.training.backbone import Backbone
from fedumm.training.device import ends_when_full
from fedumm.training.evaluation import OPTION
from fedumm.training.fitting import fitting, half, halve, token_budget

if TYPE_CHECKING:
    from PIL import Image

    from fedumm.detectors import Detector

DRAWINGS = "drawings"
"""Folder of a run with the images that were drawn and judged."""

MOST_IMAGES = 16
"""Most images that are drawn at a time, if nothing else is asked for."""


def drawn(
    backbone: Backbone,
    captions: Sequence[str],
    seeds: Sequence[int],
    size: int = 0,
    option: str = OPTION,
    *,
    guidance: float | None = None,
    temperature: float = 1.0,
) -> Iterator[Image.Image]:
    """The images of ``captions``, in order. Where memory runs out, they are drawn again in halves.

    Args:
        size: so many at a time; 0: up to :data:`MOST_IMAGES` within :func:`token_budget`.
        option: what sets ``size``, for the user.
        guidance, temperature: see :class:`fedumm.backends.protocol.DrawsImages`.

    Raises:
        FedummError: there is no memory for a single image.
    """
    backend = backbone.backend
    assert isinstance(backend, DrawsImages)
    tokens, budget = [0] * len(captions), None
    if isinstance(backend, DrawsTokens) and not size:
        tokens = backend.drawn_tokens(backbone.model, backbone.processor, captions, guidance)
        budget = token_budget(backbone)
    start, size = 0, size or MOST_IMAGES
    while start < len(captions):
        most = min(size, backbone.limits.get(GENEVAL.name, size))
        stop = start + fitting(tokens[start : start + most], most, budget)
        images: list[Image.Image] | None = None
        with ends_when_full(), backbone.autocast():
            images = backend.draw(
                backbone.model, backbone.processor, captions[start:stop], seeds[start:stop], backbone.device,
                guidance=guidance, temperature=temperature,
            )  # fmt: skip
        if images is None:
            halve(backbone, GENEVAL.name, stop - start, f"{option} {half(stop - start)}")
            continue
        yield from images
        start = stop


@dataclass(frozen=True)
class DrawingTest:
    """Captions as prompts of GenEval, a seed for each image, and the detector that looks at the images.

    ``size`` is for :func:`drawn`; ``numbers`` are those of the images among all of the run.
    """

    prompts: Sequence[dict[str, Any]]
    seeds: Sequence[int]
    detector: Detector
    size: int = 0
    numbers: Sequence[int] = ()

    def score(self, backbone: Backbone, progress: Progress, folder: Path | None = None) -> Evaluation:
        """Share of images that show what their captions say, also by category.

        Args:
            folder: where the images are kept, as ``0003-right.png`` or ``0003-wrong.png`` with the caption in it (a
                text chunk ``Description``); None: nowhere.
        """
        from fedumm.generation import score_images

        right: dict[str, list[bool]] = {}
        progress("drawing", 0, len(self.prompts))
        images = drawn(backbone, [prompt["prompt"] for prompt in self.prompts], self.seeds, self.size)
        for done, (prompt, image) in enumerate(zip(self.prompts, images, strict=True), start=1):
            (verdict,) = score_images([image], [prompt], self.detector)
            right.setdefault(prompt["tag"], []).append(verdict.correct)
            if folder:
                _keep(image, prompt["prompt"], folder, self.numbers[done - 1], verdict.correct)
            progress("drawing", done, len(self.prompts))
        parts = {tag: (sum(own) / len(own), len(own)) for tag, own in sorted(right.items())}
        return Evaluation(sum(share for share, _ in parts.values()) / len(parts), len(self.prompts), parts)


def _keep(image: Image.Image, caption: str, folder: Path, number: int, right: bool) -> None:
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_itxt("Description", caption)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{number:04}-{'right' if right else 'wrong'}.png") as draft:
        image.save(draft, "PNG", pnginfo=about)


def drawing_test(backbone: Backbone, rows: Any, config: RunConfig, first: int = 0, step: int = 1) -> DrawingTest | None:
    """Every ``step``-th from ``first`` of the images to draw, of captions of ``rows``.

    Each category has as many images as the others, and its captions take turns: where there are few,
    they are drawn several times. None if there is nothing to draw: the options, the backend or the data
    leave it out.
    """
    wanted = config.geneval_prompts and T2I.name in config.tasks
    if not wanted or not isinstance(backbone.backend, DrawsImages) or GENEVAL.column not in rows.column_names:
        return None
    by_tag: dict[str, dict[str, dict[str, Any]]] = {}
    for text in rows[GENEVAL.column][:]:
        if text:
            prompt = json.loads(text)
            by_tag.setdefault(prompt["tag"], {}).setdefault(prompt["prompt"], prompt)
    from fedumm.detectors import detector_for

    tags = sorted(by_tag)
    if strange := [tag for tag in tags if tag not in CATEGORIES]:
        known = ", ".join(CATEGORIES)
        raise FedummError(f"The data have captions of the category {one_line(strange[0], 60)}, GenEval has {known}.")
    everything = []
    for number in range(config.geneval_prompts if tags else 0):
        turn, place = divmod(number, len(tags))
        own = list(by_tag[tags[place]].values())
        everything.append(own[turn % len(own)])
    numbers = range(first, len(everything), step)
    if not numbers:
        return None
    seeds = [derive(config.seed, "drawing", number) for number in numbers]
    # Larger ones are for scoring, of which one sample takes less.
    size = config.eval_batch_size if config.eval_batch_size < MOST_IMAGES else 0
    return DrawingTest([everything[number] for number in numbers], seeds, detector_for(everything), size, numbers)
