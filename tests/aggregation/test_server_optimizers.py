"""FedAvgM, FedAdagrad, FedAdam and FedYogi against their papers' formulas in numpy float64, over several rounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

from fedumm.adapters import AdapterState, decode, encode
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import ClientContribution
from fedumm.aggregation.methods.fedadagrad import FedAdagrad
from fedumm.aggregation.methods.fedadam import FedAdam
from fedumm.aggregation.methods.fedavg import FedAvg
from fedumm.aggregation.methods.fedavgm import FedAvgM
from fedumm.aggregation.methods.fedyogi import FedYogi
from fedumm.aggregation.server_optimizer import ServerOptimizer
from fedumm.config import FederateConfig
from fedumm.run_options import from_mapping

METHODS: list[type[ServerOptimizer]] = [FedAvgM, FedAdagrad, FedAdam, FedYogi]
SHAPES = {"0.lora_A.weight": (2, 5), "0.lora_B.weight": (3, 2), "head.bias": (4,)}
WEIGHTS = [12.0, 5.0, 33.0]
ROUNDS = 4


def state(seed: int, spread: float = 0.02, dtype: torch.dtype = torch.float64) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {n: spread * torch.randn(shape, generator=generator, dtype=dtype) for n, shape in SHAPES.items()}


def one_round(
    aggregator: ServerOptimizer | FedAvg, adapter: AdapterState, number: int, names: Collection[str] = tuple(SHAPES)
) -> AdapterState:
    """Three clients, each at the adapter plus a change of its own, of the tensors ``names``."""
    aggregator.begin(adapter, scale=2.0, seed=number)
    for k, weight in enumerate(WEIGHTS):
        change = state(100 * number + k, dtype=adapter["head.bias"].dtype)
        aggregator.add(ClientContribution(f"site-{k}", {n: adapter[n] + change[n] for n in sorted(names)}, weight))
    return aggregator.finish().adapter


def by_the_papers(
    method: str, x: np.ndarray, deltas: list[np.ndarray], lr: float, b1: float, b2: float, tau: float
) -> Iterator[np.ndarray]:
    """Algorithm 2 of Reddi et al. and FedAvgM of Hsu et al., entry by entry; the x after each round."""
    m, v = np.zeros_like(x), np.full_like(x, tau**2)
    for delta in deltas:
        if method == "fedavgm":
            m = b1 * m + delta
            x = x + lr * m
            yield x
            continue
        m = b1 * m + (1 - b1) * delta
        if method == "fedadagrad":
            v = v + delta**2
        elif method == "fedadam":
            v = b2 * v + (1 - b2) * delta**2
        elif method == "fedyogi":
            v = v - (1 - b2) * delta**2 * np.sign(v - delta**2)
        x = x + lr * m / (np.sqrt(v) + tau)
        yield x


def deltas_of(name: str) -> list[np.ndarray]:
    shares = np.array(WEIGHTS) / sum(WEIGHTS)
    return [
        np.tensordot(shares, np.stack([state(100 * number + k)[name].numpy() for k in range(3)]), axes=1)
        for number in range(1, ROUNDS + 1)
    ]


@pytest.mark.parametrize("method", [m.name for m in METHODS])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_several_rounds_follow_the_paper(method: str, momentum: float) -> None:
    """To 1e-6 of the steps: moments are kept in float32."""
    # v starts at 0.01^2, near Delta^2, so that Yogi's sign takes both values.
    chosen = {"server_lr": 0.03, "server_momentum": momentum, "server_beta2": 0.8, "server_tau": 0.01}
    options = get_aggregator(method).Options
    aggregator = get_aggregator(method)(
        options(**{f.name: chosen[f.name] for f in fields(options)})  # fedavgm has no tau, fedadagrad no beta 2
    )
    adapter = start = state(0)
    wanted = {
        name: list(by_the_papers(method, start[name].numpy(), deltas_of(name), 0.03, momentum, 0.8, 0.01))
        for name in SHAPES
    }
    for number in range(1, ROUNDS + 1):
        adapter = one_round(aggregator, adapter, number)
        for name in SHAPES:
            scale = np.abs(wanted[name][number - 1] - start[name].numpy()).max()
            np.testing.assert_allclose(adapter[name].numpy(), wanted[name][number - 1], rtol=0, atol=1e-6 * scale)


def test_fedadam_by_hand() -> None:
    """Delta = 0.03, m = 0.003, v = 0.99e-6 + 9e-6 = 9.99e-6; then Delta = 0, m = 0.0027, v = 9.8901e-6."""
    aggregator = FedAdam(FedAdam.Options(server_lr=0.5))
    aggregator.begin({"a": torch.tensor([1.0])}, scale=1.0, seed=0)
    aggregator.add(ClientContribution("site-1", {"a": torch.tensor([1.06])}, 1))
    aggregator.add(ClientContribution("site-2", {"a": torch.tensor([1.0])}, 1))
    first = aggregator.finish().adapter["a"]
    assert first.item() == pytest.approx(1 + 0.5 * 0.003 / (9.99e-6**0.5 + 1e-3), rel=1e-6)
    aggregator.begin({"a": first}, scale=1.0, seed=0)
    aggregator.add(ClientContribution("site-1", {"a": first}, 1))
    second = aggregator.finish().adapter["a"]
    assert (second - first).item() == pytest.approx(0.5 * 0.0027 / (9.8901e-6**0.5 + 1e-3), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fedavgm_without_momentum_is_fedavg(dtype: torch.dtype) -> None:
    adapter = {name: tensor.to(dtype) for name, tensor in state(0).items()}
    mean, result = one_round(FedAvg(), adapter, 1), one_round(FedAvgM(FedAvgM.Options(server_momentum=0.0)), adapter, 1)
    for name in SHAPES:
        assert result[name].dtype == dtype
        torch.testing.assert_close(result[name], mean[name], rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_going_on_from_the_state_gives_the_same_bits(method: type[ServerOptimizer]) -> None:
    straight, stopped, resumed = method(), method(), method()
    adapter = one_round(straight, state(0), 1)
    one_round(stopped, state(0), 1)
    saved = stopped.state()
    assert {t.dtype for t in saved.values()} == {torch.float32}
    resumed.load(decode(encode(saved)))
    for number in (2, 3):
        before, adapter = adapter, one_round(straight, adapter, number)
        again = one_round(resumed, before, number)
        assert all(torch.equal(again[name], adapter[name]) for name in SHAPES)
    assert all(torch.equal(resumed.state()[key], value) for key, value in straight.state().items())


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_nobody_sent_takes_no_step_and_keeps_its_moments(method: type[ServerOptimizer]) -> None:
    """In round 2 nobody sends the bias: round 3 is for it as round 2 would have been."""
    aggregator, without = method(), method()
    start = one_round(aggregator, state(0), 1)
    assert all(torch.equal(t, start[n]) for n, t in one_round(without, state(0), 1).items())
    moments = {key: value.clone() for key, value in aggregator.state().items()}
    adapter = one_round(aggregator, start, 2, {"0.lora_A.weight", "0.lora_B.weight"})
    assert torch.equal(adapter["head.bias"], start["head.bias"])
    for key, value in aggregator.state().items():
        assert torch.equal(value, moments[key]) == key.endswith("head.bias")
    assert torch.equal(one_round(aggregator, adapter, 3)["head.bias"], one_round(without, start, 3)["head.bias"])


@pytest.mark.parametrize("method", METHODS)
def test_a_round_that_is_begun_anew_or_finished_twice_counts_once(method: type[ServerOptimizer]) -> None:
    once, again = method(), method()
    adapter = one_round(once, one_round(once, state(0), 1), 2)
    start = one_round(again, state(0), 1)
    again.begin(start, scale=2.0, seed=9)
    again.add(ClientContribution("site-0", {"head.bias": torch.full((4,), 9.0)}, 1))
    one_round(again, start, 2)
    repeated = again.finish().adapter
    assert all(torch.equal(repeated[name], adapter[name]) for name in SHAPES)
    assert all(torch.equal(again.state()[key], value) for key, value in once.state().items())


@pytest.mark.parametrize(("method", "other"), [(FedAdam, FedAvgM), (FedAvgM, FedYogi)])
def test_a_state_of_another_kind_is_refused(method: type[ServerOptimizer], other: type[ServerOptimizer]) -> None:
    aggregator = other()
    one_round(aggregator, state(0), 1)
    with pytest.raises(ValueError, match=f"not of {method.name}"):
        method().load(aggregator.state())
    with pytest.raises(ValueError, match="fedavg carries nothing"):
        FedAvg().load(aggregator.state())


@pytest.mark.parametrize(("method", "lr"), [(FedAvgM, 1.0), (FedAdagrad, 1e-3), (FedAdam, 1e-3), (FedYogi, 1e-3)])
def test_options_come_from_the_configuration(method: type[ServerOptimizer], lr: float) -> None:
    chosen = {"server_lr": 0.125, "server_momentum": 0.5, "server_beta2": 0.7, "server_tau": 0.25}
    own = {f.name: chosen[f.name] for f in fields(method.Options)}
    values = {"model_backend": "toy", "aggregator": method.name}
    plain = method.from_config(from_mapping(FederateConfig, values))
    aggregator = method.from_config(from_mapping(FederateConfig, {**values, **own}))
    assert (plain.lr, aggregator.lr, asdict(aggregator.options)) == (lr, 0.125, own)
