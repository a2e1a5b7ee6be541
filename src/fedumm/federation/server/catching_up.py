"""A host that can't take part in a round as it is: its process was started again, or it missed a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fedumm.errors import FedummError
from fedumm.federation.protocol.initial_adapter import unlike
from fedumm.federation.protocol.mask_messages import MaskKeysRequest
from fedumm.federation.protocol.messages import (
    ADAPTER,
    SETUP,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundTask,
)
from fedumm.federation.server.round_aggregation import Broadcast
from fedumm.federation.server.score_validation import check_test_parts


@dataclass(frozen=True)
class Beginning:
    """What was said before the first round, by which a host that comes later is measured.

    Attributes:
        survey: the first message.
        sizes: the hosts' answers to it.
        setup: the second one.
        ready: the answer of a host that all agreed with.
    """

    survey: DataStatsRequest
    sizes: Mapping[str, DataStats]
    setup: InitRequest
    ready: InitReply


@dataclass
class CatchUp:
    """Follows up the hosts' answers to one task: called with a host and its answer, it gives what is to be sent next.

    A host that is new is asked and set up as at the beginning, with all changes of the backbone since; one that missed
    a round is sent the whole adapter. Then it does the round.

    Args:
        beginning: of the run.
        task: the round that everybody was sent, or a question before it.
        whole: the global adapter for a host that holds none.
        changes: reads what the backbone grew by so far; None where a method never changes it.
        known_rows: by host, the rows of its part of the common test set, as far as they were told.

    Attributes:
        extra_bytes: by host, tensors that were sent to it besides the task.
        test_rows: by host that was set up, the rows of its part of the common test set.
    """

    beginning: Beginning
    task: RoundTask | MaskKeysRequest
    whole: Callable[[], Broadcast]
    changes: Callable[[], list[bytes]] | None
    known_rows: Mapping[str, int] = field(default_factory=dict)
    extra_bytes: dict[str, int] = field(default_factory=dict)
    test_rows: dict[str, int] = field(default_factory=dict)
    _asked: dict[str, type[Message]] = field(default_factory=dict)

    def __call__(self, host: str, answer: Message) -> Message | None:
        """What ``host`` is sent next; None if this is its answer to the round."""
        asked = self._asked.get(host)
        if asked is None and isinstance(answer, HostError):
            # Changes of the backbone are told at the set-up only.
            if answer.needs == ADAPTER and self.changes is None:
                return self._send(host, self._whole_task())
            return self._send(host, self.beginning.survey) if answer.needs in (ADAPTER, SETUP) else None
        if asked is DataStatsRequest and isinstance(answer, DataStats) and not self.problem(host, answer):
            return self._send(host, replace(self.beginning.setup, changes=self.changes() if self.changes else []))
        if asked is InitRequest and isinstance(answer, InitReply) and not self.problem(host, answer):
            self.test_rows[host] = answer.test_samples
            return self._send(host, self._whole_task())
        return None

    def before(self, message: RoundTask | MaskKeysRequest) -> CatchUp:
        """The same for another message of the round; what is counted is counted together."""
        return replace(self, task=message, _asked={})

    def problem(self, host: str, answer: Message) -> str:
        """Why a host that is set up later can't take part; empty if it can."""
        if isinstance(answer, DataStats) and answer != self.beginning.sizes.get(host, answer):
            return "its data are not those that it began with"
        if not isinstance(answer, InitReply):
            return ""
        if answer.test_samples != self.known_rows.get(host, answer.test_samples):
            return "its test rows are not those that it began with"
        if any(step > 1 for _, step in self.beginning.setup.tests.values()):
            try:
                check_test_parts({**self.known_rows, host: answer.test_samples}, self.beginning.setup.tests)
            except FedummError as error:
                return str(error)
        return unlike(answer, self.beginning.ready)

    def _whole_task(self) -> RoundTask | MaskKeysRequest:
        if isinstance(self.task, MaskKeysRequest) or self.task.version >= 0:
            return self.task  # of which the latter is the closing task, whose adapter is whole
        whole = self.whole()
        return replace(self.task, adapter=whole.adapter, control=whole.control, change=b"", base_round=-1)

    def _send(self, host: str, message: Message) -> Message:
        self._asked[host] = type(message)
        size = message.size if isinstance(message, RoundTask) else 0
        if isinstance(message, InitRequest):
            size = sum(map(len, message.changes))
        self.extra_bytes[host] = self.extra_bytes.get(host, 0) + size
        return message
