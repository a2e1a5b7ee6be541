"""What the server and the hosts say to each other, as frozen dataclasses; ``protocol.wire`` makes bytes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedumm.features.report import CacheReport
from fedumm.federation.protocol.mask_messages import MaskReply, MaskRequest
from fedumm.federation.protocol.versions import own_versions
from fedumm.metrics.evaluation import Scores

if TYPE_CHECKING:
    from fedumm.adapters.state import Spec

SETUP, ADAPTER = "setup", "adapter"


@dataclass(frozen=True)
class DataStatsRequest:
    """Server to every host, first: all clients in order. A client's place decides its share of the data.

    ``versions`` are those of the server (:mod:`fedumm.federation.protocol.versions`); a host goes on only with its own
    protocol.
    """

    roster: list[str]
    versions: dict[str, str] = field(default_factory=own_versions)


@dataclass(frozen=True)
class DataStats:
    """A host's answer to :class:`DataStatsRequest`: who has how much.

    ``clients`` maps a name to ``train``, ``heldout`` (rows), ``tasks`` and ``labels`` (training rows by
    task and by label; empty where labels are not told). ``fingerprint`` must be the same on all hosts, and with
    ``--partition own``, where each tells of its own clients only, in every resumed run.
    """

    clients: dict[str, dict[str, Any]]
    method: str
    fingerprint: str


@dataclass(frozen=True)
class InitRequest:
    """Server to every host, second: who serves whom.

    ``tests`` gives each host its part of the common test set: for ``[i, n]`` every ``n``-th row
    from ``i``; ``initial_from`` is the host whose fresh adapter everyone starts from. ``changes`` are those
    of the backbone in earlier rounds of a run that is resumed, in order.
    """

    assignments: dict[str, list[str]]
    tests: dict[str, list[int]]
    initial_from: str
    changes: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class InitReply:
    """A host's answer to :class:`InitRequest`: the model is there; ``adapter`` is empty unless asked for.

    ``digest`` tells the first adapter, which every host derives from the seed, from others; ``fingerprint`` the frozen
    weights (:mod:`fedumm.training.fingerprint`), and is empty where they are the user's own, in a simulation.

    ``versions`` are those of the protocol, of fedumm and of the libraries that results depend on; ``findings`` what
    the backend found out about the model (:class:`fedumm.backends.protocol.TellsFindings`).
    """

    spec: Spec
    adapter_config: dict[str, Any]
    trainable: int
    total: int
    adapter: bytes
    test_samples: int
    cache: list[CacheReport]
    device: str
    versions: dict[str, str] = field(default_factory=own_versions)
    digest: str = ""
    fingerprint: str = ""
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TensorPayload:
    """Tensors on the wire.

    ``mode`` says what they are to the receiver: ``whole`` (all tensors, a safetensors image), ``values`` (new values
    of some) or ``delta`` (to be added to some), the latter two as :mod:`fedumm.compression.packing` packs them.
    """

    mode: str
    payload: bytes = field(repr=False)

    def __len__(self) -> int:
        """Bytes."""
        return len(self.payload)


@dataclass(frozen=True, kw_only=True)
class RoundTask:
    """Server to every host; ``assignments`` names the clients that train, ``scorers`` those that only score.

    ``adapter`` makes the global adapter of what the host holds, after the backbone has grown by ``change`` (empty,
    or a safetensors image). Each host scores it on its part of the common test set and on its clients' held-out
    rows, and, with ``train``, trains them from it: the LoRA factors in ``factors`` (``AB``, ``A`` or ``B``).
    ``control`` is SCAFFOLD's c in the same manner. With ``draw`` the host also draws its part of the captions
    to draw. ``last_accepted_round`` gives, for the clients that are named, the last round whose
    update was used: what a client keeps to itself continues from there. Those without one begin. ``base_round`` is the
    round whose result the host must hold, -1 where it need not hold any: one that missed a round would continue from
    another adapter than the server believes. With ``version`` (-1 otherwise) this is the closing task: ``adapter`` is
    that version, whole, and all that is done with it is to draw. ``masked`` are the clients that agreed on masks
    (``--secure_aggregation``), and what each counts in the sum.
    """

    round: int
    train: bool
    adapter: TensorPayload
    assignments: dict[str, list[str]]
    draw: bool = False
    factors: str = "AB"
    change: bytes = b""
    control: TensorPayload | None = None
    last_accepted_round: dict[str, int] = field(default_factory=dict)
    base_round: int = -1
    scorers: dict[str, list[str]] = field(default_factory=dict)
    version: int = -1
    masked: dict[str, int] = field(default_factory=dict)

    def clients(self, host: str) -> list[str]:
        """The clients of ``host`` that have something to do."""
        return [*self.assignments.get(host, []), *self.scorers.get(host, [])]

    @property
    def size(self) -> int:
        """Bytes that are tensors."""
        return len(self.adapter) + len(self.change) + len(self.control or b"")


@dataclass(frozen=True, kw_only=True)
class ClientUpdate:
    """One client's part of a :class:`RoundReply`.

    ``before`` scores the adapter that the client starts from on its held-out rows, ``after`` the one that it
    trained, task by task. ``adapter`` is empty where nothing was trained; else it holds what was, packed by
    :mod:`fedumm.compression.packing` (new values in float32, otherwise differences) or masked
    (:mod:`fedumm.secure_aggregation.fixed_point`), and ``untrained`` names tensors
    that were to be trained and that the client's data had no use for. ``control`` is the change of SCAFFOLD's c_k.
    ``error`` says why the client failed, and is empty if it did not.
    """

    client: str
    round: int
    adapter: bytes = b""
    untrained: list[str] = field(default_factory=list)
    num_samples: int = 0
    steps: int = 0
    train_loss: float = math.nan
    train_losses: dict[str, float] = field(default_factory=dict)
    before: Scores = field(default_factory=dict)
    after: Scores = field(default_factory=dict)
    seconds_train: float = 0.0
    seconds_eval: float = 0.0
    error: str = ""
    control: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that are tensors."""
        return len(self.adapter) + len(self.control)


@dataclass(frozen=True)
class RoundReply:
    """A host's answer to a :class:`RoundTask`.

    ``seconds`` is what it took the host to make; ``notes`` are lines for the user. ``folding_error`` is the share of
    the result of the round before that the host's arithmetic lost when it took the change of the backbone in; None if
    there was none.
    """

    updates: list[ClientUpdate]
    test: Scores = field(default_factory=dict)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    folding_error: float | None = None


@dataclass(frozen=True)
class HostError:
    """A host cannot continue; ``message`` is for the user.

    ``needs`` says what would help it: :data:`SETUP` (its process is new, and knows nothing of the run), :data:`ADAPTER`
    (it missed a round), or nothing.
    """

    message: str
    details: str = field(default="", repr=False)
    needs: str = ""


Message = (
    DataStatsRequest
    | DataStats
    | InitRequest
    | InitReply
    | RoundTask
    | RoundReply
    | HostError
    | MaskRequest
    | MaskReply
)
