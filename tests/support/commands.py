"""``job.py`` in the tests' own process, on the toy backend with LoRA, and what it leaves in its folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fedumm.cli.main import run as run_command
from fedumm.config import FederateConfig
from fedumm.report.run_folder import RunFolder, read_records
from fedumm.run_options import known_options, to_mapping
from support.toy import LORA_TOY, PlainFolder, lora_options, toy_config

BACKEND = ("--plugin", str(LORA_TOY))
JOB = Path(__file__).parents[2] / "job.py"
OTHER = {"seconds", "seconds_train", "seconds_eval", "seconds_host", "elapsed", "bytes_down"}
"""Times; and hosts that begin anew are sent the whole adapter."""


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures; and backends' files find their neighbours, in processes of their own as well."""
    for name in ("_draw_partition", "_write_events"):
        monkeypatch.setattr(RunFolder, name, getattr(PlainFolder, name))
    monkeypatch.setattr(RunFolder, "finish", lambda self: None)
    paths = [str(LORA_TOY.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def flags(folder: Path, **options: Any) -> list[str]:
    """The command line of a run of three rounds, in process."""
    config = toy_config(**lora_options(**{"num_rounds": 3, "name": str(folder), **options}))
    defaults = {name: f.default for name, f in known_options(FederateConfig).items()}
    given = {name: value for name, value in to_mapping(config).items() if value != defaults[name]}
    parts = [[f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in given.items()]
    return [part for own in parts for part in own]


def federate(*argv: object) -> int:
    """The exit status of ``job.py``."""
    return run_command("federate", [str(arg) for arg in argv], "job.py")


def go_on(folder: object, *more: object) -> int:
    """The exit status of ``job.py --resume``, with the backend's file named again."""
    return federate("--resume", folder, *BACKEND, *more)


def results(folder: Path) -> dict[str, bytes]:
    """All files of the two adapters."""
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(folder.name.encode(), b"")
        for path in sorted((folder / "adapter").rglob("*"))
        if path.is_file()
    }


def records(folder: Path) -> list[dict[str, Any]]:
    """All but where runs went on, without what may differ."""
    kept = [r for r in read_records(folder) if r["event"] != "resumed"]
    return [{key: value for key, value in record.items() if key not in OTHER} for record in kept]
