"""Which options may change when a run is resumed, and which make another run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fedumm.config import CODE, EXECUTION, FederateConfig, RunConfig, option_fields
from fedumm.errors import FedummError
from fedumm.run_options import to_mapping

_PART_OF_THE_RESULT = {"threads", "hosts"}
_FOLDERS = {"data_path", "feature_cache_dir", "image_root"}
FREE = {
    f.name for f in option_fields(FederateConfig) if f.metadata["group"] == EXECUTION
} - _PART_OF_THE_RESULT | _FOLDERS
"""Options that may change when a run is resumed: where and how it is run. More rounds may follow, too."""

LOCAL_NOISE = "a round done again would send updates with other noise, which costs privacy again"


def check_rounds(values: Mapping[str, Any], num_rounds: Any) -> None:
    """Raise :class:`FedummError` if a run of the options ``values`` can't be resumed with that many rounds."""
    if values.get("dp") == "local":
        raise FedummError(f"With --dp local a run can't be resumed: {LOCAL_NOISE}.")
    if values.get("dp_epsilon") and num_rounds != values.get("num_rounds"):
        raise FedummError("--num_rounds can't be changed: the noise was chosen for --dp_epsilon after all rounds.")
    planned = values.get("lr_schedule", "constant") != "constant" or values.get("lr_warmup")
    if planned and num_rounds != values.get("num_rounds"):
        raise FedummError(
            "--num_rounds can't be changed: the learning rate was planned for all rounds (--lr_schedule, --lr_warmup)."
        )


def check_same(path: Path, begun: RunConfig, config: RunConfig, may_differ: Collection[str] = ("num_rounds",)) -> None:
    """Raise :class:`FedummError` if the run in ``path``, which began as ``begun``, has another result than ``config``.

    Args:
        may_differ: options that may, besides those that say where and how it is run.
    """
    before, now = to_mapping(begun), to_mapping(config)
    # Of another aggregator, its name says enough.
    names = [name for name in before.keys() & now.keys() if name not in FREE | {*may_differ, CODE}]
    other = [name for name in before if name in names and before[name] != now[name]]
    if other:
        told = ", ".join(f"--{name} {before[name]!r}, not {now[name]!r}" for name in other)
        raise FedummError(f"The run in {path} began with {told}. Use the same options, or another --name.")
