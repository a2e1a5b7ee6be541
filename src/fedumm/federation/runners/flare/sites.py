"""Which sites take part in a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import natural
from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.names import check_names


def present(connected: Iterable[str], config: FederateConfig) -> list[str]:
    """The sites of a job, in order, of those that FLARE has deployed it to; none that has withdrawn.

    Raises:
        FedummError: too few or too many are there, one has a name that can't be a client's, or the options name one
            that is not there.
    """
    names = sorted({*check_names(connected)} - {*config.withdrawn}, key=natural)
    there = f"{len(names)} {'site takes' if len(names) == 1 else 'sites take'} part: {', '.join(names) or 'none'}."
    if len(names) > config.num_clients:
        raise FedummError(f"The job was exported for --num_clients {config.num_clients}, but {there}")
    if len(names) < config.min_clients:
        raise FedummError(f"The job needs {config.min_clients} sites (--min_clients), but {there}")
    named = {*config.ranks.own, *config.alphas.own}
    # Where some are missing, it may be one of these.
    if len(names) == config.num_clients and (unknown := sorted(named - set(names), key=natural)):
        raise FedummError(f"--lora_r and --lora_alpha name {', '.join(unknown)}, but {there}")
    return names


def alike(messages: Mapping[str, Message]) -> list[tuple[Message, list[str]]]:
    """Each message once, with the hosts that it is for."""
    found: dict[int, tuple[Message, list[str]]] = {}
    for host, message in messages.items():
        found.setdefault(id(message), (message, []))[1].append(host)
    return list(found.values())
