"""What a client keeps from round to round: its own factors, its control variate, what rounding lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from fedumm.adapters import AdapterState, decode, encode

OWN, CONTROL, RESIDUAL = "own/", "control/", "residual/"
"""Prefixes of the tensors' names: a client's own LoRA factors, SCAFFOLD's c_k, and lost roundings."""

_KEPT = 2


class ClientMemory:
    """A file for each client and round, so that a round that is done again starts from what was there before it.

    Args:
        folder: made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, client: str, before: int) -> AdapterState:
        """What the client kept from its last round before round ``before``; often nothing."""
        earlier = [path for path in self._files(client) if int(path.stem) < before]
        return decode(earlier[-1].read_bytes()) if earlier else {}

    def save(self, client: str, round_number: int, state: Mapping[str, torch.Tensor]) -> None:
        """Keep ``state``, whole or not at all; of older rounds the last one stays."""
        if not state:
            return
        own = self.folder / client
        own.mkdir(parents=True, exist_ok=True)
        draft = own / ".draft"
        draft.write_bytes(encode(state))
        os.replace(draft, own / f"{round_number:06d}.safetensors")
        # What an earlier try of a resumed run left behind for later rounds goes too.
        files = self._files(client)
        past = [path for path in files if int(path.stem) <= round_number]
        for path in {*files} - {*past[-_KEPT:]}:
            path.unlink()

    def _files(self, client: str) -> list[Path]:
        return sorted((self.folder / client).glob("*.safetensors"))


def part(state: Mapping[str, torch.Tensor], prefix: str) -> AdapterState:
    """The tensors under ``prefix``, by their names without it."""
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def under(prefix: str, state: Mapping[str, torch.Tensor]) -> AdapterState:
    """The inverse of :func:`part`."""
    return {prefix + name: t for name, t in state.items()}
