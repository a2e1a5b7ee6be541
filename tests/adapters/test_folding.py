"""Changes of a frozen backbone, far below the last bit of a bfloat16 weight: nothing of them is lost, and if it were,
the figure on show would say so. Against matrices in float64."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from torch.utils.checkpoint import checkpoint

from fedumm.adapters import folding, model
from fedumm.adapters.model import AdapterSlot
from fedumm.aggregation.base import BackboneDelta
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import DataStatsRequest, InitRequest, RoundReply, RoundTask
from fedumm.federation.server.metrics_records import folded_record
from fedumm.report.console import RunConsole
from fedumm.report.run_folder import read_records
from support.toy import Driven, lora_options, toy_config

INTO, OUT, ROUNDS = 24, 40, 12
NAME = "base_model.model.0"
ARITHMETIC = {
    "float32": (torch.float32, False),
    "float32 in autocast": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
    "float16": (torch.float16, False),
}
EACH = pytest.mark.parametrize(("dtype", "autocast"), ARITHMETIC.values(), ids=ARITHMETIC)


def lora(dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(INTO, OUT)).to(dtype)
    return get_peft_model(base, LoraConfig(r=2, target_modules=["0"])).eval()


def changes(rounds: int = ROUNDS) -> list[BackboneDelta]:
    """Each about a hundredth of the distance between bfloat16 numbers as large as the weights."""
    g = torch.Generator().manual_seed(1)
    pairs = [(torch.randn(OUT, 2, generator=g), torch.randn(2, INTO, generator=g)) for _ in range(rounds)]
    return [{NAME: (1e-5 * left, right)} for left, right in pairs]


def product(change: BackboneDelta) -> torch.Tensor:
    """In float64, of all its modules side by side."""
    return torch.cat([left.double() @ right.double() for left, right in change.values()], 1)


def in_autocast(on: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights keep their type, as they once did: bfloat16, or rounded to it in each product."""

    def grow(layer: torch.nn.Linear, left: torch.Tensor, right: torch.Tensor) -> None:
        layer.weight += (left @ right).to(layer.weight.dtype)

    monkeypatch.setattr(folding, "_grow", grow)
    monkeypatch.setattr(model, "widen", lambda _: None)


@EACH
@torch.no_grad()
def test_rounds_of_tiny_changes_add_up(dtype: torch.dtype, autocast: bool) -> None:
    net = lora(dtype)
    slot, base = AdapterSlot(net), net.get_submodule(NAME).get_base_layer()
    with in_autocast(autocast):
        start = base.weight.double()
        slot.widen()
        lost = [slot.fold(change) / float(product(change).norm()) for change in changes()]
        grown = folding.multiplied(base).double() - start
    total = sum(map(product, changes()))
    assert (grown - total).norm() < 1e-3 * total.norm()
    assert max(lost) < 1e-3


@torch.no_grad()
def came_through(dtype: torch.dtype, autocast: bool) -> float:
    """The share of the changes that shows in outputs, by regression over many inputs."""
    net, inputs = lora(dtype), torch.randn(20_000, INTO, generator=torch.Generator().manual_seed(2)).to(dtype)
    slot = AdapterSlot(net)
    slot.widen()
    with in_autocast(autocast):
        before = net(inputs)
        for change in changes():
            slot.fold(change)
        after = net(inputs)
    assert after.dtype == (torch.bfloat16 if autocast else dtype)
    wanted = inputs.double() @ sum(map(product, changes())).T
    return float(((after.double() - before.double()) * wanted).sum() / wanted.square().sum())


@EACH
def test_their_effect_on_outputs_is_not_rounded_away(dtype: torch.dtype, autocast: bool) -> None:
    """Single outputs are rounded; over many, the share of the change that comes through is all of it."""
    assert came_through(dtype, autocast) == pytest.approx(1, abs=0.03)


@pytest.mark.usefixtures("rounding")
def test_added_to_a_bfloat16_weight_most_of_it_would_be() -> None:
    assert came_through(torch.bfloat16, False) == pytest.approx(0.065, abs=0.01), "docs/aggregation.md has the figure"


@torch.no_grad()
def test_a_float32_layer_outside_autocast_computes_as_it_always_did() -> None:
    net, (change,) = lora(torch.float32), changes(1)
    plain = torch.nn.Linear(INTO, OUT)
    plain.load_state_dict(net.get_submodule(NAME).get_base_layer().state_dict())
    AdapterSlot(net).fold(change)
    left, right = change[NAME]
    plain.weight += left @ right
    inputs = torch.randn(7, INTO)
    assert torch.equal(net(inputs), plain(inputs))


@pytest.mark.usefixtures("rounding")
@pytest.mark.parametrize(("dtype", "autocast"), [(torch.bfloat16, False), (torch.float32, True)])
@torch.no_grad()
def test_what_a_layer_loses_is_measured(dtype: torch.dtype, autocast: bool) -> None:
    net, (change,) = lora(dtype), changes(1)
    base = net.get_submodule(NAME).get_base_layer()
    before = base.weight.clone()
    with in_autocast(autocast):
        lost = AdapterSlot(net).fold(change)
    was, now = (weight.to(torch.bfloat16).double() for weight in (before, base.weight))
    assert lost == pytest.approx(float((now - was - product(change)).norm()), rel=1e-9)
    assert lost > 0.3 * product(change).norm()


def test_large_layers_are_measured_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = AdapterSlot(lora(torch.float32)).fold(changes(1)[0])
    monkeypatch.setattr(folding, "_ROWS", 7)
    assert AdapterSlot(lora(torch.float32)).fold(changes(1)[0]) == pytest.approx(whole, rel=1e-9)


@torch.no_grad()
def test_the_norm_of_what_a_round_delivered_counts_adapter_and_change() -> None:
    net, (change,) = lora(torch.bfloat16), changes(1)
    slot = AdapterSlot(net)
    slot.put({name: torch.randn(t.shape) for name, t in slot.get().items()})
    slot.set_scale(0.7)
    a, b = (t.double() for _, t in sorted(slot.get().items()))
    assert slot.delivered_norm({}) == pytest.approx(float((0.7 * b @ a).norm()), rel=1e-9)
    large = {NAME: (1e5 * change[NAME][0], change[NAME][1])}
    assert slot.delivered_norm(large) == pytest.approx(float((0.7 * b @ a + product(large)).norm()), rel=1e-9)


@torch.no_grad()
def test_peft_merges_into_a_folded_layer() -> None:
    net, (change,) = lora(torch.bfloat16), changes(1)
    start = net.get_submodule(NAME).get_base_layer().weight.double()
    slot = AdapterSlot(net)
    slot.fold(change)
    slot.put({name: 1e-3 * torch.randn(t.shape) for name, t in slot.get().items()})
    a, b = (t.double() for _, t in sorted(slot.get().items()))
    scale = net.get_submodule(NAME).scaling["default"]
    merged = net.merge_and_unload()
    torch.testing.assert_close(merged[0].weight.double(), start + product(change) + scale * b @ a, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("damage", ["shape", "no linear layer"])
def test_what_does_not_fit_is_refused(damage: str) -> None:
    net, (change,) = lora(torch.bfloat16), changes(1)
    before = net.get_submodule(NAME).get_base_layer().weight.clone()
    left, right = change[NAME]
    if damage == "shape":
        with pytest.raises(ValueError, match=r"a change of shapes \(39, 2\) and \(2, 24\)"):
            AdapterSlot(net).fold({NAME: (left[:-1], right)})
    else:
        with pytest.raises(FedummError, match=r"base_model\.model is no linear layer"):
            AdapterSlot(net).fold({"base_model.model": (left, right)})
    assert torch.equal(net.get_submodule(NAME).get_base_layer().weight, before)


@pytest.mark.parametrize("way", ["checkpointed", pytest.param("compiled", marks=pytest.mark.slow)])
def test_gradients_pass_a_folded_layer(way: str) -> None:
    """The same as without, under autocast."""
    net = lora(torch.bfloat16).train()
    AdapterSlot(net).fold(changes(1)[0])
    torch.nn.init.normal_(net.get_submodule(NAME).lora_B["default"].weight, std=0.1)
    inputs = torch.randn(5, INTO, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "checkpointed": lambda x: checkpoint(net, x, use_reentrant=False),  # type: ignore[no-untyped-call]
        "compiled": torch.compile(net, dynamic=True, backend="aot_eager", fullgraph=True),
    }
    results = []
    for function in (net, ways[way]):
        net.zero_grad()
        inputs.grad = None
        with in_autocast(True):
            function(inputs).float().square().sum().backward()
        results.append([inputs.grad, *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(results[0]) == 3
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-3)


# whole runs

METHODS = pytest.mark.parametrize("method", ["flora", "fedex_lora"])


def driven(folder: Path, method: str) -> Driven:
    """In bfloat16 products."""
    options = lora_options(aggregator=method, precision="bfloat16", lr=1e-4, num_rounds=3)
    return Driven(folder / "run", {"host-1": ["site-1", "site-3"], "host-2": ["site-2"]}, toy_config(**options))


def folded(run: Driven) -> list[tuple[int, float]]:
    return [(r["round"], r["folding_error"]) for r in read_records(run.folder) if r["event"] == "folded"]


def screen(run: Driven) -> str:
    console = RunConsole(Console(file=io.StringIO(), width=200))
    for record in read_records(run.folder):
        console.show(record)
    return str(console.console.file.getvalue())  # type: ignore[attr-defined]


@METHODS
def test_in_bfloat16_hosts_lose_nothing(method: str, tmp_path: Path) -> None:
    run = driven(tmp_path, method)
    assert [number for number, _ in folded(run)] == [1, 2, 3]
    assert max(error for _, error in folded(run)) < 1e-4
    assert "was lost" not in screen(run)


@METHODS
@pytest.mark.usefixtures("rounding")
def test_what_hosts_lose_is_on_screen(method: str, tmp_path: Path) -> None:
    run = driven(tmp_path, method)
    figures = folded(run)
    assert [number for number, _ in figures] == [1, 2, 3]
    assert min(error for _, error in figures) > {"flora": 0.1, "fedex_lora": 1e-4}[method]
    for number, error in figures:
        assert f"round {number}: {100 * error:.2g} % of its result was lost on the hosts" in screen(run)


def test_methods_that_change_no_weight_have_no_such_figure(tmp_path: Path) -> None:
    assert not folded(driven(tmp_path, "fedavg"))


def test_a_host_of_a_resumed_run_measures_the_last_change_again(tmp_path: Path) -> None:
    run = driven(tmp_path, "flora")
    host = Host("host-1", run.config, lambda *_: None, tmp_path / "clients", simulated=True)
    host.handle(DataStatsRequest(run.server.roster))
    changes = [task.change for task, _ in run.rounds if task.change]
    host.handle(InitRequest({"host-1": run.server.roster}, {"host-1": [0, 1]}, "host-1", changes))
    again = RoundTask(round=4, train=False, adapter=run.server.aggregation.whole_broadcast().adapter, assignments={})
    replies = [host.handle(again), host.handle(again)]
    assert [reply.folding_error for reply in replies] == [folded(run)[-1][1], None]  # type: ignore[union-attr]


@pytest.mark.parametrize("claim", [float("nan"), float("inf"), -1.0])
def test_a_claim_that_is_no_share_is_passed_over(claim: float) -> None:
    task: Any = RoundTask(round=3, train=True, adapter=None, assignments={})  # type: ignore[arg-type]
    replies = [RoundReply([], folding_error=error) for error in (1e-7, claim, None)]
    assert folded_record(task, replies) == {"event": "folded", "round": 2, "folding_error": 1e-7}
    assert folded_record(task, replies[1:]) is None
