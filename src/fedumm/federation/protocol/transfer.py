"""Adapters between server and hosts: what the other side holds, and what it has to be told.

To the clients, in ``float32``: tensors that changed, as they are. Otherwise the difference to what the hosts hold,
rounded. Clients continue from what they hold, so what rounding lost is not in the next difference by itself: it is
added to it (error feedback, Seide et al., 2014). Where new factors do not continue the old ones (``supports_deltas`` is
false) a difference means nothing, and rounded values travel.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedumm.adapters import AdapterState, Spec, decode, encode, spec_of
from fedumm.compression.error_feedback import send
from fedumm.compression.packing import coding, pack, unpack
from fedumm.federation.protocol.messages import TensorPayload

WHOLE, VALUES, DELTA = "whole", "values", "delta"


class Downlink:
    """The server's end.

    Attributes:
        held: what every host holds.
        residual: by tensor, what rounding has lost so far; empty in float32.
    """

    def __init__(self, wire: str, feedback: bool, spec: Spec, held: AdapterState) -> None:
        self._wire, self._spec, self._feedback = wire, spec, feedback
        self.held, self.residual = dict(held), dict[str, torch.Tensor]()

    def first(self) -> TensorPayload:
        """The first adapter, of which rounding makes another first adapter (:func:`as_received`)."""
        payload = TensorPayload(VALUES, pack(self.held, self._wire, self._spec))
        self.held = unpack_payload(payload, {}, self._spec)
        return payload

    def whole(self) -> TensorPayload:
        """All that is held, exactly, for hosts that hold nothing."""
        return TensorPayload(WHOLE, encode(self.held))

    def nothing(self) -> TensorPayload:
        """For hosts that are up to date."""
        return TensorPayload(VALUES, pack({}, "float32", self._spec))

    def send(self, state: Mapping[str, torch.Tensor]) -> TensorPayload:
        """What makes ``state``, or what rounding leaves of it, of what the hosts hold; from now on they hold that."""
        changed = {
            name: t + self.residual[name] if name in self.residual else t
            for name, t in state.items()
            if not torch.equal(t, self.held[name])
        }
        if self._wire == "float32":
            payload = TensorPayload(VALUES, pack(changed, "float32", self._spec))
        elif not self._feedback:
            payload = TensorPayload(VALUES, pack(changed, self._wire, self._spec))
        else:
            delta = {name: t - self.held[name] for name, t in changed.items()}
            payload = TensorPayload(DELTA, pack(delta, self._wire, self._spec))
        self.held = unpack_payload(payload, self.held, self._spec)
        if payload.mode == DELTA:
            self.residual |= {name: t - self.held[name] for name, t in changed.items()}
        return payload


def as_received(first: AdapterState, wire: str) -> AdapterState:
    """The first adapter as it arrives: what a host that derived it itself is sent in the first round."""
    spec = spec_of(first)
    return unpack(pack(first, wire, spec), spec)


def unpack_payload(payload: TensorPayload, held: Mapping[str, torch.Tensor], spec: Spec) -> AdapterState:
    """What the receiver holds after ``payload``; the same bits at both ends.

    Raises:
        ValueError: the payload is not for this adapter.
    """
    if payload.mode == WHOLE:
        return decode(payload.payload)
    sent = unpack(payload.payload, spec)
    if payload.mode == DELTA:
        sent = {name: held[name] + t for name, t in sent.items()}
    elif payload.mode != VALUES:
        raise ValueError(f"unknown mode {payload.mode!r}")
    return {**held, **sent}


def pack_update(
    start: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], wire: str, keep: float, spec: Spec,
    residual: Mapping[str, torch.Tensor],
) -> tuple[bytes, AdapterState]:  # fmt: skip
    """A client's end: ``trained`` as bytes, and what rounding lost, to be added the next time.

    Args:
        start: what the client started from, which the server knows.
        keep: share of the values that travel; see :func:`fedumm.compression.packing.pack`.
        residual: what was lost so far; empty for methods whose factors do not continue the old ones.
    """
    if wire == "float32" and keep == 1.0:
        return pack(trained, wire, spec), {}
    delta = {name: t - start[name] for name, t in trained.items()}
    sent = send(delta, residual, wire, spec, keep)
    return sent.payload, sent.residual


def unpack_update(
    start: Mapping[str, torch.Tensor], payload: bytes, wire: str, keep: float, spec: Spec
) -> AdapterState:
    """The server's end of :func:`pack_update`: the tensors that the client trained, as far as they came through.

    Raises:
        ValueError: ``payload`` is not for this adapter, or not coded as agreed.
    """
    if (found := coding(payload)) != (wire, keep):
        raise ValueError("it came as {} with {:g} of its values, expected {} with {:g}".format(*found, wire, keep))
    sent = unpack(payload, spec)
    if wire == "float32" and keep == 1.0:
        return sent
    return {name: start[name] + t for name, t in sent.items()}
