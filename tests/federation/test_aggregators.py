"""Every way to aggregate and to send, in whole runs: the same bits on any hosts, the error against dense matrices
in float64, bytes, and the exported adapter on the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from fedumm.adapters import AdapterState
from fedumm.adapters.factors import at_rank, factor_of, modules_of, spec_at_rank
from fedumm.adapters.folder import read_folder
from fedumm.aggregation import available_aggregators
from fedumm.aggregation.base import BackboneDelta
from fedumm.compression.packing import unpack
from fedumm.compression.registry import WIRES
from fedumm.federation.protocol.backbone_delta import unpack_backbone_delta
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.federation.protocol.transfer import unpack_payload
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import read_records
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.trainer import train_epochs
from support.lora_toy_backend import LAYERS, frozen_toy
from support.toy import LORA_TOY, Driven, lora_options, toy_config

ONE = {"host-1": ["site-1", "site-2", "site-3"]}
TWO = {"host-1": ["site-3", "site-1"], "host-2": ["site-2"]}
RANKS = {"lora_r": "4,site-1=2", "lora_alpha": "6,site-1=4,site-2=3"}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"aggregator": name} for name in available_aggregators()},
    "scaffold": {"scaffold": True},
    "prox_mu": {"prox_mu": 1.0},
    **{wire: {"wire": wire} for wire in WIRES[1:]},
    "top_k": {"top_k": 0.2},
    "top_k in int8, nf4 down": {"top_k": 0.2, "wire_up": "int8", "wire_down": "nf4"},
    "flora in int8": {"aggregator": "flora", "wire": "int8"},
    "fedsa_lora in int8": {"aggregator": "fedsa_lora", "wire": "int8"},
    "scaffold in int8": {"scaffold": True, "wire": "int8"},
    "equal weights": {"client_weights": "equal"},
    "weights by steps": {"client_weights": "steps"},
    "unequal ranks, svd": {"aggregator": "svd", **RANKS},
    "unequal ranks, flora": {"aggregator": "flora", **RANKS},
}
QUICK = (
    "fedavg", "fedex_lora", "krum", "fedsa_lora in int8", "scaffold in int8", "unequal ranks, svd",
    "unequal ranks, flora", "top_k in int8, nf4 down",
)  # fmt: skip
"""At least one case of each way in which an update is sent, kept and combined."""
MARKED = [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
EXACT = ("ffa_lora", "rolora", "flora", "fedex_lora")
Runs = Callable[[str], Driven]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a case on one host, each made once."""
    made: dict[str, Driven] = {}

    def run(case: str) -> Driven:
        if case not in made:
            config = toy_config(**lora_options(**CASES[case]))
            made[case] = Driven(tmp_path_factory.mktemp("one") / "run", ONE, config)
        return made[case]

    return run


def told(task: RoundTask) -> tuple[Any, ...]:
    """What a round's task says, but for who serves whom."""
    return task.round, task.adapter, task.change, task.control, task.factors


def sent(update: ClientUpdate) -> tuple[Any, ...]:
    """An update, but for times."""
    return update.adapter, update.control, update.train_loss, update.before, update.after, update.untrained


def files(folder: Path) -> dict[str, bytes]:
    """Adapters, and what clients kept."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("adapter", "clients")
        for path in sorted((folder / part).rglob("*.safetensors"))
    }


@pytest.mark.parametrize("case", MARKED)
def test_any_hosts_give_the_same_bits(runs: Runs, tmp_path: Path, case: str) -> None:
    one, two = runs(case), Driven(tmp_path / "two", TWO, toy_config(**lora_options(**CASES[case])))
    assert [told(task) for task, _ in one.rounds] == [told(task) for task, _ in two.rounds]
    for (_, first), (_, second) in zip(one.rounds, two.rounds, strict=True):
        assert {c: sent(u) for c, u in first.items()} == {c: sent(u) for c, u in second.items()}
    assert files(one.folder) == files(two.folder)


@pytest.mark.parametrize("case", [case for case in MARKED if case.values != ("fedavg",)])
def test_every_option_makes_a_difference(runs: Runs, case: str) -> None:
    assert files(runs(case).folder) != files(runs("fedavg").folder)


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.double().numpy())


def added(state: Mapping[str, torch.Tensor], scale: float) -> dict[str, np.ndarray]:
    """What an adapter adds to each module's weight."""
    return {module: scale * numbers(state[b]) @ numbers(state[a]) for module, (a, b) in modules_of(state).items()}


def adapters(run: Driven) -> list[tuple[AdapterState, BackboneDelta]]:
    """For each round task, the global adapter and the change of the backbone that it brings."""
    spec, held, result = run.server.aggregation.spec, {}, []
    for task, _ in run.rounds:
        held = unpack_payload(task.adapter, held, spec)
        result.append((held, unpack_backbone_delta(task.change)))
    return result


def dense_errors(run: Driven) -> list[float]:
    """Each round's ``||delivered - ideal|| / ||ideal||`` by dense matrices."""
    config, spec, errors = run.config, run.server.aggregation.spec, []
    states = adapters(run)
    for (begin, _), (after, change), (_, updates) in zip(states, states[1:], run.rounds, strict=False):
        total = sum(u.num_samples for u in updates.values())
        ideal: dict[str, Any] = dict.fromkeys(modules_of(spec), 0.0)
        for client, update in updates.items():
            state = unpack(update.adapter, spec_at_rank(spec, config.rank_of(client)))
            # Who sent one factor only had the other from the server.
            for module, product in added({**begin, **state}, config.scale_of(client)).items():
                ideal[module] = ideal[module] + update.num_samples / total * product
        found = added(after, config.alpha / config.rank)
        for module, (left, right) in change.items():
            found[module] = found[module] + numbers(left) @ numbers(right)
        missed = sum(float(((found[m] - ideal[m]) ** 2).sum()) for m in ideal)
        errors.append(float(np.sqrt(missed / sum(float((product**2).sum()) for product in ideal.values()))))
    return errors


def logged(run: Driven, key: str) -> list[Any]:
    """A number of each round's record."""
    return [r[key] for r in read_records(run.folder) if r["event"] == "round"]


@pytest.mark.parametrize(
    "case", [*(c for c in available_aggregators() if c != "fedsa_lora"), "unequal ranks, svd", "unequal ranks, flora"]
)
def test_the_logged_error_is_the_dense_one(runs: Runs, case: str) -> None:
    found, expected = logged(runs(case), "aggregation_error"), dense_errors(runs(case))
    assert len(found) == 2
    if case in EXACT or case == "unequal ranks, flora":
        assert max(found) < 1e-6
        assert max(expected) < 1e-6
    else:
        assert min(found) > 1e-3
        assert found == pytest.approx(expected, rel=1e-9)


def test_what_clients_keep_to_themselves_has_no_error(runs: Runs) -> None:
    assert logged(runs("fedsa_lora"), "aggregation_error") == [None, None]


@pytest.mark.parametrize("case", ["fedavg", "flora", "fedex_lora", "svd", "flora in int8", "unequal ranks, flora"])
def test_the_exported_adapter_on_the_first_model_computes_what_hosts_do(runs: Runs, case: str) -> None:
    run = runs(case)
    plain = PeftModel.from_pretrained(frozen_toy(), str(run.folder / "adapter" / "last"))
    features = torch.rand(50, LAYERS["first"][0], generator=torch.Generator().manual_seed(1))
    host = run.hosts["host-1"]
    host.ready.model.put()
    with torch.no_grad():  # not around the run, which may be made here first
        exported, hosts, untrained = plain(features), host.ready.model.backbone.model(features), frozen_toy()(features)
    torch.testing.assert_close(exported, hosts, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(exported, untrained, atol=1e-2), "there is something to lose"


def payload(case: Driven, factors: str) -> int:
    """Bytes of an update of the LoRA factors ``factors``: header, a bit a tensor, float32 values."""
    spec = case.server.aggregation.spec
    values = sum(int(np.prod(shape)) for name, (shape, _) in spec.items() if factor_of(name) in tuple(factors))
    return 17 + 1 + 4 * values


@pytest.mark.parametrize(
    ("case", "factors"), [("fedavg", ("AB", "AB")), ("ffa_lora", ("B", "B")), ("rolora", ("B", "A"))]
)
def test_methods_that_train_one_factor_move_no_other(runs: Runs, case: str, factors: tuple[str, str]) -> None:
    run = runs(case)
    assert logged(run, "bytes_up") == [3 * payload(run, own) for own in factors]
    down = [task.size for task, _ in run.rounds]
    assert down == [payload(run, "AB"), *(payload(run, own) for own in factors)], "the first adapter is new as a whole"
    assert logged(run, "bytes_down") == down[:2]


def test_coded_rounds_are_small_both_ways(tmp_path: Path) -> None:
    up, down = {}, {}
    for wire in ("float32", "int8", "nf4"):
        run = Driven(tmp_path / wire, ONE, toy_config(**lora_options(lora_r=32, wire=wire)))
        up[wire], down[wire] = np.array(logged(run, "bytes_up")), np.array(logged(run, "bytes_down"))
        assert up[wire].tolist() == [sum(u.size for u in own.values()) for task, own in run.rounds if task.train]
    for ways in (up, down):
        assert len(ways["float32"]) == 2
        assert (ways["int8"] <= 0.27 * ways["float32"]).all()
        assert (ways["nf4"] <= 0.15 * ways["float32"]).all()


@pytest.mark.parametrize("case", ["unequal ranks, svd", "unequal ranks, flora"])
def test_a_client_sends_an_adapter_of_its_own_rank(runs: Runs, case: str) -> None:
    run = runs(case)
    for task, updates in run.rounds:
        for client, update in updates.items():
            if task.train:
                state = unpack(update.adapter, spec_at_rank(run.server.aggregation.spec, run.config.rank_of(client)))
                ranks = {t.shape[0 if factor_of(name) == "A" else 1] for name, t in state.items()}
                assert ranks == {2 if client == "site-1" else 4}
                assert len(update.adapter) == 18 + sum(4 * t.numel() for t in state.values())
    exported, config = read_folder(run.folder / "adapter" / "last")
    assert {t.shape[0 if factor_of(name) == "A" else 1] for name, t in exported.items()} == {config["r"]}


def test_a_padded_adapter_is_trained_as_one_of_the_lower_rank() -> None:
    """The zeros that fill it up stay zeros, and the rest moves as PEFT's own adapter of that rank."""
    load_plugins([str(LORA_TOY)])
    results = {}
    small = toy_config(**lora_options(lora_r=2, lora_alpha=4, lora_dropout=0.0))
    start = load_backbone(small, torch.device("cpu")).adapter()
    generator = torch.Generator().manual_seed(0)
    start = {name: t + 0.1 * torch.randn(t.shape, generator=generator) for name, t in start.items()}
    rows = load_splits(small).train
    for rank, alpha in ((2, 4), (8, 5)):
        config = toy_config(**lora_options(lora_r=rank, lora_alpha=alpha, lora_dropout=0.0))
        backbone = load_backbone(config, torch.device("cpu"))
        backbone.put_at_rank(start, 4 / 2)
        dataset = backbone.backend.build_dataset(rows, None, 0, 0)
        results[rank] = train_epochs(backbone, dataset, config, 3, seed=7)
    padded, plain = results[8].adapter, results[2].adapter
    for name, tensor in at_rank(padded, 2).items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-4, atol=1e-6)
        assert not torch.equal(tensor, start[name])
    for name, tensor in padded.items():
        rest = tensor[2:] if factor_of(name) == "A" else tensor[:, 2:]
        assert not rest.any()
    assert results[8].loss == pytest.approx(results[2].loss, rel=1e-6)
