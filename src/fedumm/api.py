"""The commands as Python functions: their keywords are the options of ``fedumm federate`` and ``fedumm train``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli import federate as federate_command
from fedumm.cli import partition as partition_command
from fedumm.cli import train as train_command
from fedumm.cli.options import with_absolute_paths
from fedumm.cli.resume import RUNNERS, resumed
from fedumm.config import CentralConfig, FederateConfig
from fedumm.errors import FedummError, did_you_mean
from fedumm.plugins import load_plugins, plugin_files
from fedumm.report.run import Run, load_run
from fedumm.report.run_folder import folder_for
from fedumm.run_options import from_mapping

if TYPE_CHECKING:
    from fedumm.data.partition.split import Partition
    from fedumm.training.centralized import CentralResult

__all__ = ["Run", "federate", "load_run", "partition", "train"]


def federate(**options: Any) -> Run:
    """Train one adapter with many clients, as ``fedumm federate`` does, in this process unless ``simulator=True``.

    Progress is shown as by the command; the run folder holds the same files.

    Args:
        options: those of ``fedumm federate``, by name.

    Returns:
        The finished run.

    Raises:
        FedummError: an option, the data or the model is no good; the message says what to do.
        KeyboardInterrupt: it was stopped; ``federate(resume=NAME)`` goes on.

    Example:
        >>> run = fedumm.federate(model_backend="blip_vqa", model_name_or_path="tiny", num_clients=4)  # doctest: +SKIP
        >>> run.best["test"], run.adapter()  # doctest: +SKIP
    """
    config = _federate_config(options)
    if config.export_dir:
        raise FedummError("A job for real sites is exported by the command: fedumm federate --export_dir DIR.")
    # A run without a name is called by the time: asked for once, so that what is run is what is read.
    config = replace(config, name=str(folder_for(config)))
    checked = federate_command.check(config)
    if checked is not None:
        from fedumm.federation.runners.launch import run

        if run(checked, _command("federate", options)):
            raise KeyboardInterrupt
    return load_run(Path(config.name))


def train(**options: Any) -> CentralResult:
    """Train on all data in one place, as ``fedumm train`` does: the baseline.

    Args:
        options: those of ``fedumm train``, by name.

    Returns:
        The adapter, its configuration, and the scores before and after; they are saved in ``output_dir``, too.

    Raises:
        FedummError: an option, the data or the model is no good.
    """
    load_plugins(plugin_files(str(options.get("plugin", ""))))
    config = with_absolute_paths(from_mapping(CentralConfig, options, "options"))
    return train_command.train(config, _command("train", options))


def partition(**options: Any) -> Partition:
    """Split a data set as ``fedumm partition`` does, without loading a model.

    Args:
        options: those of ``fedumm partition`` that say how rows are split, by name.

    Returns:
        Each client's rows, to train on and held out; ``counts(labels)`` counts them by label.

    Raises:
        FedummError: an option or the data is no good.
    """
    load_plugins(plugin_files(str(options.get("plugin", ""))))
    if unknown := sorted(options.keys() - partition_command.SHARED):
        raise FedummError(f"Unknown option {unknown[0]!r}.{did_you_mean(unknown[0], partition_command.SHARED)}")
    if not options.get("dataset"):
        raise FedummError("Say which data set: partition(dataset=...).")
    return partition_command.split(partition_command.checked(options))[1]


def _federate_config(options: Mapping[str, Any]) -> FederateConfig:
    load_plugins(plugin_files(str(options.get("plugin", ""))))
    if options.get("resume"):
        return resumed(options)
    runner = {} if any(options.get(name) for name in RUNNERS) else {"in_process": True}
    return with_absolute_paths(from_mapping(FederateConfig, {**options, **runner}, "options"))


def _command(name: str, options: Mapping[str, Any]) -> str:
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
