"""One run of a study, and one row of its table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEDERATED, CENTRAL, LOCAL_ONLY, ZERO_SHOT = "federated", "central", "local_only", "zero_shot"
COLUMNS = {
    FEDERATED: "federated",
    CENTRAL: "central",
    LOCAL_ONLY: "local only",
    ZERO_SHOT: "zero-shot",
}
"""What a study can compare, and the headings of the tables."""

CHOSEN = "lr"
"""What a study can choose by held-out data."""

TO_CHOOSE = "-to-choose"
"""Stands for a learning rate that the short runs have not chosen yet."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        kind: ``federated``, ``central`` or ``local_only``.
        name: its folder below the study's.
        options: those that were given, or follow from the study, by name.
        rounds: how long it trains; a round of a run without an exchange is ``local_epochs`` epochs.
        short: whether it is there to choose the learning rate only.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    rounds: int
    short: bool = False

    @property
    def to_choose(self) -> bool:
        """Whether its learning rate is not chosen yet."""
        return self.options.get(CHOSEN) == TO_CHOOSE

    @property
    def command(self) -> str:
        """What makes such a run alone, in a shell."""
        words = ["fedumm", {FEDERATED: "federate", CENTRAL: "train", LOCAL_ONLY: "sweep"}[self.kind]]
        for name, value in self.options.items():
            words += [f"--{name}"] if value is True else [] if value is False else [f"--{name}", str(value)]
        words += {FEDERATED: ["--in_process"], CENTRAL: [], LOCAL_ONLY: ["--compare", LOCAL_ONLY, "--name", "NAME"]}[
            self.kind
        ]
        return shlex.join(words)


@dataclass(frozen=True)
class Cell:
    """One row of a study's table: a setting, and its runs by kind, one for each seed.

    Attributes:
        setting: the options that have several values in the study, but the seed, with their values here.
    """

    setting: Mapping[str, Any]
    runs: Mapping[str, Sequence[str]]
