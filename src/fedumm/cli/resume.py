"""``--resume`` and ``--resume_if_exists``: which run is resumed, and with which options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedumm.cli.options import with_absolute_paths
from fedumm.config import CODE, OF_ONE_RUN, FederateConfig, is_ours, read_yaml
from fedumm.config.client_data import client_list
from fedumm.errors import FedummError
from fedumm.federation.runners.same_options import FREE, check_rounds, check_same
from fedumm.plugins import plugin_files
from fedumm.report.answers_digest import check_answers_digest
from fedumm.report.plugin_digest import check_digests
from fedumm.report.run_folder import CONFIG, check_run_folder, folder_for, folder_for_name
from fedumm.run_options import from_mapping

_OF_A_REPETITION = {"name", "overwrite", "min_clients"}
"""What may be given besides where clients have withdrawn: the run may begin anew, in a folder of its own."""

RUNNERS = ("simulator", "in_process", "export_dir")


def resumed(flags: Mapping[str, Any]) -> FederateConfig:
    """The options that the run of ``flags["resume"]`` began with, and those of ``flags`` that change no result.

    ``flags["without"]`` takes clients out of them; where the run can't go on then, it is another one, from the start.

    Raises:
        FedummError: there is no run, or a flag would change it.
    """
    given = {name: value for name, value in flags.items() if name not in ("resume", "without")}
    names = client_list(flags.get("without", ""))
    path = folder_for_name(flags["resume"]).resolve()
    if not (path / CONFIG).is_file():
        raise FedummError(f"--resume {path}: there is no run in that folder.")
    check_run_folder(path)
    may_change = (FREE - set(OF_ONE_RUN)) | {"num_rounds", CODE} | (_OF_A_REPETITION if names else set())
    for name in given:
        if name not in may_change:
            raise FedummError(
                f"--{name} can't be changed when a run is resumed; --num_rounds can, and so can how it is run."
            )
    values = read_yaml(path / CONFIG)
    # Before its options: without them a name that a plugin registers is unknown.
    check_digests(path, plugin_files(given.get(CODE, "")))
    if not names:
        check_rounds(values, given.get("num_rounds", values.get("num_rounds")))
    if any(name in given for name in RUNNERS):
        values = {name: value for name, value in values.items() if name not in (*RUNNERS, "use_env_script")}
    place = {"resume": str(path), "name": str(path), "overwrite": False}
    config = from_mapping(FederateConfig, {**values, **given, **place})
    check_answers_digest(path, config.answers)
    if config.export_dir:
        raise FedummError("--resume is for runs on this machine: --simulator or --in_process.")
    return with_absolute_paths(_without(path, config, names, given) if names else config)


def _without(path: Path, begun: FederateConfig, names: Sequence[str], given: Mapping[str, Any]) -> FederateConfig:
    """The same run without clients, from where it stopped or from its start: which of the two is told."""
    # It imports torch.
    from fedumm.federation.runners.withdrawal import without_clients

    name = given.get("name", "")
    config, told = without_clients(path, begun, names, str(folder_for_name(name)) if name else "")
    if config.resume and (idle := [option for option in ("name", "overwrite") if option in given]):
        raise FedummError(f"{told} It does so in its own folder: leave --{idle[0]} out.")
    print(told)
    return config if config.resume else replace(config, overwrite=bool(given.get("overwrite")))


def started_or_resumed(config: FederateConfig) -> FederateConfig | None:
    """``config`` as it is to be run: from the start, also where no round was finished, or from where it stopped.

    None: the run is finished.

    Raises:
        FedummError: the folder holds a run with other options, or one that can't be resumed.
    """
    _check_use(config)
    path = folder_for(config).resolve()
    config = replace(config, name=str(path), resume_if_exists=False)
    if not is_ours(path / CONFIG):
        return config
    check_run_folder(path)
    values = read_yaml(path / CONFIG)
    check_digests(path, config.plugins)
    check_same(path, from_mapping(FederateConfig, values, str(path / CONFIG)), config)
    check_answers_digest(path, config.answers)
    # It imports torch.
    from fedumm.federation.runners.resumption import has_begun, has_rounds, is_finished

    if is_finished(path, config.num_rounds):
        return None
    if has_rounds(path) or (config.dp == "local" and has_begun(path)):
        check_rounds(values, config.num_rounds)
        return replace(config, resume=str(path))
    return replace(config, overwrite=True)


def _check_use(config: FederateConfig) -> None:
    if not config.name:
        raise FedummError("--resume_if_exists needs the --name of the run to start or resume.")
    if config.overwrite:
        raise FedummError("--resume_if_exists keeps what --overwrite would delete: use only one of them.")
    if config.export_dir:
        raise FedummError("--resume_if_exists is for runs on this machine: --simulator or --in_process.")
