"""Which options a job for real sites holds: none of the exporter's machine, no path and no code."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig, option_fields, read_yaml
from fedumm.data.source import available_sources
from fedumm.errors import FedummError
from fedumm.report.run_folder import CONFIG
from fedumm.run_options import from_mapping, known_options, to_mapping
from fedumm.texts import one_line

_NAMES = ("model_name_or_path", "dataset")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?(:[\w.-]+)?")
"""Of a data set, its configuration may follow: ``OWNER/NAME:CONFIGURATION``."""


def job_options(config: FederateConfig) -> dict[str, Any]:
    """What of ``config`` a job holds.

    Raises:
        FedummError: the model or the data set is a path of this machine.
    """
    _check_names(config, "is a path of this machine, and a job is for others: name")
    values = to_mapping(config)
    return {name: values[name] for name in sorted(values.keys() - _own_of_machines())}


def stays_here(config: FederateConfig) -> list[str]:
    """Options that were given, change how a host works, and are not in the job: each site has its own."""
    of_the_export = {"export_dir", "name", "overwrite", "resume_if_exists"}
    own = _own_of_machines() - of_the_export
    return [f.name for f in option_fields(FederateConfig) if f.name in own and getattr(config, f.name) != f.default]


def mapping_of_job(options: Any) -> dict[str, Any]:
    """The options of a job that comes from somebody else, none of which is looked at.

    Raises:
        FedummError: they are no mapping.
    """
    if not isinstance(options, dict):
        raise FedummError(f"The job's run_config is of type {type(options).__name__}, not a mapping of options.")
    return options


def config_of_job(options: Any) -> FederateConfig:
    """The options of a job that comes from somebody else. What they name of installed packages is imported.

    Raises:
        FedummError: they are not such as :func:`job_options` gives: another type, an option that is a machine's own, a
            path, a value out of bounds.
    """
    options = mapping_of_job(options)
    for name in known_options(FederateConfig):
        if name in options and name in _own_of_machines():
            raise FedummError(f"The job sets --{name}, which each machine sets for itself: remove it from the job.")
    config = from_mapping(FederateConfig, options, "the job")
    _check_names(config, "is not a name. A job names")
    for name in _NAMES:
        # A folder beside FLARE's own would be taken for it.
        if getattr(config, name) not in _shipped() and os.path.lexists(getattr(config, name)):
            raise FedummError(f"--{name} {one_line(getattr(config, name))}: there is a file with that name here.")
    return config


def options_of_result(folder: Path) -> FederateConfig:
    """Those of a run whose folder comes from a server, without what belongs to the server's machine.

    Raises:
        FedummError: it has none, or such as no job has.
    """
    values = read_yaml(folder / CONFIG)
    own = _own_of_machines()
    config = from_mapping(FederateConfig, {k: v for k, v in values.items() if k not in own}, "the job's result")
    _check_names(config, "is a path in the job's result, which names")
    return config


def _own_of_machines() -> set[str]:
    return {name for name, f in known_options(FederateConfig).items() if not f.metadata["travels"]}


def _shipped() -> set[str]:
    return {"", "tiny", *available_sources()}


def _check_names(config: FederateConfig, problem: str) -> None:
    for name in _NAMES:
        value = getattr(config, name)
        if value not in _shipped() and not _NAME.fullmatch(value):
            own = "the data set by one that fedumm ships, " if name == "dataset" else "the model by 'tiny', "
            raise FedummError(
                f"--{name} {one_line(value)} {problem} {own}a Hub id, or the name that it has in the sites' policies."
            )
