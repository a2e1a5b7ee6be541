"""A host's part of the common test set, and of the images that are drawn and judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedumm.backends.protocol import Progress
from fedumm.config import RunConfig
from fedumm.metrics.evaluation import Scores
from fedumm.tasks import GENEVAL
from fedumm.training.backbone import Backbone
from fedumm.training.evaluation import evaluate
from fedumm.training.generation_eval import DrawingTest


@dataclass(frozen=True)
class CommonTest:
    """``data_set`` is None where the host's part is empty, ``drawing`` where no images are drawn."""

    data_set: Any
    drawing: DrawingTest | None
    folder: Path | None = None
    """Where images are kept, in a folder for each version of the adapter; None: nowhere."""

    def score(self, backbone: Backbone, config: RunConfig, draw: bool, progress: Progress, version: int) -> Scores:
        """Scores of the adapter that is on the backbone, the ``version`` after so many rounds; with ``draw`` also of
        images drawn."""
        scores: Scores = {}
        if self.data_set is not None:
            what = "scoring the common test set"
            progress(what, 0, len(self.data_set))
            scores = evaluate(backbone, self.data_set, config, progress, what)
        return scores | (self.draw(backbone, progress, version) if draw else {})

    def draw(self, backbone: Backbone, progress: Progress, version: int) -> Scores:
        """Scores of images that are drawn with it; none where nothing is drawn here."""
        if self.drawing is None:
            return {}
        folder = self.folder and self.folder / f"round-{version}"
        return {GENEVAL.name: self.drawing.score(backbone, progress, folder)}
