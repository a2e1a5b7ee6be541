"""The centralised baseline: all training data in one place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fedumm.adapters import AdapterState
from fedumm.backends.protocol import Progress
from fedumm.config import CentralConfig
from fedumm.data import DataSplits
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.libraries import installed_versions
from fedumm.metrics.evaluation import Scores, describe, mean_score, summary
from fedumm.seeds import derive
from fedumm.step_losses import CENTRAL, STEPS, StepLosses, points_of_a_part
from fedumm.tasks import GENEVAL
from fedumm.texts import one_line
from fedumm.training.backbone import Backbone
from fedumm.training.candidates import training_answers
from fedumm.training.data import references
from fedumm.training.device import pick_device
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.generation_eval import DRAWINGS, drawing_test
from fedumm.training.stock import Stock
from fedumm.training.threads import thread_count
from fedumm.training.trainer import TrainProgress, train_epochs


@dataclass(frozen=True)
class CentralResult:
    """The trained adapter, after how many epochs, and how the untrained and the trained one scored."""

    adapter: AdapterState
    adapter_config: dict[str, object]
    before: Scores
    after: Scores
    epochs: int


@dataclass
class _Patience:
    """How many epochs were no better than the best one before; the untrained adapter is the first of them."""

    best: float = -math.inf
    since: int = 0

    def count(self, scores: Scores) -> int:
        found = mean_score(scores) or 0.0
        self.best, self.since = (found, 0) if found > self.best else (self.best, self.since + 1)
        return self.since


def train_centrally(
    config: CentralConfig,
    say: Callable[[str], None],
    progress: Progress,
    train_progress: TrainProgress,
    tell: Callable[[dict[str, Any]], None] = lambda record: None,
    stock: Stock | None = None,
    folder: Path | None = None,
) -> CentralResult:
    """Train for ``config.num_epochs`` epochs and evaluate after each.

    Args:
        say: called with the lines to print.
        tell: called with the records of ``metrics.jsonl``: ``setup``, ``epoch`` (the untrained adapter is epoch 0).
        stock: data and models that runs of this process share.
        folder: of the run, where images that are drawn and losses by step are kept; None: nowhere.

    Raises:
        FedummError: bad data or model, or the loss is no longer a number.
    """
    begun, stock = time.monotonic(), stock or Stock()
    torch.set_num_threads(thread_count(config))
    device = pick_device(config.gpu)
    splits = stock.splits(config)
    say(f"Train: {len(splits.train)}, Eval: {len(splits.eval)}")
    backbone = stock.backbone(config, device, training_answers(config, splits.train), references(config, splits.eval))
    backbone.say = say
    say(f"trainable: {backbone.trainable:,} / {backbone.total:,} ({100 * backbone.trainable / backbone.total:.4f}%)")
    train, test, cached = _data_sets(backbone, splits, config, say, progress)
    for line in backbone.findings():
        say(line)
    drawing = drawing_test(backbone, splits.eval, config)
    tell(_setup_record(backbone, splits, cached) | {"seconds": round(time.monotonic() - begun, 3)})
    last, no_better = time.monotonic(), _Patience()

    def score(epoch: int, loss: float | None) -> tuple[Scores, bool]:
        """The scores, and whether this epoch is the last one."""
        nonlocal last
        scores, every = evaluate(backbone, test, config, progress), config.geneval_every
        ends = 0 < config.patience <= no_better.count(scores) or epoch == config.num_epochs
        if drawing and (epoch == 0 or ends or (every and epoch % every == 0)):
            scores[GENEVAL.name] = drawing.score(backbone, progress, folder and folder / DRAWINGS / f"epoch-{epoch}")
        now = time.monotonic()
        tell(
            _epoch_record(config, epoch, loss, scores)
            | {"seconds": round(now - last, 3), "elapsed": round(now - begun, 3)}
        )
        last = now
        return scores, ends

    before, _ = score(0, None)
    say(f"untrained: {describe(before)}")
    after, epochs = before, 0
    file = folder / STEPS / f"{CENTRAL}.jsonl" if folder else None
    losses = StepLosses(file, points_of_a_part(config.num_epochs)) if file else None

    def after_epoch(epoch: int, loss: float) -> bool:
        nonlocal after, epochs
        if losses:
            losses.end(epoch)
        if not math.isfinite(loss):
            raise FedummError(f"The training loss is {loss} in epoch {epoch}: lower --lr.")
        (after, ends), epochs = score(epoch, loss), epoch
        say(f"Epoch {epoch}/{config.num_epochs}  loss={loss:.4f}  {describe(after)}")
        if ends and epoch < config.num_epochs:
            say(f"stopping: the last {no_better.since} epoch(s) were no better than the best one before (--patience)")
        return ends

    train_epochs(
        backbone, train, config, config.num_epochs, derive(config.seed, "central"), train_progress, after_epoch,
        on_step=losses.add if losses else None,
    )  # fmt: skip
    return CentralResult(backbone.adapter(), backbone.adapter_config(), before, after, epochs)


def _setup_record(backbone: Backbone, splits: DataSplits, cached: list[CacheReport]) -> dict[str, Any]:
    return {
        "event": "setup",
        "train": len(splits.train),
        "test_samples": len(splits.eval),
        "device": str(backbone.device),
        "versions": installed_versions(),
        "trainable": backbone.trainable,
        "total": backbone.total,
        "findings": list(map(one_line, backbone.findings())),
        "features": [asdict(report) for report in cached],
    }


def _epoch_record(config: CentralConfig, epoch: int, loss: float | None, scores: Scores) -> dict[str, Any]:
    losses = {} if loss is None or len(config.tasks) > 1 else {config.tasks[0]: loss}
    return {
        "event": "epoch",
        "epoch": epoch,
        "epochs": config.num_epochs,
        "train_loss": loss,
        "train_losses": losses,
        **summary("test", scores),
    }


def _data_sets(
    backbone: Backbone, splits: DataSplits, config: CentralConfig, say: Callable[[str], None], progress: Progress
) -> tuple[Any, Any, list[CacheReport]]:
    """Training and test set, with what frozen stages make of them in the cache."""
    train, test = (
        backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
        for rows in (splits.train, splits.eval)
    )
    passes = config.num_epochs, config.num_epochs + 1
    cached = cache_features(backbone, [train, test], config, progress, ("training", "evaluation"), passes)
    for line in filter(None, (report.describe() for report in cached)):
        say(line)
    return train, test, cached
