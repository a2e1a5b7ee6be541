"""What a run needs to be resumed after its process ended, however that ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fedumm.adapters import AdapterState
from fedumm.errors import FedummError
from fedumm.federation.server.checkpoint_facts import checked
from fedumm.files import write_durably
from fedumm.texts import one_line

_STATE, _KEY = "server.safetensors", "fedumm"


class Checkpoint:
    """The server's state after its last finished round, and the changes of the backbone so far, a file each.

    The state is one file, replaced as a whole: there is a consistent one at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the state; ``facts`` are JSON values."""
        self.folder.mkdir(exist_ok=True)
        content = save({name: t.contiguous() for name, t in tensors.items()}, {_KEY: json.dumps(facts)})
        write_durably(self.folder / _STATE, content)

    def exists(self) -> bool:
        """Whether a round was finished."""
        return (self.folder / _STATE).exists()

    def load(self) -> tuple[AdapterState, dict[str, Any]] | None:
        """The state, or None if no round was finished.

        Raises:
            FedummError: the file is damaged, or its facts are not those of a server.
        """
        path = self.folder / _STATE
        if not self.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                # Copies, as of those that arrive: see fedumm.adapters.serialization.decode.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                return tensors, checked(json.loads(file.metadata()[_KEY]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FedummError(f"{path} is damaged ({one_line(error)}): this run can't be resumed.") from error

    def save_change(self, round_number: int, payload: bytes) -> None:
        """Keep what the backbone grew by in a round."""
        self.folder.mkdir(exist_ok=True)
        write_durably(self._change(round_number), payload)

    def changes(self, rounds: int) -> list[bytes]:
        """Those of the first ``rounds`` rounds, in order.

        Raises:
            FedummError: one is missing.
        """
        paths = [self._change(number + 1) for number in range(rounds)]
        try:
            return [path.read_bytes() for path in paths]
        except FileNotFoundError as error:
            raise FedummError(f"{error.filename} is missing: this run can't be resumed.") from error

    def _change(self, round_number: int) -> Path:
        return self.folder / f"change-{round_number:06d}"
