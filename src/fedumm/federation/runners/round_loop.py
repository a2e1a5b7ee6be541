"""The loop that all runners share: ask the server what is next, carry it, bring the answers back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.federation.runners import masked_rounds
from fedumm.federation.runners.asking import Ask, nothing_more, refuse_strangers
from fedumm.federation.server.server import Server
from fedumm.texts import one_line, plain_lines

Answer = TypeVar("Answer", DataStats, InitReply, RoundReply)


def drive(server: Server, ask: Ask) -> None:
    """Run all rounds.

    A host that serves simulated clients on this machine must work. Where each is a site of somebody else's, one that
    can't begin is left out of the run, and one that fails in a round fails for its own clients only.

    Raises:
        FedummError: a host cannot go on, too few clients sent a usable update, or a round can't be saved.
    """
    server.start(_set_up(server, ask, server.setup(_sizes(server, ask))))
    while (task := server.next_task()) is not None:
        catch_up = server.catch_up(task)
        if masked := server.masked_round(task):
            task = masked_rounds.begin(server, masked, ask, _asked(server), catch_up)
            catch_up = catch_up.before(task)
        answers = ask(dict.fromkeys(_asked(server), task), catch_up)
        if server.balance:
            replies = _must(answers, RoundReply)
        else:
            refuse_strangers(server, catch_up, answers)
            answers |= {host: HostError(reason) for host, reason in server.refused.items()}
            replies = {host: _or_failure(task, host, answer) for host, answer in answers.items()}
        try:
            if masked:
                replies = masked_rounds.explained(masked, replies)
                masked_rounds.end(server, masked, ask, task, replies)
            server.finish(task, replies, catch_up, masked)
        except OSError as error:
            raise FedummError(
                f"Round {task.round} can't be saved: {error}. What was saved before it is whole: make room and resume."
            ) from error
        except (ValueError, RuntimeError) as error:
            raise FedummError(
                f"Round {task.round} can't be aggregated: {error}. The last good state is kept."
            ) from error
    server.close()


def _asked(server: Server) -> list[str]:
    return [host for host in server.assignments if host not in server.refused]


def _sizes(server: Server, ask: Ask) -> dict[str, DataStats]:
    answers = ask(dict.fromkeys(server.assignments, server.survey()), nothing_more)
    if server.balance:
        return _must(answers, DataStats)
    server.leave_out({h: _reason(h, a) for h, a in answers.items() if not isinstance(a, DataStats)})
    return {host: answer for host, answer in answers.items() if isinstance(answer, DataStats)}


def _set_up(server: Server, ask: Ask, request: InitRequest) -> dict[str, InitReply]:
    """The answers of those hosts that are ready; a site that is not may catch up in a later round."""
    messages: dict[str, Message] = dict.fromkeys(server.assignments, request)
    answers = ask(messages, nothing_more)
    if server.balance:
        return _must(answers, InitReply)
    ready = server.alike({host: answer for host, answer in answers.items() if isinstance(answer, InitReply)})
    server.note_not_ready({h: _reason(h, a) for h, a in answers.items() if not isinstance(a, InitReply)})
    while ready and not any(answer.adapter for answer in ready.values()):
        # Whose first adapter was to be everybody's is not there.
        other = next(iter(ready))
        (answer,) = ask({other: replace(request, initial_from=other)}, nothing_more).values()
        del ready[other]
        if isinstance(answer, InitReply) and answer.adapter:
            ready = server.alike({**ready, other: answer})
        else:
            server.note_not_ready({other: _reason(other, answer)})
    return ready


def _or_failure(task: RoundTask, host: str, answer: Message) -> RoundReply:
    """``answer``, or what stands for it where it is none: all its clients failed."""
    if isinstance(answer, RoundReply):
        return answer
    why = _reason(host, answer)
    return RoundReply([ClientUpdate(client=client, round=task.round, error=why) for client in task.clients(host)])


def _reason(host: str, answer: Message) -> str:
    if isinstance(answer, HostError):
        return one_line(answer.message)
    return f"{host} answered with {type(answer).__name__}"


def _must(answers: Mapping[str, Message], kind: type[Answer]) -> dict[str, Answer]:
    for host, answer in answers.items():
        if isinstance(answer, HostError):
            details = f"\n{plain_lines(answer.details)}" if answer.details else ""
            raise FedummError(f"{host}: {one_line(answer.message)}{details}")
        if not isinstance(answer, kind):
            raise FedummError(f"{host} answered with {type(answer).__name__} instead of {kind.__name__}.")
    return answers  # type: ignore[return-value]
