"""The loop that both runners share: ask the server what is next, carry it, bring the answers back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    HostError,
    InitReply,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.federation.server.server import Server
from fedumm.texts import one_line, plain_lines

Send = Callable[[Message], dict[str, Message]]
"""Carries a message to every host and returns their answers by host name."""

Answer = TypeVar("Answer", DataStats, InitReply, RoundReply)


def drive(server: Server, send: Send) -> None:
    """Run all rounds.

    A host that serves simulated clients on this machine must work; where each is a site of somebody else's, one that
    fails in a round fails for its own clients only.

    Raises:
        FedummError: a host cannot go on, too few clients sent a usable update, or a round can't be saved.
    """
    sizes = _answers(send(server.survey()), DataStats)
    server.start(_answers(send(server.setup(sizes)), InitReply))
    while (task := server.next_task()) is not None:
        answers, lost = send(task), set[str]()
        if not server.balance:
            lost = {host for host, answer in answers.items() if not isinstance(answer, RoundReply)}
            answers = {host: _or_failure(task, host, answer) for host, answer in answers.items()}
        replies = _answers(answers, RoundReply)
        try:
            server.finish(task, replies, lost)
        except OSError as error:
            raise FedummError(
                f"Round {task.round} can't be saved: {error}. What was saved before it is whole: make room and resume."
            ) from error
        except (ValueError, RuntimeError) as error:
            raise FedummError(
                f"Round {task.round} can't be aggregated: {error}. The last good state is kept."
            ) from error
    server.close()


def _or_failure(task: RoundTask, host: str, answer: Message) -> Message:
    """``answer``, or what stands for it where it is none: all its clients failed."""
    if isinstance(answer, RoundReply):
        return answer
    why = answer.message if isinstance(answer, HostError) else f"{host} answered with {type(answer).__name__}"
    return RoundReply(
        [ClientUpdate(client=client, round=task.round, error=one_line(why)) for client in task.clients(host)]
    )


def _answers(answers: dict[str, Message], kind: type[Answer]) -> dict[str, Answer]:
    for host, answer in answers.items():
        if isinstance(answer, HostError):
            details = f"\n{plain_lines(answer.details)}" if answer.details else ""
            raise FedummError(f"{host}: {one_line(answer.message)}{details}")
        if not isinstance(answer, kind):
            raise FedummError(f"{host} answered with {type(answer).__name__} instead of {kind.__name__}.")
    return answers  # type: ignore[return-value]
