"""Error feedback: what coding lost of one message is added to the next (Seide et al., 2014; Karimireddy et al., 2019).

Then what has arrived after any number of messages falls short of what was sent by the last residual alone.
This is for a sender whose next values do not depend on what arrived, such as a client's updates. Who sends differences
against what the receiver holds, as decoded, has the loss in the next difference already and must not add it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from fedumm.adapters.state import AdapterState, Spec
from fedumm.compression.packing import pack, unpack


class Sent(NamedTuple):
    """A message, what its receiver decodes, and the residual for the next one."""

    payload: bytes
    decoded: AdapterState
    residual: AdapterState


def send(
    values: Mapping[str, torch.Tensor],
    residual: Mapping[str, torch.Tensor],
    wire: str,
    spec: Spec,
    keep: float = 1.0,
) -> Sent:
    """Pack ``values`` with the ``residual`` of the message before (at first ``{}``); neither is changed.

    The residual of a tensor that is not in ``values`` waits. For ``float32`` with ``keep`` 1 there is none.

    Raises:
        ValueError: as :func:`fedumm.compression.packing.pack`.
    """
    total = {name: tensor + residual[name] if name in residual else tensor for name, tensor in values.items()}
    payload = pack(total, wire, spec, keep)
    decoded = unpack(payload, spec)
    waiting = {name: tensor for name, tensor in residual.items() if name not in values}
    return Sent(payload, decoded, waiting | lost(total, decoded))


def lost(values: Mapping[str, torch.Tensor], decoded: Mapping[str, torch.Tensor]) -> AdapterState:
    """``values - decoded`` of the tensors that differ.

    Entries that are not finite count as no loss: carried along, they would spoil every message to come.
    """
    losses = {name: (values[name] - decoded[name]).nan_to_num(0.0, 0.0, 0.0) for name in sorted(decoded)}
    return {name: loss for name, loss in losses.items() if loss.any()}
