"""Both ends hold the same bits, and what rounding loses arrives later."""

from __future__ import annotations

import pytest
import torch

from fedumm.adapters import AdapterState, spec_of
from fedumm.compression.packing import pack
from fedumm.compression.registry import WIRES
from fedumm.federation.protocol.messages import TensorPayload
from fedumm.federation.protocol.transfer import Downlink, pack_update, unpack_payload, unpack_update

SHAPES = {"m.lora_A.weight": (4, 70), "m.lora_B.weight": (90, 4), "head": (7,)}


def state(seed: int, scale: float = 1.0) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


SPEC = spec_of(state(0))


def equal(a: AdapterState, b: AdapterState) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("feedback", [True, False])
def test_the_host_holds_what_the_server_believes_it_holds(wire: str, feedback: bool) -> None:
    link = Downlink(wire, feedback, SPEC, state(0))
    host = unpack_payload(link.first(), {}, SPEC)
    assert equal(host, link.held)
    for round_number in range(1, 6):
        host = unpack_payload(link.send(state(round_number)), host, SPEC)
        assert equal(host, link.held)
        host = unpack_payload(link.nothing(), host, SPEC)
        assert equal(host, link.held), "a repeated round changes nothing"
    assert equal(unpack_payload(link.whole(), {}, SPEC), link.held), "a resumed host is where the others are"


def test_float32_is_exact_and_sends_only_what_changed() -> None:
    link = Downlink("float32", True, SPEC, state(0))
    link.first()
    following = {**state(1), "m.lora_A.weight": link.held["m.lora_A.weight"].clone()}
    payload = link.send(following)
    assert equal(link.held, following)
    assert len(payload) < len(pack(following, "float32", SPEC)) - 4 * 4 * 70 + 1
    assert not link.residual


@pytest.mark.parametrize("wire", ["int8", "nf4"])
def test_what_rounding_lost_is_added_the_next_time(wire: str) -> None:
    """Small equal steps, as aggregated from what the hosts hold: after many, the hosts have moved by their sum."""
    link = Downlink(wire, True, SPEC, state(0))
    link.first()
    begin, step = dict(link.held), state(1, 1e-3)
    for _ in range(50):
        link.send({name: link.held[name] + step[name] for name in SHAPES})
    for name in SHAPES:
        moved, wanted = link.held[name] - begin[name], 50 * step[name]
        torch.testing.assert_close(moved + link.residual[name], wanted, rtol=1e-3, atol=1e-5)
        assert (moved - wanted).abs().max() < 2 * step[name].abs().max(), "one step's rounding, not fifty"


def test_a_factor_that_was_not_trained_stays_silent_though_rounding_lost_of_it() -> None:
    link = Downlink("int8", True, SPEC, state(0))
    link.first()
    link.send(state(1))
    assert link.residual["m.lora_A.weight"].abs().max() > 0
    payload = link.send({**link.held, "m.lora_B.weight": state(2)["m.lora_B.weight"]})
    assert len(payload) < 1.1 * 90 * 4 + 100


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("keep", [1.0, 0.1])
def test_a_client_and_the_server_agree_on_what_came_through(wire: str, keep: float) -> None:
    start, residual, total = state(0), dict[str, torch.Tensor](), dict.fromkeys(SHAPES, torch.zeros(()))
    for round_number in range(1, 8):
        trained = {name: start[name] + t for name, t in state(round_number, 1e-2).items()}
        payload, residual = pack_update(start, trained, wire, keep, SPEC, residual)
        arrived = unpack_update(start, payload, wire, keep, SPEC)
        if wire == "float32" and keep == 1.0:
            assert equal(arrived, trained)
        for name in SHAPES:
            total[name] = total[name] + (arrived[name] - start[name])
    for name in SHAPES:
        wanted = sum(state(r, 1e-2)[name] for r in range(1, 8))
        torch.testing.assert_close(total[name] + residual.get(name, 0.0), wanted, rtol=1e-4, atol=1e-5)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown mode 'all'"):
        unpack_payload(TensorPayload("all", pack({}, "float32", SPEC)), state(0), SPEC)
