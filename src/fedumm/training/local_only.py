"""The baseline without an exchange: each client alone, for as many epochs as in a federated run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedumm.adapters import AdapterState
from fedumm.adapters.factors import at_rank
from fedumm.backends.protocol import Progress
from fedumm.config import FederateConfig
from fedumm.errors import DivergedError
from fedumm.metrics.evaluation import Scores, summary
from fedumm.seeds import derive
from fedumm.step_losses import StepLosses
from fedumm.training.backbone import Backbone
from fedumm.training.evaluation import evaluate
from fedumm.training.trainer import train_epochs


@dataclass(frozen=True)
class ClientData:
    """One client's data sets, made by the backend: its own rows, those that it holds out, the common test set.

    ``heldout`` and ``test`` are None where there are no such rows.
    """

    train: Any
    heldout: Any
    test: Any


def epochs_of(config: FederateConfig) -> int:
    """The epochs that a client trains which takes part in every round."""
    return config.num_rounds * config.local_epochs


def train_alone(
    backbone: Backbone, first: AdapterState, client: str, data: ClientData, config: FederateConfig, progress: Progress,
    losses: StepLosses | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train one client's adapter from ``first``, with nobody else's help, and score it.

    As in central training, one optimiser goes through all epochs. What is random follows from the seed and the client's
    name, so no client depends on which others were trained before. FedProx, SCAFFOLD and privacy are about an
    exchange, and so have no part in it.

    Args:
        losses: keeps the loss of each step.

    Returns:
        The record ``local`` of ``metrics.jsonl``, without seconds.

    Raises:
        DivergedError: the loss is no longer a number.
    """
    put_first(backbone, first, client, config)
    before = _score(backbone, data.heldout, config, progress, f"scoring the untrained adapter on {client}")
    seed = derive(config.seed, "local only", client)
    result = train_epochs(
        backbone, data.train, config, epochs_of(config), seed,
        lambda done, total, loss: progress(f"training {client} alone  loss {loss:.3f}", done, total),
        (lambda epoch, _: losses.end(epoch)) if losses else None, on_step=losses.add if losses else None,
    )  # fmt: skip
    if not math.isfinite(result.loss):
        raise DivergedError(f"The training loss of {client} is {result.loss}: lower --lr.")
    return {
        "event": "local",
        "client": client,
        "num_samples": result.samples,
        "steps": result.steps,
        "train_loss": result.loss,
        "train_losses": result.losses,
        **summary("heldout_before", before),
        **summary("heldout", _score(backbone, data.heldout, config, progress, f"scoring {client}")),
        **summary("test", _score(backbone, data.test, config, progress, f"scoring {client} on the common test set")),
    }


def put_first(backbone: Backbone, first: AdapterState, client: str, config: FederateConfig) -> None:
    """Put the untrained adapter onto the backbone, at the client's rank."""
    if config.equal_ranks:
        backbone.put(first)
    else:
        backbone.put_at_rank(at_rank(first, config.rank_of(client)), config.scale_of(client))


def score_untrained(
    backbone: Backbone, first: AdapterState, test: Any, config: FederateConfig, progress: Progress
) -> dict[str, Any]:
    """What the untrained adapter reaches on the common test set: ``test`` and ``test_tasks``."""
    backbone.put(first)
    return summary("test", _score(backbone, test, config, progress, "scoring the untrained adapter"))


def _score(backbone: Backbone, dataset: Any, config: FederateConfig, progress: Progress, what: str) -> Scores:
    return {} if dataset is None else evaluate(backbone, dataset, config, progress, what)


def spread_over_clients(records: Sequence[Mapping[str, Any]], name: str) -> dict[str, float] | None:
    """Mean, spread (standard deviation of the population that the clients are) and worst of the clients' scores.

    Args:
        records: those that :func:`train_alone` returns.
        name: ``test`` or ``heldout``.

    Returns:
        ``mean``, ``spread``, ``worst``; None if no client has such a score.
    """
    scores = [float(record[name]) for record in records if record.get(name) is not None]
    if not scores:
        return None
    return {"mean": statistics.fmean(scores), "spread": statistics.pstdev(scores), "worst": min(scores)}
