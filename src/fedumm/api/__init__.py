"""The commands as Python functions: their keywords are the options of ``fedumm federate`` and ``fedumm train``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.api.adapter import Adapter
from fedumm.api.evaluation import evaluate
from fedumm.api.given import command, plain
from fedumm.api.run import Run, load_run
from fedumm.cli import federate as federate_command
from fedumm.cli import partition as partition_command
from fedumm.cli import train as train_command
from fedumm.cli.options import check_caches, check_model, with_absolute_paths
from fedumm.cli.plugins import load_for_run
from fedumm.cli.resume import RUNNERS, resumed
from fedumm.config import CentralConfig, FederateConfig, RunConfig
from fedumm.errors import FedummError, did_you_mean
from fedumm.own_objects import check_process, named, not_repeatable
from fedumm.registry import REGISTRIES
from fedumm.report.run_folder import folder_for
from fedumm.run_options import from_mapping

if TYPE_CHECKING:
    from fedumm.data.partition.split import Partition
    from fedumm.run_events import RunListener
    from fedumm.training.centralized import CentralResult

__all__ = ["Adapter", "Run", "dry_run", "evaluate", "federate", "load_run", "partition", "train"]


def federate(*, listeners: Sequence[RunListener] = (), **options: Any) -> Run:
    """Train one adapter with many clients, as ``fedumm federate`` does, in this process unless ``simulator=True``.

    Progress is shown as by the command; the run folder holds the same files.

    Args:
        listeners: are told what happens in the run (:mod:`fedumm.run_events`); not with ``simulator=True``.
        options: those of ``fedumm federate``, by name. Paths may be :class:`~pathlib.Path`, several a list.
            ``dataset`` may be a ``datasets.DatasetDict`` or ``Dataset``, ``model_backend`` a backend, ``aggregator``
            and ``partition`` a class or an object: nothing has to be registered, but such a run is in this process,
            and its ``config.yaml`` says that it can't be repeated from there.

    Returns:
        The finished run.

    Raises:
        FedummError: an option, the data or the model is invalid; the message says what to do.
        KeyboardInterrupt: it was stopped; ``federate(resume=NAME)`` resumes it.

    Example:
        >>> run = fedumm.federate(model_backend="blip_vqa", model_name_or_path="tiny", num_clients=4)  # doctest: +SKIP
        >>> run.rounds, run.adapter("best").answer("shape.png", "what color is the shape?")  # doctest: +SKIP
    """
    options = plain(options)
    if options.get("simulator"):
        check_process(options, "simulator=True starts others, which don't know it")
    if options.get("resume") or options.get("resume_if_exists"):
        check_process(options, "nobody could tell whether a resumed run is given the same")
    with named(options) as given:
        config = _federate_config(given)
        _check_wet(config)
        if config.export_dir:
            raise FedummError("A job for real sites is exported by the command: fedumm federate --export_dir DIR.")
        if config.simulator:
            _check_own(config)
        # A run without a name is called by the time: asked for once, so that what is run is what is read.
        config = replace(config, name=str(folder_for(config).resolve()))
        checked = federate_command.check(config)
        if checked is not None:
            from fedumm.federation.runners.launch import run

            if run(checked, not_repeatable(options) or command("federate", given), listeners):
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
    options = plain(options)
    with named(options) as given:
        load_for_run(given)
        config = with_absolute_paths(from_mapping(CentralConfig, given, "options"))
        _check_wet(config)
        return train_command.train(config, not_repeatable(options) or command("train", given))


def dry_run(*, central: bool = False, **options: Any) -> None:
    """Tell what :func:`federate`, or :func:`train`, would do with these options and what it would take; write nothing.

    Args:
        central: whether they are for :func:`train`.
        options: those of the run, by name.

    Raises:
        FedummError: what the run would stop at.
    """
    from fedumm.cli.dry_run import dry_run as tell

    with named(plain(options)) as given:
        if central:
            load_for_run(given)
            config = with_absolute_paths(from_mapping(CentralConfig, given, "options"))
            check_model(config)
            check_caches(config)
            tell(config)
        else:
            federated = _federate_config(given)
            federate_command.check(federated)
            tell(federated)


def partition(**options: Any) -> Partition:
    """Split a data set as ``fedumm partition`` does, without loading a model.

    Args:
        options: those of ``fedumm partition`` that say how rows are split, by name.

    Returns:
        Each client's rows, to train on and held out; ``counts(labels)`` counts them by label.

    Raises:
        FedummError: an option or the data is invalid.
    """
    with named(plain(options)) as given:
        load_for_run(given)
        if unknown := sorted(given.keys() - partition_command.SHARED):
            raise FedummError(f"Unknown option {unknown[0]!r}.{did_you_mean(unknown[0], partition_command.SHARED)}")
        if not given.get("dataset"):
            raise FedummError("Say which data set: partition(dataset=...).")
        return partition_command.split(partition_command.checked(given))[1]


def _check_wet(config: RunConfig) -> None:
    if config.dry_run:
        raise FedummError("dry_run=True: there would be no run to return. Call fedumm.dry_run(...) with these options.")


def _federate_config(options: Mapping[str, Any]) -> FederateConfig:
    load_for_run(options)
    if options.get("resume"):
        return resumed(options)
    runner = {} if any(options.get(name) for name in RUNNERS) else {"in_process": True}
    return with_absolute_paths(from_mapping(FederateConfig, {**options, **runner}, "options"))


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
