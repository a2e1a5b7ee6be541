"""Keywords as the options of a command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from fedumm.cli.resume import RUNNERS
from fedumm.errors import FedummError
from fedumm.texts import one_line


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a file of options has them: paths as texts, several of them joined, and nothing for None.

    Raises:
        FedummError: one has a list of something else, as a study has.
    """
    return {name: _plain_value(name, value) for name, value in options.items() if value is not None}


def _plain_value(name: str, value: Any) -> Any:
    if name == "client_data" and isinstance(value, Mapping):
        return ",".join(f"{client}={os.fspath(place)}" for client, place in value.items())
    if isinstance(value, list | tuple):
        if not all(isinstance(one, str | os.PathLike) for one in value):
            several = ",".join(map(str, value))
            raise FedummError(
                f"{name}: a run takes one value, not {len(value)}. Several runs are a study: "
                f"fedumm sweep --{name} {one_line(several, 80)} --name STUDY, with the other options."
            )
        return ("," if name == "without" else os.pathsep).join(os.fspath(one) for one in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def command(name: str, options: Mapping[str, Any]) -> str:
    """What does the same in a shell; it stands in the run's ``config.yaml``."""
    words: list[str] = []
    for option, value in options.items():
        if isinstance(value, bool):
            words += [f"--{option}"] if value else []
        else:
            words += [f"--{option}", str(value)]
    if name == "federate" and not any(options.get(runner) for runner in (*RUNNERS, "resume")):
        words.append("--in_process")
    return shlex.join(["fedumm", name, *words])
