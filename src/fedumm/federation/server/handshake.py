"""Before the first round: who serves whom, and the adapter that everybody starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedumm.adapters import AdapterState, Spec, check_state, decode
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import natural
from fedumm.federation.protocol.client_view import scale_of
from fedumm.federation.protocol.initial_adapter import (
    adapter_digest,
    check_alike,
    odd_ones,
    own_adapter_config,
)
from fedumm.federation.protocol.messages import InitReply, InitRequest
from fedumm.federation.server.participants import Participants
from fedumm.federation.server.score_validation import check_test_parts


@dataclass(frozen=True)
class Initial:
    """What the hosts agree on before the first round.

    Attributes:
        spec: shapes of the global adapter.
        adapter: the first one.
        adapter_config: PEFT's configuration of it.
        scale: its alpha / rank.
        test_rows: by host, in natural order, the rows of its part of the common test set.
        reply: the answer of a host that all agree with.
    """

    spec: Spec = field(repr=False)
    adapter: AdapterState = field(repr=False)
    adapter_config: dict[str, Any]
    scale: float
    test_rows: dict[str, int]
    reply: InitReply = field(repr=False)


def init_request(participants: Participants, own_data: bool, changes: Sequence[bytes]) -> InitRequest:
    """The message for every host: its clients, its part of the common test set, what the backbone grew by so far.

    Args:
        own_data: each host has data of its own, and scores all of its own test set.
    """
    hosts = participants.hosts
    tests = {host: [0, 1] if own_data else [i, len(hosts)] for i, host in enumerate(hosts)}
    return InitRequest(participants.assignments, tests, hosts[0], list(changes))


def agree(answers: Mapping[str, InitReply], request: InitRequest, config: FederateConfig) -> Initial:
    """What the hosts that are ready say of the first adapter and of the common test set.

    Raises:
        FedummError: they disagree, or the first adapter is damaged.
    """
    first = next((ready for ready in answers.values() if ready.adapter), answers[min(answers, key=natural)])
    check_alike(answers, config)
    adapter_config = own_adapter_config(answers, config)
    test_rows = {host: answers[host].test_samples for host in sorted(answers, key=natural)}
    if not config.own_data:
        check_test_parts(test_rows, request.tests)
    adapter, scale = _first_adapter(first), scale_of(adapter_config, config)
    return Initial(first.spec, adapter, adapter_config, scale, test_rows, first)


def unfit(answers: Mapping[str, InitReply], config: FederateConfig) -> dict[str, str]:
    """Sites that can't take part, each with the reason: they differ from the majority, or the first adapter that one
    was asked for is not the one that all derive.

    Raises:
        FedummError: there is no majority.
    """
    found = {host: f"it {why}" for host, why in odd_ones(answers, config).items()}
    for host, ready in answers.items():
        if ready.adapter and host not in found:
            try:
                _first_adapter(ready)
            except FedummError as error:
                found[host] = str(error)
    return found


def _first_adapter(reply: InitReply) -> AdapterState:
    try:
        state = decode(reply.adapter)
    except ValueError as error:
        raise FedummError(f"The first adapter can't be read: {error}") from error
    if problem := check_state(state, reply.spec):
        raise FedummError(f"The first adapter is damaged: {problem}.")
    if adapter_digest(state) != reply.digest:
        raise FedummError("The first adapter is not the one that all hosts derive.")
    return state
