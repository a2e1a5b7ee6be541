"""Resuming a run whose process ended: whether that is possible, from where, and how the user is told."""

from __future__ import annotations

from pathlib import Path

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.same_options import LOCAL_NOISE
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.report.run_folder import METRICS, STATE, read_records
from fedumm.shell import command_line


def is_finished(path: Path, num_rounds: int) -> bool:
    """Whether the run in ``path`` has done ``num_rounds`` rounds, or fewer by ``--patience``, and closed.

    Raises:
        FedummError: its state is damaged.
    """
    saved = Checkpoint(path / STATE).load()
    if saved is None or "summary" not in (events := _events(path)):
        return False
    return bool(saved[1]["round"] >= num_rounds or "patience" in events)


def has_begun(path: Path) -> bool:
    """Whether hosts were given a round to do."""
    return "setup" in _events(path)


def has_rounds(path: Path) -> bool:
    """Whether there is something to resume.

    Raises:
        FedummError: rounds were recorded, but their state is not there.
    """
    if Checkpoint(path / STATE).exists():
        return True
    # The state of a round is written right after its record.
    if sum(event == "round" for event in _events(path)) > 1:
        raise FedummError(
            f"{path / STATE} is missing: this run can't be resumed. Choose another --name, or add --overwrite."
        )
    return False


def resume_point(path: Path, config: FederateConfig) -> int:
    """How many records there were after the last finished round.

    Raises:
        FedummError: no round was finished, there is nothing left to do, or what is there is damaged.
    """
    _events(path)
    saved = Checkpoint(path / STATE).load()
    if saved is None:
        raise FedummError(f"No round of {path} was finished: there is nothing to resume. Start again with --overwrite.")
    facts = saved[1]
    if config.num_rounds < facts["round"]:
        raise FedummError(f"{path} has done {facts['round']} rounds: --num_rounds can't be lower.")
    if is_finished(path, config.num_rounds):
        told = f"{path} is finished after {facts['round']} rounds"
        if facts["round"] < config.num_rounds:
            raise FedummError(f"{told}, with which --patience {config.patience} ended it.")
        raise FedummError(f"{told}. For more, add a higher --num_rounds.")
    records: int = facts["records"]
    return records


def what_is_saved(path: Path, config: FederateConfig) -> str:
    """One line for the end of a run that was stopped or failed: what is kept, and how to resume."""
    if not Checkpoint(path / STATE).exists():
        return f"No round was finished: nothing to keep in {path}. Start again with --overwrite."
    kept = f"Finished rounds are kept in {path}"
    if config.dp == "local":
        return f"{kept}. With --dp local it can't be resumed: {LOCAL_NOISE}."
    code = [word for file in config.plugins for word in ("--plugin", file)]
    return f"{kept}; resume with: {command_line('federate', '--resume', path.resolve(), *code)}"


def _events(path: Path) -> list[str]:
    """Those of the run, not of its clients."""
    return [record["event"] for record in read_records(path, clients=False)] if (path / METRICS).exists() else []
