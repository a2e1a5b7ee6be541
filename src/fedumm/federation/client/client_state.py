"""What a client keeps from round to round: its own factors, its control variate, what rounding lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from fedumm.adapters import AdapterState, decode, encode
from fedumm.adapters.state import under
from fedumm.files import replacing

OWN, CONTROL, RESIDUAL = "own/", "control/", "residual/"
"""Prefixes of the tensors' names: a client's own LoRA factors, SCAFFOLD's c_k, and lost roundings."""

_FILES = "[0-9]" * 6 + ".safetensors"
"""The only files that are deleted."""


class ClientState:
    """A file for each client and round: a client resumes from the last round whose update was accepted.

    Args:
        folder: made when there is something to keep. Clients' names become folders in it: they are checked before
            (:mod:`fedumm.federation.protocol.names`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, client: str, round_number: int) -> AdapterState:
        """What the client kept from round ``round_number``; often nothing, of round 0 always."""
        path = self._file(client, round_number)
        return decode(path.read_bytes()) if path.exists() else {}

    def save(self, client: str, round_number: int, state: Mapping[str, torch.Tensor], last_accepted_round: int) -> None:
        """Keep ``state``, whole or not at all, and that of ``last_accepted_round``, and delete all others.

        If the update of this round is not accepted, the client resumes from ``last_accepted_round``.
        """
        path = self._file(client, round_number)
        if state:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as draft:
                draft.write_bytes(encode(state))
        kept = {path, self._file(client, last_accepted_round)} if state else {self._file(client, last_accepted_round)}
        for other in {*path.parent.glob(_FILES)} - kept:
            other.unlink()

    def _file(self, client: str, round_number: int) -> Path:
        return self.folder / client / f"{round_number:06d}.safetensors"


def next_client_state(
    before: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    control: Mapping[str, torch.Tensor],
    residual: Mapping[str, torch.Tensor],
) -> AdapterState:
    """What a client keeps after a round: newly trained factors and control variates replace those of ``before``, and
    ``residual`` replaces everything that rounding has lost until now."""
    stays = {name: t for name, t in before.items() if not name.startswith(RESIDUAL)}
    return stays | under(OWN, own) | under(CONTROL, control) | under(RESIDUAL, residual)
