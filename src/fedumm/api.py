"""The commands as Python functions: their keywords are the options of ``fedumm federate`` and ``fedumm train``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli import federate as federate_command
from fedumm.cli import partition as partition_command
from fedumm.cli import train as train_command
from fedumm.cli.options import with_absolute_paths
from fedumm.cli.plugins import load_for_run
from fedumm.cli.resume import RUNNERS, resumed
from fedumm.config import CentralConfig, FederateConfig
from fedumm.errors import FedummError, did_you_mean
from fedumm.registry import REGISTRIES
from fedumm.report.run import Run, load_run
from fedumm.report.run_folder import folder_for
from fedumm.run_options import from_mapping

if TYPE_CHECKING:
    from fedumm.data.partition.split import Partition
    from fedumm.run_events import RunListener
    from fedumm.training.centralized import CentralResult

__all__ = ["Run", "federate", "load_run", "partition", "train"]


def federate(*, listeners: Sequence[RunListener] = (), **options: Any) -> Run:
    """Train one adapter with many clients, as ``fedumm federate`` does, in this process unless ``simulator=True``.

    Progress is shown as by the command; the run folder holds the same files.

    Args:
        listeners: are told what happens in the run (:mod:`fedumm.run_events`); not with ``simulator=True``.
        options: those of ``fedumm federate``, by name. Paths may be :class:`~pathlib.Path`, several a list.

    Returns:
        The finished run.

    Raises:
        FedummError: an option, the data or the model is invalid; the message says what to do.
        KeyboardInterrupt: it was stopped; ``federate(resume=NAME)`` resumes it.

    Example:
        >>> run = fedumm.federate(model_backend="blip_vqa", model_name_or_path="tiny", num_clients=4)  # doctest: +SKIP
        >>> run.best["test"], run.adapter()  # doctest: +SKIP
    """
    given = _plain(options)
    config = _federate_config(given)
    if config.export_dir:
        raise FedummError("A job for real sites is exported by the command: fedumm federate --export_dir DIR.")
    if config.simulator:
        _check_own(config)
    # A run without a name is called by the time: asked for once, so that what is run is what is read.
    config = replace(config, name=str(folder_for(config).resolve()))
    checked = federate_command.check(config)
    if checked is not None:
        from fedumm.federation.runners.launch import run

        if run(checked, _command("federate", given), listeners):
            raise KeyboardInterrupt
    return load_run(Path(config.name))


def train(**options: Any) -> CentralResult:
    """Train on all data in one place, as ``fedumm train`` does: the baseline.

    Args:
        options: those of ``fedumm train``, by name.

    Returns:
        The adapter, its configuration, and the scores before and after; they are saved in ``output_dir``, too.

    Raises:
        FedummError: an option, the data or the model is invalid.
    """
    given = _plain(options)
    load_for_run(given)
    config = with_absolute_paths(from_mapping(CentralConfig, given, "options"))
    return train_command.train(config, _command("train", given))


def partition(**options: Any) -> Partition:
    """Split a data set as ``fedumm partition`` does, without loading a model.

    Args:
        options: those of ``fedumm partition`` that say how rows are split, by name.

    Returns:
        Each client's rows, to train on and held out; ``counts(labels)`` counts them by label.

    Raises:
        FedummError: an option or the data is invalid.
    """
    given = _plain(options)
    load_for_run(given)
    if unknown := sorted(given.keys() - partition_command.SHARED):
        raise FedummError(f"Unknown option {unknown[0]!r}.{did_you_mean(unknown[0], partition_command.SHARED)}")
    if not given.get("dataset"):
        raise FedummError("Say which data set: partition(dataset=...).")
    return partition_command.split(partition_command.checked(given))[1]


def _federate_config(options: Mapping[str, Any]) -> FederateConfig:
    load_for_run(options)
    if options.get("resume"):
        return resumed(options)
    runner = {} if any(options.get(name) for name in RUNNERS) else {"in_process": True}
    return with_absolute_paths(from_mapping(FederateConfig, {**options, **runner}, "options"))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a file of options has them: paths as texts, several of them joined, and nothing for None."""
    return {name: _plain_value(value) for name, value in options.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return os.pathsep.join(os.fspath(one) for one in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_own(config: FederateConfig) -> None:
    """Hosts of the simulator are other processes, which know what plugins register, and nothing else of this one."""
    files = {os.path.realpath(file) for file in config.plugins}
    split = config.partition.partition(":")[0]
    used = {
        config.model_backend,
        config.aggregator,
        config.dataset,
        config.answer_metric,
        config.up,
        config.down,
        split,
    }
    for registry in REGISTRIES:
        for name, item in registry.own().items():
            module = sys.modules.get(getattr(item, "__module__", ""))
            if name in used and os.path.realpath(getattr(module, "__file__", None) or "") not in files:
                raise FedummError(
                    f"The {registry.kind} {name!r} is registered in this process only, and simulator=True starts "
                    "others: put it into a file and name that (plugin=FILE), or leave simulator out."
                )


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
