"""A Janus of the tiny architecture with random weights, and batches of scenes for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.januspro.dataset import JanusDataset, collate

CPU = torch.device("cpu")
BOTH = ("vqa", "t2i")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")


def build(folder: Path, tasks: Sequence[str] = BOTH, targets: str = "attention", dropout: float = 0.0) -> Any:
    """Backend, PEFT model and processor."""
    backend = JanusProBackend(tuple(tasks), targets)
    torch.manual_seed(1)
    model, processor = backend.build_model_and_processor(str(folder), 8, 16, dropout, CPU)
    return backend, model.eval(), processor


def batch_of(data: JanusDataset, task: str, count: int = 4) -> dict[str, Any]:
    """The first samples of a task."""
    return collate([data[i] for i, own in enumerate(data.tasks) if own == task][:count])


def image_of(backend: Any, model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The codes of a batch's images to draw."""
    with torch.no_grad():
        return backend._image(model, batch, CPU)  # type: ignore[no-any-return]
