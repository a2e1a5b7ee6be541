"""What a round's updates come to, against the papers' formulas in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedumm.adapters import AdapterState, decode, spec_of
from fedumm.adapters.state import part
from fedumm.compression.packing import pack
from fedumm.federation.client.client_state import CONTROL
from fedumm.federation.protocol.messages import ClientUpdate
from fedumm.federation.protocol.transfer import unpack_payload
from fedumm.federation.server.round_aggregation import RoundAggregation
from fedumm.federation.server.validation import Accepted, Expected, examine
from fedumm.privacy.plan import DPPlan
from fedumm.training.gradient_correction import ControlVariates
from support.lora_round import adapter, array, distance, product
from support.toy import Driven, lora_options, toy_config

START = adapter(0)
SPEC = spec_of(START)
# Neither samples nor steps, nor their squares, weigh clients alike.
SAMPLES = {"site-1": (10, 2), "site-2": (30, 3), "site-3": (60, 16)}


def accepted(client: str, trained: AdapterState, control: AdapterState | None = None) -> Accepted:
    samples, steps = SAMPLES[client]
    spec = spec_of(trained)
    start = {name: START[name][tuple(slice(n) for n in t.shape)] for name, t in trained.items()}
    expected = Expected(
        1, spec, frozenset(spec), start, samples, 0, {"vqa": samples}, steps, "float32", 1.0,
        control=control is not None,
    )  # fmt: skip
    sent = pack(trained, "float32", spec), b"" if control is None else pack(control, "float32", spec)
    return examine(
        ClientUpdate(
            client=client, round=1, adapter=sent[0], num_samples=samples, steps=steps, train_loss=1.0, control=sent[1]
        ),
        expected,
    )


def assert_close(found: AdapterState, wanted: dict[str, np.ndarray], atol: float = 1e-6) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(array(tensor), wanted[name], rtol=1e-6, atol=atol, err_msg=name)


def test_scaffolds_variate_grows_by_the_sum_of_changes_over_all_clients_of_the_roster() -> None:
    """``c += |S| / N mean(dc)`` (Karimireddy et al., 2020), whoever was asked and however many samples they have."""
    aggregation = RoundAggregation(toy_config(scaffold=True), SPEC, START, 1.5, None)
    held = {name: torch.zeros_like(t) for name, t in START.items()}
    wanted = {name: np.zeros(t.shape) for name, t in START.items()}
    for round_number, clients in ((1, ["site-1", "site-3"]), (2, ["site-2"])):
        changes = {client: adapter(10 * round_number + k) for k, client in enumerate(clients)}
        updates = [accepted(client, adapter(k), changes[client]) for k, client in enumerate(clients, start=1)]
        news, _ = aggregation.aggregate(round_number, updates, 5)
        assert news.control is not None
        held = unpack_payload(news.control, held, SPEC)
        for name in wanted:
            mean = sum(array(change[name]) for change in changes.values()) / len(clients)
            wanted[name] = wanted[name] + len(clients) / 5 * mean
        assert_close(held, wanted)


@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_scaffolds_variate_is_the_mean_of_all_clients_own(
    wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``c = 1/N sum_k c_k`` after rounds of two of four clients, but for what waits; who never took part has 0. In
    float32 c_k is the mean gradient that the client measured last."""
    measured, real = list[Any](), ControlVariates.mean_gradient
    monkeypatch.setattr(ControlVariates, "mean_gradient", lambda self: measured.append(real(self)) or measured[-1])
    options = lora_options(scaffold=True, num_clients=4, clients_per_round=2, num_rounds=3, seed=1, wire=wire)
    run = Driven(tmp_path / "run", {"host-1": [f"site-{k}" for k in range(1, 5)]}, toy_config(**options))
    taken = [task.assignments["host-1"] for task, _ in run.rounds if task.train]
    assert set(taken[0]) & set(taken[2]) - set(taken[1]), "somebody comes back after a pause"
    assert set(taken[1]) & set(taken[2]), "somebody comes back at once"
    last = dict(zip((client for some in taken for client in some), measured, strict=True))
    files = {client: max((run.folder / "clients" / client).glob("*.safetensors")) for client in last}
    own = {client: part(decode(path.read_bytes()), CONTROL) for client, path in files.items()}
    held, waiting = run.hosts["host-1"].ready.model.control, part(run.server.aggregation.state(), "control_residual/")
    assert waiting.keys() == (set() if wire == "float32" else held.keys())
    found = {name: t + waiting.get(name, 0) for name, t in held.items()}
    assert_close(found, {name: sum(array(c[name]) for c in own.values()) / 4 for name in held})
    if wire == "float32":
        for client, control in own.items():
            assert_close(control, {name: array(t) for name, t in last[client].items()})


@pytest.mark.parametrize(
    ("weights", "shares"),
    [("samples", (10 / 100, 30 / 100, 60 / 100)), ("steps", (2 / 21, 3 / 21, 16 / 21)), ("equal", (1 / 3,) * 3)],
)
def test_clients_weigh_what_client_weights_says(weights: str, shares: tuple[float, ...]) -> None:
    aggregation = RoundAggregation(toy_config(client_weights=weights), SPEC, START, 1.5, None)
    trained = [adapter(k) for k in (1, 2, 3)]
    aggregation.aggregate(1, [accepted(f"site-{k}", t) for k, t in enumerate(trained, start=1)], 3)
    wanted = {
        name: sum(share * array(t[name]) for share, t in zip(shares, trained, strict=True))
        for name in aggregation.adapter
    }
    assert_close(aggregation.adapter, wanted)


def test_products_of_clients_count_with_the_clients_own_alpha_over_rank() -> None:
    """FLoRA's stacked factors are the weighted mean of ``s_k B_k A_k``, and its error is 0."""
    config = toy_config(
        **lora_options(aggregator="flora", lora_r="4,site-1=2", lora_alpha="6,site-1=5,site-2=3", num_clients=3)
    )
    aggregation = RoundAggregation(config, SPEC, START, 6 / 4, None)
    trained = [adapter(1, 2), adapter(2), adapter(3)]
    _, report = aggregation.aggregate(1, [accepted(f"site-{k}", t) for k, t in enumerate(trained, start=1)], 3)
    scales, shares = (5 / 2, 3 / 4, 6 / 4), (0.1, 0.3, 0.6)
    modules = [name.removesuffix(".lora_A.weight") for name in SPEC if name.endswith("lora_A.weight")]
    ideal = {m: sum(p * product(t, m, s) for p, s, t in zip(shares, scales, trained, strict=True)) for m in modules}
    state, plain, _ = aggregation.export({})
    found = {m: product(state, m, plain["lora_alpha"] / plain["r"]) for m in modules}
    assert distance(found, ideal) < 1e-5
    assert report["aggregation_error"] == pytest.approx(0, abs=1e-6)


def test_with_central_privacy_the_sum_is_divided_by_the_number_expected() -> None:
    """By how many took part would tell of one; without noise ``start + sum_k clip(x_k) / n``, all weights equal."""
    plan = DPPlan("central", clip=0.5, noise_multiplier=0.0, delta=1e-5, sampling=0.5, expected=2.5)
    aggregation = RoundAggregation(toy_config(), SPEC, START, 1.5, plan)
    trained = [adapter(1), {name: t + 1e-3 for name, t in START.items()}]
    aggregation.aggregate(1, [accepted("site-1", trained[0]), accepted("site-3", trained[1])], 5)
    wanted = {name: array(t) for name, t in START.items()}
    for state in trained:
        update = {name: array(t) - array(START[name]) for name, t in state.items()}
        norm = np.sqrt(sum((x**2).sum() for x in update.values()))
        for name, x in update.items():
            wanted[name] = wanted[name] + x * min(1, 0.5 / norm) / 2.5
    assert_close(aggregation.adapter, wanted)
