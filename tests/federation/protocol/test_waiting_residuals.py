"""What rounding lost of a tensor waits, through rounds that do not send the tensor (RoLoRA's), for one that does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedumm.adapters import AdapterState, decode, spec_of
from fedumm.adapters.state import part
from fedumm.compression.packing import unpack
from fedumm.federation.client.client_state import RESIDUAL
from fedumm.federation.protocol.transfer import Downlink, pack_update, unpack_payload, unpack_update
from support.lora_round import array
from support.toy import Driven, lora_options, toy_config

A, B = "m.lora_A.weight", "m.lora_B.weight"
SHAPES = {A: (4, 70), B: (90, 4)}
ROUNDS = [(B, A)[number % 2] for number in range(40)]
ROUGH = pytest.mark.parametrize("wire", ["int8", "nf4"])


def state(seed: int, size: float) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


START = state(0, 0.1)
SPEC = spec_of(START)


def wanted(steps: list[AdapterState], names: list[str]) -> dict[str, np.ndarray]:
    """What all rounds together should have moved."""
    return {
        name: sum(array(step[name]) for step, sent in zip(steps, names, strict=True) if sent == name) for name in SHAPES
    }


def assert_moved(moved: dict[str, np.ndarray], goal: dict[str, np.ndarray], steps: list[AdapterState]) -> None:
    """But for one message's rounding: in nf4 that is up to a fifth of the largest value."""
    for name in SHAPES:
        largest = max(float(step[name].abs().max()) for step in steps)
        assert np.abs(goal[name]).max() > 2 * largest
        assert np.abs(moved[name] - goal[name]).max() < 0.3 * largest, name


@ROUGH
def test_the_servers_end(wire: str) -> None:
    link = Downlink(wire, True, SPEC, START)
    link.first()
    host = begin = dict(link.held)
    steps = [state(number // 2 % 3 + 1, 1e-3) for number in range(len(ROUNDS))]
    for name, step in zip(ROUNDS, steps, strict=True):
        host = unpack_payload(link.send({**link.held, name: link.held[name] + step[name]}), host, SPEC)
    goal = wanted(steps, ROUNDS)
    moved = {name: array(host[name]) - array(begin[name]) for name in SHAPES}
    assert_moved(moved, goal, steps)
    for name in SHAPES:
        np.testing.assert_allclose(moved[name] + array(link.residual[name]), goal[name], rtol=0, atol=5e-7)


@ROUGH
def test_a_clients_end(wire: str) -> None:
    steps, residual = [state(number // 2 % 3 + 1, 1e-3) for number in range(len(ROUNDS))], {}
    moved = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for name, step in zip(ROUNDS, steps, strict=True):
        payload, residual = pack_update(START, {name: START[name] + step[name]}, wire, 1.0, SPEC, residual)
        arrived = unpack_update(START, payload, wire, 1.0, SPEC)
        assert arrived.keys() == {name}
        moved[name] += array(arrived[name]) - array(START[name])
    goal = wanted(steps, ROUNDS)
    assert_moved(moved, goal, steps)
    for name in SHAPES:
        np.testing.assert_allclose(moved[name] + array(residual[name]), goal[name], rtol=0, atol=5e-7)


def test_a_run_of_rolora_in_int8_loses_nothing_for_good(tmp_path: Path) -> None:
    """After a round each of B, A, B and A: what the means of the updates add up to is held, or waits; and each
    client keeps what it lost of both factors."""
    clients = ["site-1", "site-2", "site-3"]
    run = Driven(
        tmp_path / "run", {"host-1": clients},
        toy_config(**lora_options(aggregator="rolora", wire="int8", num_rounds=4)),
    )  # fmt: skip
    spec, held, first = run.server.aggregation.spec, {}, {}
    moves = {name: np.zeros(shape) for name, (shape, _) in spec.items()}
    for task, updates in run.rounds:
        held = unpack_payload(task.adapter, held, spec)
        first = first or held
        total = sum(u.num_samples for u in updates.values() if u.adapter)
        for update in updates.values():
            for name, tensor in (unpack(update.adapter, spec) if update.adapter else {}).items():
                moves[name] += update.num_samples / total * array(tensor)
    waiting = part(run.server.aggregation.state(), "residual/")
    assert waiting.keys() == spec.keys()
    for name, move in moves.items():
        assert np.abs(array(waiting[name])).max() > 1e-6
        found = array(held[name]) - array(first[name]) + array(waiting[name])
        np.testing.assert_allclose(found, move, rtol=0, atol=2e-7)
    for client in clients:
        last = max((run.folder / "clients" / client).glob("*.safetensors"))
        assert part(decode(last.read_bytes()), RESIDUAL).keys() == spec.keys()
