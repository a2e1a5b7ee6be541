"""A run without clients that have withdrawn: where it can go on, and where it has to be repeated from its start."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.resumption import is_finished
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.report.run_folder import METRICS, STATE, read_records

_NOT_SENT = ("missing", "failed")
"""Codes of :mod:`fedumm.federation.server.rejection` that say that no update came."""


def without_clients(path: Path, begun: FederateConfig, names: Collection[str], name: str) -> tuple[FederateConfig, str]:
    """The options of the run in ``path`` without clients, and a text that says what becomes of it, and why.

    The server keeps its last state only. Where that holds nothing of these clients the run goes on from there
    (``resume`` of what is returned); else it is a new run from the start, beside the old one, which stays.

    Args:
        begun: the run's options, with ``resume``.
        name: of the new run's folder; empty: one named after the old one.

    Raises:
        FedummError: there are no such clients, nobody would be left, nothing is to be repeated, or it would cost
            privacy.
    """
    if begun.dp != "off":
        raise FedummError(
            f"--without repeats no run with --dp {begun.dp}: its clients would answer for the same rows with other "
            "noise, and spend their privacy again. Start another run without them, and add up what both spend."
        )
    gone = ", ".join(names)
    _check_known(path, begun, names)
    less, why = _less(begun, names), ""
    if begun.client_data:
        why = _why_from_start(path, begun, less, names)
    else:
        why = "sites keep what they have of a run for its own options only"
    if not why:
        if is_finished(path, begun.num_rounds):
            raise FedummError(f"{path} is finished and holds nothing of {gone}: there is nothing to repeat.")
        return less, f"{path} goes on without {gone}, of whom it holds nothing."
    folder = Path(name) if name else path.with_name(f"{path.name}-without-{'-'.join(names)}")
    new = replace(less, resume="", name=str(folder), repeats=path.name)
    return new, (
        f"{path} is repeated from the start without {gone}, in {folder}: {why}. "
        f"The old run stays as it is; delete it where what {gone} sent is not to be kept."
    )


def _check_known(path: Path, begun: FederateConfig, names: Collection[str]) -> None:
    setups = (record.get("clients") for record in _records(path) if record["event"] == "setup")
    known = list(begun.client_folders) or list(next(setups, None) or ())
    for name in names:
        if name not in known:
            there = f"the clients of {path} are {', '.join(known)}" if known else f"{path} does not say who took part"
            raise FedummError(f"--without {name}: {there}.")
    if len(known) == len(names):
        raise FedummError("--without names all clients: nobody is left.")


def _less(begun: FederateConfig, names: Collection[str]) -> FederateConfig:
    """Its options as if these clients had never been there."""
    folders = {client: place for client, place in begun.client_folders.items() if client not in names}
    return replace(
        begun,
        client_data=",".join(f"{client}={place}" for client, place in folders.items()),
        num_clients=begun.num_clients - len(names),
        lora_r=_of_others(begun.lora_r, names),
        lora_alpha=_of_others(begun.lora_alpha, names),
        without=",".join([*begun.withdrawn, *names]),
    )


def _of_others(value: Any, names: Collection[str]) -> Any:
    """An option with a number by client (:class:`fedumm.config.per_client.ByClient`) that names none of ``names``."""
    if not isinstance(value, str):
        return value
    kept = [entry for entry in value.split(",") if entry.rpartition("=")[0].strip() not in names]
    return ",".join(kept)


def _why_from_start(path: Path, begun: FederateConfig, less: FederateConfig, names: Collection[str]) -> str:
    """What of the last state depends on the clients ``names``; empty if nothing does."""
    saved = Checkpoint(path / STATE).load()
    if saved is None:
        return "no round was finished"
    for record in islice(_records(path), saved[1]["records"]):
        sent = record["event"] == "client" and record.get("rejected") not in _NOT_SENT
        if sent and (client := record.get("client")) in names:
            return (
                f"an update of {client} came in round {record.get('round')}, only the state after round "
                f"{saved[1]['round']} is kept, and an average gives no part of itself back"
            )
    if begun.secure_aggregation:
        return "what each client weighs in a masked sum was agreed on before it was known who would be in it"
    if begun.clients_per_round:
        return "who trains in a round (--clients_per_round) was drawn from all clients, these among them"
    if begun.scaffold:
        return "SCAFFOLD's control variate was divided by the number of all clients, these among them"
    if (begun.rank, begun.alpha) != (less.rank, less.alpha):
        return "the global adapter has a rank or alpha that was theirs alone"
    return ""


def _records(path: Path) -> Iterator[dict[str, Any]]:
    return iter(read_records(path)) if (path / METRICS).is_file() else iter(())
