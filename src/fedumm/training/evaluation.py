"""Scoring a backbone on a data set, as many samples at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedumm.backends.protocol import Progress, SampleScore, ScoresSamples
from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.metrics.evaluation import Evaluation, Scores
from fedumm.training.backbone import Backbone
from fedumm.training.batching import Batch, cut, evaluation_batches
from fedumm.training.device import ends_when_full, moved
from fedumm.training.fitting import half, halve, token_budget
from fedumm.training.loading import is_cached, loader

OPTION = "--eval_batch_size"


def evaluate(
    backbone: Backbone, dataset: Any, config: RunConfig, progress: Progress | None = None, what: str = "scoring"
) -> Scores:
    """Score the backbone with its present adapter, task by task.

    A batch for which memory runs out is tried again in halves: scores are the same, to rounding.

    Args:
        progress: told how many samples are scored.
        what: this is called, in words.

    Raises:
        FedummError: there is no memory for a single sample.
    """
    backbone.model.eval()
    backend = backbone.backend
    told = (lambda done: progress(what, done, len(dataset))) if progress else None
    if not isinstance(backend, ScoresSamples):
        batches = _batches(backbone, dataset, config)
        return {config.tasks[0]: Evaluation(_score(backbone, dataset, batches, config), len(dataset), {})}
    by_task: dict[str, list[SampleScore]] = {}
    for batch, scores in _score_batches(backbone, backend, dataset, config, told):
        by_task.setdefault(batch.task, []).extend(scores)
    return {task: evaluation_of(own) for task, own in by_task.items()}


def score_samples(
    backbone: Backbone, dataset: Any, config: RunConfig, progress: Progress | None = None
) -> list[SampleScore]:
    """The score of each sample of ``dataset``, in its order; as :func:`evaluate` takes the means of.

    Raises:
        FedummError: the backend scores whole data sets only, or there is no memory for a single sample.
    """
    backbone.model.eval()
    backend = backbone.backend
    if not isinstance(backend, ScoresSamples):
        raise FedummError(f"The backend {config.model_backend!r} scores no single samples: it has no score_batch.")
    told = (lambda done: progress("scoring", done, len(dataset))) if progress else None
    by_place: dict[int, SampleScore] = {}
    for batch, scores in _score_batches(backbone, backend, dataset, config, told):
        by_place |= zip(batch.rows, scores, strict=True)
    return [by_place[place] for place in range(len(dataset))]


def _batches(backbone: Backbone, dataset: Any, config: RunConfig) -> list[Batch]:
    most = config.eval_batch_size or config.batch_size * (32 if is_cached(backbone, dataset) else 8)
    return evaluation_batches(dataset, config, most, None if config.eval_batch_size else token_budget(backbone))


def _within_limits(backbone: Backbone, batches: Sequence[Batch]) -> list[Batch]:
    """``batches`` cut to sizes that memory has not run out with."""
    return cut(batches, lambda batch: backbone.limits.get(batch.task))


def _halve(backbone: Backbone, task: str, size: int) -> None:
    halve(backbone, task, size, f"{OPTION} {half(size)}")


def _score(backbone: Backbone, dataset: Any, batches: Sequence[Batch], config: RunConfig) -> float:
    """The backend's own mean. It is one call for all batches, so all are scored again where one does not fit."""
    while True:
        batches = _within_limits(backbone, batches)
        with ends_when_full(), backbone.autocast():
            loaded = loader(backbone, dataset, batches, config)
            return float(backbone.backend.evaluate(backbone.model, loaded, backbone.processor, backbone.device))
        _halve(backbone, batches[0].task, max(len(batch.rows) for batch in batches))


def _score_batches(
    backbone: Backbone, backend: ScoresSamples, dataset: Any, config: RunConfig, told: Callable[[int], None] | None
) -> list[tuple[Batch, list[SampleScore]]]:
    """The score of each sample of each batch.

    Args:
        told: how many samples are done.
    """
    scored: list[tuple[Batch, list[SampleScore]]] = []
    waiting = _within_limits(backbone, _batches(backbone, dataset, config))

    def more(done: int) -> None:
        if told:
            told(sum(len(batch.rows) for batch, _ in scored) + done)

    while waiting:
        done = _score_until_full(backbone, backend, loader(backbone, dataset, waiting, config), more)
        scored += zip(waiting, done, strict=False)
        waiting = waiting[len(done) :]
        if waiting:
            _halve(backbone, waiting[0].task, len(waiting[0].rows))
            waiting = _within_limits(backbone, waiting)
    for batch, scores in scored:
        if len(batch.rows) != len(scores):
            raise FedummError(f"The backend's score_batch gave {len(scores)} scores for {len(batch.rows)} samples.")
    return scored


def _score_until_full(
    backbone: Backbone, backend: ScoresSamples, loaded: Any, told: Callable[[int], None]
) -> list[list[SampleScore]]:
    """The scores of each batch, up to the first for which memory does not suffice.

    Args:
        told: how many samples are done.
    """
    done = list[list[SampleScore]]()
    with ends_when_full(), backbone.autocast():
        for batch in loaded:
            there = moved(batch, backbone.device)
            done.append(backend.score_batch(backbone.model, there, backbone.processor, backbone.device))
            told(sum(map(len, done)))
    return done


def evaluation_of(samples: Sequence[SampleScore]) -> Evaluation:
    """The means of samples of one task, of which there is one at least."""
    by_name: dict[str, list[float]] = {}
    for sample in samples:
        by_name.setdefault(sample.part, []).append(sample.score)
    parts = {name: (sum(own) / len(own), len(own)) for name, own in sorted(by_name.items()) if name}
    losses = [sample.loss for sample in samples if sample.loss is not None]
    loss = sum(losses) / len(losses) if losses else None
    names = sorted(samples[0].others)
    others = {name: sum(sample.others[name] for sample in samples) / len(samples) for name in names}
    return Evaluation(sum(sample.score for sample in samples) / len(samples), len(samples), parts, loss, others)
