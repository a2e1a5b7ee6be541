#!/usr/bin/env python
"""Accuracy with 0 to 3 hostile clients of ten, attack by aggregator.

    python benchmarks/hostile.py

Federates the shipped `tiny` of `blip_vqa` on 640 questions of easy-VQA: 10 clients, Dirichlet 1.0 over the answers, 4
rounds of one epoch, batches of 32, learning rate 4e-3, a twentieth of the images held out, seed 1. The last one, two or
three clients are hostile in every round and know what the others send. The server's checks are on. Shown is the last
adapter's accuracy on 300 questions of the common test set, in percent; "rejected" counts the updates of hostile and of
honest clients that the checks refused, over all aggregators of the row.

- label flip: trained on false answers, the next in the alphabet of its kind (colours, shapes, yes and no), the same for
  all who are hostile.
- label flip, just under: the same update, as long as it can be without being rejected.
- label flip, x 10: ten times as long.
- model replacement (Bagdasaryan et al., 2020): as long as it takes to make the weighted mean the attackers' model.
- sign flip: honestly trained, sent turned over.

Whoever is rejected leaves the bits of a run without it, so what is hardly ever admitted is tried on `fedavg` alone.
"Checks off" is model replacement with `--max_update_norm 1e9`, under which no length is too long, on some of them.
`multi-krum` is `krum` with `--krum_keep 5`. Held-out scores and the aggregation error, which are not shown, are not
computed. One seed: a difference below about 5 points says little (of 300 questions at 90 % the standard error of one
number is 1.7 points).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from common import Table, main, run_once
from fedumm.adapters import AdapterState
from fedumm.compression.packing import pack
from fedumm.config import FederateConfig
from fedumm.federation.assignment import client_names
from fedumm.federation.client.client import Client
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import ClientUpdate, DataStats, DataStatsRequest, RoundTask
from fedumm.federation.server.outliers import limits, product_limits
from fedumm.federation.server.round_aggregation import RoundAggregation
from fedumm.federation.server.screening import Screened, Screening
from fedumm.federation.server.validation import Accepted, examine, product_norm
from fedumm.run_options import from_mapping, to_mapping

CONFIG = FederateConfig(
    model_backend="blip_vqa", model_name_or_path="tiny", dataset="easy_vqa", num_clients=10, num_rounds=4,
    batch_size=32, grad_accum=1, lr=4e-3, holdout=0.05, max_train_samples=640, max_eval_samples=300,
    dirichlet_alpha=1.0, threads=1, in_process=True, seed=1,
)  # fmt: skip
AGGREGATORS: dict[str, dict[str, Any]] = {
    "fedavg": {"aggregator": "fedavg"},
    "median": {"aggregator": "median"},
    "trimmed_mean": {"aggregator": "trimmed_mean"},
    "krum": {"aggregator": "krum"},
    "multi-krum": {"aggregator": "krum", "krum_keep": 5},
}
Length = Callable[[Mapping[str, Accepted], str, Sequence[str]], float]
"""From all updates of a round, a hostile client and all who are: what its update is multiplied by."""


def just_under(accepted: Mapping[str, Accepted], client: str, hostile: Sequence[str]) -> float:
    """The largest factor with which neither the update nor what it moves products by is too long."""
    own, everybody = accepted[client], list(accepted.values())
    longest = limits(everybody, 0.0, CONFIG.lr)[client]
    widest = product_limits(everybody, CONFIG.lr)[client]
    start, state = own.expected.start, own.adapter()
    low, high = 0.0, longest / own.norm
    for _ in range(30):
        middle = (low + high) / 2
        fits = product_norm(longer(state, start, middle), start) <= widest
        low, high = (middle, high) if fits else (low, middle)
    return 0.99 * low


def replacing(accepted: Mapping[str, Accepted], client: str, hostile: Sequence[str]) -> float:
    samples = {name: one.update.num_samples for name, one in accepted.items()}
    return sum(samples.values()) / sum(samples[name] for name in hostile)


@dataclass(frozen=True)
class Attack:
    """What hostile clients do: whether they train on false answers, and how long their updates are. Of the run: other
    options, and which aggregators it is tried on (none: all)."""

    flips: bool
    length: Length
    options: Mapping[str, Any] | None = None
    tried_on: tuple[str, ...] = ()


ATTACKS = {
    "label flip, just under": Attack(True, just_under),
    "model replacement": Attack(True, replacing, tried_on=("fedavg",)),
    "model replacement, checks off": Attack(True, replacing, {"max_update_norm": 1e9}, ("fedavg", "median", "krum")),
    "label flip": Attack(True, lambda *_: 1.0),
    "sign flip": Attack(False, lambda *_: -1.0),
    "label flip, x 10": Attack(True, lambda *_: 10.0, tried_on=("fedavg",)),
}
COUNTS = (1, 2, 3)


def longer(state: AdapterState, start: Mapping[str, Any], factor: float) -> AdapterState:
    return {name: start[name] + factor * (t - start[name]) for name, t in state.items()}


def false_answers(rows: Any, chosen: set[int]) -> Any:
    """``rows`` with the next answer of its kind in the alphabet in each of the chosen ones."""
    answers, kinds = rows["multiple_choice_answer"], rows["answer_type"]
    following: dict[str, str] = {}
    for kind in set(kinds):
        own = sorted({a for a, k in zip(answers, kinds, strict=True) if k == kind})
        following |= dict(zip(own, [*own[1:], own[0]], strict=True))
    changed = [following[a] if i in chosen else a for i, a in enumerate(answers)]
    column = rows.features["multiple_choice_answer"]
    return rows.remove_columns("multiple_choice_answer").add_column("multiple_choice_answer", changed, feature=column)


@contextmanager
def hostile_clients(attack: Attack | None, hostile: Sequence[str]) -> Iterator[None]:
    """In runs inside, these clients attack: their host has false rows, and the server is sent other updates.

    What is not shown is not computed: held-out scores and the aggregation error.
    """
    load, screen, score, error = Host._load_data, Screening.screen, Client._score, RoundAggregation._aggregation_error

    def load_falsely(self: Host, request: DataStatsRequest) -> DataStats:
        stats = load(self, request)
        if attack and attack.flips and self.data:
            shares = self.data.partition.shares
            rows = {int(row) for client in hostile for row in shares[client].train}
            splits = replace(self.data.splits, train=false_answers(self.data.splits.train, rows))
            self.data = replace(self.data, splits=splits)
        return stats

    def screen_attacked(
        self: Screening, task: RoundTask, updates: Mapping[str, ClientUpdate], digests: Mapping[str, str]
    ) -> Screened:
        sent = dict(updates)
        if attack:
            accepted = {c: examine(own, self._expected(task, c, digests.get(c, ""))) for c, own in sent.items()}
            for client in hostile:
                one = accepted[client]
                factor = attack.length(accepted, client, hostile)
                state = longer(one.adapter(), one.expected.start, factor)
                sent[client] = replace(one.update, adapter=pack(state, "float32", one.expected.spec))
        return screen(self, task, sent, digests)

    Host._load_data, Screening.screen = load_falsely, screen_attacked  # type: ignore[method-assign]
    Client._score = lambda self: ({}, 0.0)  # type: ignore[method-assign]
    RoundAggregation._aggregation_error = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Host._load_data, Screening.screen = load, screen  # type: ignore[method-assign]
        Client._score, RoundAggregation._aggregation_error = score, error  # type: ignore[method-assign]


@dataclass(frozen=True)
class Outcome:
    """One run: accuracy before and after, and how many updates of whom were rejected."""

    untrained: float
    test: float
    hostile_rejected: int
    honest_rejected: int


def one_run(aggregator: str, attack: Attack | None, count: int) -> Outcome:
    options = {**to_mapping(CONFIG), **AGGREGATORS[aggregator], **((attack and attack.options) or {})}
    hostile = client_names(CONFIG.num_clients)[CONFIG.num_clients - count :]
    with hostile_clients(attack, hostile):
        records = run_once(from_mapping(FederateConfig, options))
    (summary,) = [r for r in records if r["event"] == "summary"]
    rejected = [r["client"] for r in records if r["event"] == "client" and r["rejected"]]
    bad = sum(client in hostile for client in rejected)
    return Outcome(summary["untrained"]["test"], summary["last"]["test"], bad, len(rejected) - bad)


def row(name: str, count: int, outcomes: Mapping[str, Outcome]) -> list[str]:
    """One attack's with so many hostile clients, from its runs by aggregator."""
    updates, runs = CONFIG.num_rounds * len(outcomes), outcomes.values()
    bad, good = sum(o.hostile_rejected for o in runs), sum(o.honest_rejected for o in runs)
    fates = [f"{bad} of {updates * count}" if count else "-", f"{good} of {updates * (CONFIG.num_clients - count)}"]
    accuracies = [f"{100 * outcomes[a].test:.1f}" if a in outcomes else "-" for a in AGGREGATORS]
    return [name, str(count), *accuracies, *fates]


def run() -> list[Table]:
    cells: list[tuple[str, Attack | None, int]] = [("none", None, 0)]
    cells += [(name, attack, count) for name, attack in ATTACKS.items() for count in COUNTS]
    rows, untrained = [], 0.0
    for name, attack, count in cells:
        tried_on = (attack and attack.tried_on) or AGGREGATORS
        outcomes = {aggregator: one_run(aggregator, attack, count) for aggregator in tried_on}
        untrained = outcomes["fedavg"].untrained
        rows.append(row(name, count, outcomes))
        print(*rows[-1], flush=True)
    title = f"Accuracy, %, ten clients of which some are hostile; untrained {100 * untrained:.1f}"
    return [Table(title, ["attack", "hostile", *AGGREGATORS, "rejected, hostile", "rejected, honest"], rows)]


if __name__ == "__main__":
    main("hostile", __doc__, run)
