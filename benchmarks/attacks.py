#!/usr/bin/env python
"""What one bad client of eight does to a round, attack by aggregator, and how far honest updates spread.

    python benchmarks/attacks.py

Honest updates are those of eight clients of the shipped `tiny` of `blip_vqa` on 640 questions of easy-VQA (learning
rate 1e-3, seed 1), in the third round of `fedavg`. In that round the last client sends something else, and each
aggregator makes its result of all that the server's checks let through. Shown is the part of the mean step of the
eight honest clients that is in the result: the projection of the change of all s B A (and W0) on it; 1 is an honest
step, 0 none, below 0 backwards. "Checks off" is what the same update did if it were not rejected. "Spread" is how long
honest updates are, as a share of what the others of the round suggest; the limit is three times that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from common import Table, main, run_once
from fedumm.adapters import AdapterState
from fedumm.adapters.factors import modules_of
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import AggregationResult, ClientContribution
from fedumm.compression.packing import pack
from fedumm.config import FederateConfig
from fedumm.federation.server.outliers import directions, judge, lengths, unusual
from fedumm.federation.server.rejection import RejectedError
from fedumm.federation.server.round_aggregation import RoundAggregation
from fedumm.federation.server.validation import Accepted, examine
from fedumm.training.threads import cores

AGGREGATORS = ("fedavg", "fedex_lora", "svd", "flora", "median", "trimmed_mean", "krum")
CONFIG = FederateConfig(
    model_backend="blip_vqa", model_name_or_path="tiny", dataset="easy_vqa", num_clients=8, num_rounds=3, lr=1e-3,
    max_train_samples=640, max_eval_samples=20, threads=1, in_process=True, seed=1,
)  # fmt: skip
ALPHAS = (0.1, 1.0)
Attack = Callable[[AdapterState, AdapterState], AdapterState]
"""From what the client trained and what it started from."""


def longer(factor: float) -> Attack:
    return lambda sent, start: {name: start[name] + factor * (t - start[name]) for name, t in sent.items()}


ATTACKS: dict[str, Attack] = {
    "none": longer(1.0),
    "turned over": longer(-1.0),
    "turned over, 2.9 times as long": longer(-2.9),
    "turned over, 9.5 times as long": longer(-9.5),
    "2.9 times as long": longer(2.9),
    "(-B)(-A)": lambda sent, start: {name: -t for name, t in sent.items()},
    "noise of its length": lambda sent, start: noise(sent, start),
    "nothing learnt": longer(1e-6),
}


def noise(sent: AdapterState, start: AdapterState) -> AdapterState:
    """Of each tensor's own norm."""
    generator = torch.Generator().manual_seed(0)
    result = {}
    for name, tensor in sent.items():
        drawn = torch.randn(tensor.shape, generator=generator)
        result[name] = start[name] + drawn * ((tensor - start[name]).norm() / drawn.norm())
    return result


@contextmanager
def rounds_kept() -> Iterator[list[list[Accepted]]]:
    """The updates that counted, round by round, of runs inside."""
    kept: list[list[Accepted]] = []
    real = RoundAggregation.aggregate

    def aggregate(self: RoundAggregation, number: int, accepted: Sequence[Accepted], clients: int) -> Any:
        kept.append(list(accepted))
        return real(self, number, accepted, clients)

    RoundAggregation.aggregate = aggregate  # type: ignore[method-assign, assignment]
    try:
        yield kept
    finally:
        RoundAggregation.aggregate = real  # type: ignore[method-assign]


def step(result: AggregationResult, start: AdapterState, scale: float) -> dict[str, torch.Tensor]:
    """What all modules' weights change by, in float64."""
    moved = {}
    for module, (a, b) in modules_of(start).items():
        new, old = (state[b].double() @ state[a].double() for state in (result.adapter, start))
        moved[module] = scale * (new - old)
        if module in result.change:
            left, right = result.change[module]
            moved[module] += left.double() @ right.double()
    return moved


def combined(name: str, accepted: Sequence[Accepted]) -> dict[str, torch.Tensor]:
    scale, start = CONFIG.alpha / CONFIG.rank, dict(accepted[0].expected.start)
    method = get_aggregator(name).from_config(CONFIG)
    method.begin(start, scale, 0)
    for one in accepted:
        method.add(ClientContribution(one.update.client, one.adapter(), one.update.num_samples, scale))
    return step(method.finish(), start, scale)


def share(found: dict[str, torch.Tensor], honest: dict[str, torch.Tensor]) -> float:
    dot = sum(float((found[module] * t).sum()) for module, t in honest.items())
    return dot / sum(float(t.square().sum()) for t in honest.values())


def attacked(honest: Sequence[Accepted], attack: Attack) -> Accepted | str:
    """The last client's update after the checks that need no other, or why it has none."""
    own = honest[-1]
    state = attack(own.adapter(), dict(own.expected.start))
    state = {name: t.to(own.expected.start[name].dtype) for name, t in state.items()}
    try:
        return examine(replace(own.update, adapter=pack(state, "float32", own.expected.spec)), own.expected)
    except RejectedError as error:
        return str(error)


def rows(alpha: float) -> tuple[list[list[str]], list[list[str]]]:
    """The attacks' rows at one alpha, and the spread of honest updates."""
    with rounds_kept() as kept:
        run_once(replace(CONFIG, dirichlet_alpha=alpha))
    honest = kept[-1]
    ideal = combined("fedex_lora", honest)
    table = []
    for name, attack in ATTACKS.items():
        bad = attacked(honest, attack)
        assert isinstance(bad, Accepted), bad
        everybody = [*honest[:-1], bad]
        good, rejected = judge({one.update.client: one for one in everybody}, CONFIG)
        client = bad.update.client
        counted = list(good.values())
        told = unusual(counted, directions(counted))
        fate = "rejected" if client in rejected else "line" if client in told else "admitted"
        shown = [("", counted)] + ([(", checks off", everybody)] if client in rejected else [])
        for what, accepted in shown:
            cells = [f"{share(combined(method, accepted), ideal):.2f}" for method in AGGREGATORS]
            table.append([f"{alpha:g}", name + what, "-" if what else fate, *cells])
    return table, [spread_row(alpha, kept)]


def spread_row(alpha: float, kept: Sequence[Sequence[Accepted]]) -> list[str]:
    norms, products, cosines, facing = (
        [value for accepted in kept for value in values(accepted)]
        for values in (
            lambda a: lengths(a, lambda one: one.norm).values(),
            lambda a: lengths(a, lambda one: one.product).values(),
            lambda a: directions(a).values(),
            lambda a: [one.facing for one in a],
        )
    )
    spans = [f"{min(values):.2f} to {max(values):.2f}" for values in (norms, products, cosines)]
    return [f"{alpha:g}", str(len(norms)), *spans, f"{min(facing):.3f}"]


def run() -> list[Table]:
    with ProcessPoolExecutor(max_workers=cores()) as pool:
        found = list(pool.map(rows, ALPHAS))
    attacks = Table(
        "The part of an honest step that is left, eight clients of which one attacks",
        ["alpha", "attack", "fate", *AGGREGATORS], [row for own, _ in found for row in own],
    )  # fmt: skip
    honest = Table(
        "How far honest updates of three rounds spread, without an attack",
        ["alpha", "updates", "length against the others'", "products' length", "cosine with the others'", "A, cosine"],
        [row for _, own in found for row in own],
    )
    return [attacks, honest]


if __name__ == "__main__":
    main("attacks", __doc__, run)
