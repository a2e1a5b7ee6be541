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
from fedumm.data.partition.split import ClientShare
from fedumm.errors import DivergedError
from fedumm.features.report import CacheReport
from fedumm.libraries import installed_versions
from fedumm.metrics.evaluation import Scores, describe, mean_score, summary
from fedumm.seeds import derive
from fedumm.step_losses import CENTRAL, STEPS, StepLosses, points_of_a_part
from fedumm.tasks import GENEVAL
from fedumm.texts import one_line
from fedumm.training.backbone import Backbone
from fedumm.training.candidates import training_answers
from fedumm.training.data import central_share, references
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.device import pick_device
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.generation_eval import DRAWINGS, drawing_test
from fedumm.training.stock import Stock
from fedumm.training.threads import thread_count
from fedumm.training.trainer import TrainProgress, train_epochs

_JUDGED = {
    True: "held-out rows",
    False: "evaluation data, whose scores are reported too: --holdout 0.1 sets training rows aside to judge by",
}
"""What ``--patience`` goes by, with and without held-out rows."""


@dataclass(frozen=True)
class CentralResult:
    """The trained adapter, after how many epochs, and how the untrained and the trained one scored.

    Attributes:
        before, after: on the evaluation data.
        heldout_before, heldout_after: on the rows that were held out; empty where there are none.
    """

    adapter: AdapterState
    adapter_config: dict[str, object]
    before: Scores
    after: Scores
    epochs: int
    heldout_before: Scores
    heldout_after: Scores

    def records(self) -> dict[str, dict[str, Any]]:
        """``untrained`` and ``trained`` with their scores, as ``metrics.jsonl`` has them."""
        return {
            "untrained": summary("test", self.before) | _heldout(self.heldout_before),
            "trained": summary("test", self.after) | _heldout(self.heldout_after),
        }


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
    """Train for ``config.num_epochs`` epochs and evaluate after each, on the evaluation data and on what is held out.

    Args:
        say: called with the lines to print.
        tell: called with the records of ``metrics.jsonl``: ``setup``, ``epoch`` (the untrained adapter is epoch 0).
        stock: data and models that runs of this process share.
        folder: of the run, where images that are drawn and losses by step are kept; None: nowhere.

    Raises:
        FedummError: bad data or model, or the loss is no longer a number (``DivergedError``).
    """
    begun, stock = time.monotonic(), stock or Stock()
    torch.set_num_threads(thread_count(config))
    device = pick_device(config.gpu)
    splits = stock.splits(config)
    share = central_share(config, splits.train)
    held = f", held out: {len(share.heldout)}" if len(share.heldout) else ""
    say(f"Train: {len(share.train)}{held}, Eval: {len(splits.eval)}")
    if config.patience:
        say(f"--patience goes by the {_JUDGED[bool(held)]}")
    answers = training_answers(config, splits.train, share.train.tolist())
    backbone = stock.backbone(config, device, answers, references(config, splits.eval))
    backbone.say = say
    say(f"trainable: {backbone.trainable:,} / {backbone.total:,} ({100 * backbone.trainable / backbone.total:.4f}%)")
    train, heldout, test, cached = _data_sets(backbone, splits, share, config, say, progress)
    for line in backbone.findings():
        say(line)
    drawing = drawing_test(backbone, splits.eval, config)
    tell(_setup_record(backbone, splits, share, cached) | {"seconds": round(time.monotonic() - begun, 3)})
    last, no_better = time.monotonic(), _Patience()

    def score(epoch: int, loss: float | None) -> tuple[Scores, Scores, bool]:
        """The scores on the evaluation data and on held-out rows, and whether this epoch is the last one."""
        nonlocal last
        scores, every = evaluate(backbone, test, config, progress), config.geneval_every
        own = evaluate(backbone, heldout, config, progress, "scoring held-out rows") if heldout is not None else {}
        ends = 0 < config.patience <= no_better.count(own or scores) or epoch == config.num_epochs
        if drawing and (epoch == 0 or ends or (every and epoch % every == 0)):
            scores[GENEVAL.name] = drawing.score(backbone, progress, folder and folder / DRAWINGS / f"epoch-{epoch}")
        now = time.monotonic()
        tell(
            _epoch_record(config, epoch, loss, scores)
            | _heldout(own)
            | {"seconds": round(now - last, 3), "elapsed": round(now - begun, 3)}
        )
        last = now
        return scores, own, ends

    before, heldout_before, _ = score(0, None)
    say(f"untrained: {_described(before, heldout_before)}")
    after, heldout_after, epochs = before, heldout_before, 0
    file = folder / STEPS / f"{CENTRAL}.jsonl" if folder else None
    losses = StepLosses(file, points_of_a_part(config.num_epochs)) if file else None

    def after_epoch(epoch: int, loss: float) -> bool:
        nonlocal after, heldout_after, epochs
        if losses:
            losses.end(epoch)
        if not math.isfinite(loss):
            raise DivergedError(f"The training loss is {loss} in epoch {epoch}: lower --lr.")
        (after, heldout_after, ends), epochs = score(epoch, loss), epoch
        say(f"Epoch {epoch}/{config.num_epochs}  loss={loss:.4f}  {_described(after, heldout_after)}")
        if ends and epoch < config.num_epochs:
            say(f"stopping: the last {no_better.since} epoch(s) were no better than the best one before (--patience)")
        return ends

    train_epochs(
        backbone, train, config, config.num_epochs, derive(config.seed, "central"), train_progress, after_epoch,
        on_step=losses.add if losses else None,
    )  # fmt: skip
    return CentralResult(
        backbone.adapter(), backbone.adapter_config(), before, after, epochs, heldout_before, heldout_after
    )


def _heldout(scores: Scores) -> dict[str, Any]:
    return summary("heldout", scores) if scores else {}


def _described(test: Scores, heldout: Scores) -> str:
    return describe(test) + (f"  held out: {describe(heldout)}" if heldout else "")


def _setup_record(
    backbone: Backbone, splits: DataSplits, share: ClientShare, cached: list[CacheReport]
) -> dict[str, Any]:
    return {
        "event": "setup",
        "train": len(share.train),
        "heldout": len(share.heldout),
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
    backbone: Backbone,
    splits: DataSplits,
    share: ClientShare,
    config: CentralConfig,
    say: Callable[[str], None],
    progress: Progress,
) -> tuple[Any, Any, Any, list[CacheReport]]:
    """Training, held-out (None: there is none) and test set, with what frozen stages make of them in the cache."""
    pool, tests = (DatasetPool(backbone, rows, config, range(len(rows))) for rows in (splits.train, splits.eval))
    whole, test = (
        own.part(range(len(rows))) if own.whole is None else own.whole
        for own, rows in ((pool, splits.train), (tests, splits.eval))
    )
    passes = config.num_epochs, config.num_epochs + 1
    cached = cache_features(backbone, [whole, test], config, progress, ("training", "evaluation"), passes)
    for line in filter(None, (report.describe() for report in cached)):
        say(line)
    if not len(share.heldout):
        return whole, None, test, cached
    return pool.part(share.train.tolist()), pool.part(share.heldout.tolist()), test, cached
