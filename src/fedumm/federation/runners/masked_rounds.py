"""What is asked before and after a round whose updates are masked (``--secure_aggregation``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from fedumm.errors import FedummError
from fedumm.federation.protocol.mask_messages import MaskKeys, MaskReply, MaskShares, Unmasking
from fedumm.federation.protocol.messages import HostError, Message, RoundReply, RoundTask
from fedumm.federation.runners.asking import Ask, nothing_more, refuse_strangers
from fedumm.federation.server.catching_up import CatchUp
from fedumm.federation.server.masked_round import MaskedRound
from fedumm.federation.server.server import Server
from fedumm.texts import one_line

Answer = TypeVar("Answer", bound=MaskReply)

_TRIES = 3
"""To agree on masks, each time without those who were lost between keys and shares."""


def begin(server: Server, masked: MaskedRound, ask: Ask, hosts: list[str], catch_up: CatchUp) -> RoundTask:
    """Have the clients of ``hosts`` agree on masks.

    A host that is new is set up first, so that it can have its part in the sum.

    Returns:
        The round's task, which names those that did.
    """
    for _ in range(_TRIES):
        request = masked.keys_request()
        early = catch_up.before(request)
        answers = ask({host: request for host in hosts if request.clients.get(host)}, early)
        refuse_strangers(server, early, answers)
        masked.take_keys(_good(server, masked, answers, MaskKeys))
        if shares := masked.shares_request():
            able = [host for host in answers if isinstance(answers[host], MaskKeys)]
            masked.take_shares(_good(server, masked, ask(dict.fromkeys(able, shares), nothing_more), MaskShares))
        if not masked.start_again():
            break
    return masked.task()


def end(server: Server, masked: MaskedRound, ask: Ask, task: RoundTask, replies: Mapping[str, RoundReply]) -> None:
    """Have the masks taken off the sum of the updates that can be used."""
    requests = masked.unmask_requests(server.usable(task, replies))
    if requests:
        masked.take_unmasking(_good(server, masked, ask(requests, nothing_more), Unmasking))


def explained(masked: MaskedRound, replies: Mapping[str, RoundReply]) -> dict[str, RoundReply]:
    """``replies``, in which who did not agree on masks fails for that reason, and not for its consequence."""
    return {
        host: replace(
            reply,
            updates=[
                replace(update, error=masked.refusals[host]) if update.error and host in masked.refusals else update
                for update in reply.updates
            ],
        )
        for host, reply in replies.items()
    }


def _good(server: Server, masked: MaskedRound, answers: Mapping[str, Message], kind: type[Answer]) -> dict[str, Answer]:
    """The answers that are some; on this machine all must be. What the others say is kept."""
    for host, answer in answers.items():
        if isinstance(answer, kind):
            continue
        why = one_line(answer.message) if isinstance(answer, HostError) else type(answer).__name__
        if server.balance:
            raise FedummError(f"{host}: {why}")
        masked.refusals[host] = why
    return {host: answer for host, answer in answers.items() if isinstance(answer, kind)}
