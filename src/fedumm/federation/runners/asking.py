"""How messages get to hosts and answers back, as :mod:`fedumm.federation.runners.round_loop` sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedumm.federation.protocol.messages import Message
from fedumm.federation.server.catching_up import CatchUp
from fedumm.federation.server.server import Server

FollowUp = Callable[[str, Message], Message | None]
"""What a host is sent next, from its name and its answer; None: it has nothing more to say."""

Ask = Callable[[Mapping[str, Message], FollowUp], dict[str, Message]]
"""Carries messages to hosts, by name, follows up their answers, and returns the last one of each."""


def nothing_more(host: str, answer: Message) -> None:
    """No answer is followed up."""


def refuse_strangers(server: Server, catch_up: CatchUp, answers: Mapping[str, Message]) -> None:
    """Leave those hosts out that came back otherwise than they began."""
    server.refuse({host: problem for host, answer in answers.items() if (problem := catch_up.problem(host, answer))})
