"""An update against the others of its round: products as well as factors, and what is admitted with a line."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedumm.adapters import AdapterState, spec_of
from fedumm.compression.packing import pack
from fedumm.config import FederateConfig
from fedumm.federation.protocol.messages import ClientUpdate, Message, RoundTask
from fedumm.federation.server.outliers import OUTLIER, directions, judge, unusual
from fedumm.federation.server.validation import Accepted, Expected, examine, facing, product_norm
from fedumm.report.console import RunConsole
from fedumm.report.run_folder import read_records
from support.hostile import values
from support.toy import Driven, lora_options, toy_config

A, B, BIAS = "x.lora_A.weight", "x.lora_B.weight", "head.bias"
SHAPES = {A: (2, 40), B: (30, 2), BIAS: (5,)}
CONFIG = toy_config(lr=1e-9)


def drawn(seed: int, size: float = 1.0) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


START = drawn(0)


def examined(client: str, state: AdapterState) -> Accepted:
    spec = spec_of(START)
    expected = Expected(1, spec, frozenset(spec), START, 10, 0, {"vqa": 10}, 2, "float32", 1.0)
    return examine(
        ClientUpdate(
            client=client, round=1, adapter=pack(state, "float32", spec), num_samples=10, steps=2, train_loss=1.0
        ),
        expected,
    )


def moved(seed: int, size: float = 0.02) -> AdapterState:
    """All clients learn something in common, and as much of their own."""
    return {n: START[n] + size * (c + o) for (n, c), o in zip(drawn(99).items(), drawn(seed).values(), strict=True)}


HONEST = [examined(f"site-{k}", moved(k)) for k in range(1, 8)]


def judged(bad: AdapterState, config: FederateConfig = CONFIG) -> tuple[dict[str, Accepted], dict[str, str]]:
    """Who stays, and the codes of those who do not."""
    kept, rejected = judge({one.update.client: one for one in [*HONEST, examined("site-8", bad)]}, config)
    return kept, {client: rejection.code for client, rejection in rejected.items()}


def longer(factor: float, state: AdapterState) -> AdapterState:
    return {name: START[name] + factor * (t - START[name]) for name, t in state.items()}


@given(st.integers(0, 10**6), st.sampled_from([(A,), (B,), (A, B), (A, B, BIAS)]))
def test_the_products_move_as_they_do_when_they_are_formed(seed: int, sent: Sequence[str]) -> None:
    state = {name: t for name, t in drawn(seed).items() if name in sent}
    whole = {**START, **state}
    change = whole[B].double() @ whole[A].double() - START[B].double() @ START[A].double()
    assert product_norm(state, START) == pytest.approx(float(change.norm()), rel=1e-6, abs=1e-6)


def test_which_way_a_faces() -> None:
    assert facing(START, START) == pytest.approx(1.0)
    assert facing({A: -START[A]}, START) == pytest.approx(-1.0)
    assert facing({B: -START[B]}, START) == facing({A: START[A]}, {A: 0 * START[A]}) == 1.0, "nothing to tell by"


def test_honest_clients_are_admitted_without_a_line() -> None:
    good, problems = judged(moved(8))
    assert len(good) == 8
    assert not problems
    assert unusual(list(good.values()), directions(list(good.values()))) == {}


def test_factors_turned_about_with_an_honest_product_are_rejected() -> None:
    honest = moved(8)
    bad = {A: -honest[A], B: -honest[B], BIAS: honest[BIAS]}
    assert examined("site-8", bad).product == pytest.approx(examined("site-8", honest).product, rel=1e-5)
    for options, why in (({}, "norm"), ({"max_update_norm": 1e6}, "direction")):
        good, problems = judged(bad, toy_config(**options))
        assert problems == {"site-8": why}, "whatever length is allowed"
        assert good.keys() == {f"site-{k}" for k in range(1, 8)}


@pytest.mark.parametrize("over", ["reject", "clip"])
def test_products_that_move_too_far_are_rejected_though_the_factors_do_not(over: str) -> None:
    """All that the factors may move goes along the start's largest singular direction."""
    u = torch.linalg.svd(START[A], full_matrices=False).U
    common = math.sqrt(sum(one.norm**2 for one in HONEST) / 7)
    bad = moved(8, 1e-4) | {B: START[B] + 2.9 * common * torch.outer(torch.full((30,), 30**-0.5), u[:, 0])}
    good, problems = judged(bad, toy_config(lr=1e-9, over_norm=over))
    if over == "reject":
        assert problems == {"site-8": "product"}
        return
    limited = good["site-8"]
    assert product_norm(limited.adapter(), START) < 0.9 * limited.product


@pytest.mark.parametrize(("factor", "text"), [(-1.0, "against"), (2.0, "2 times as long"), (-2.5, "suggest, against")])
def test_what_is_unusual_is_admitted_with_a_line(factor: float, text: str) -> None:
    good, problems = judged(longer(factor, moved(8)))
    assert not problems
    told = unusual(list(good.values()), directions(list(good.values())))
    assert told.keys() == {"site-8"}
    assert text in told["site-8"]


def test_beyond_the_limit_it_is_rejected_and_the_mean_can_not_be_turned() -> None:
    _, problems = judged(longer(-1.1 * OUTLIER, moved(8)))
    assert problems == {"site-8": "norm"}
    good, _ = judged(longer(-0.9 * OUTLIER, moved(8)))
    mean = sum(one.adapter()[B] - START[B] for one in good.values()) / 8
    honest = sum(one.adapter()[B] - START[B] for one in HONEST) / 7
    assert float((mean * honest).sum() / honest.square().sum()) > 0.4


def test_directions_by_brute_force() -> None:
    everybody = [*HONEST[:4], examined("site-8", START), replace(examined("site-9", longer(5, moved(9))), limit=0.1)]
    found = directions(everybody)
    rows = {
        one.update.client: torch.cat([(one.adapter()[n].double() - START[n].double()).flatten() for n in SHAPES])
        for one in everybody
    }
    for client, own in rows.items():
        rest = sum(row / row.norm() for name, row in rows.items() if name != client and row.norm())
        expected = float(own @ rest / (own.norm() * rest.norm())) if own.norm() else 0.0
        assert found[client] == pytest.approx(expected, abs=1e-5)


def test_an_unusual_update_is_on_the_screen_and_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Driven._send

    def send(self: Driven, message: Message) -> dict[str, Message]:
        answers = real(self, message)
        if isinstance(message, RoundTask) and message.round == 2:
            turn = values(lambda t, start: start - 2.0 * (t - start))
            spec, start = self.server.aggregation.spec, self.server.adapter
            own = answers["host-1"].updates  # type: ignore[union-attr]
            own[-1] = turn(own[-1], own[-1], spec, start)
        return answers

    monkeypatch.setattr(Driven, "_send", send)
    config = toy_config(**lora_options(num_clients=4, dirichlet_alpha=0.0, num_rounds=2))
    run = Driven(tmp_path / "run", {"host-1": [f"site-{k}" for k in range(1, 5)]}, config)
    (record,) = [r for r in read_records(run.folder) if r["event"] == "unusual"]
    assert (record["round"], record["client"]) == (2, "site-4")
    screen = io.StringIO()
    RunConsole(Console(file=screen, width=200)).show(record)
    assert screen.getvalue() == f"  round 2: site-4 counts, but is unusual: {record['text']}\n"
