"""What the server and the hosts say to each other.

Messages are frozen dataclasses; on the wire they are plain dictionaries of strings,
numbers, lists and bytes (:func:`to_wire`), checked on arrival (:func:`from_wire`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from fedumm.features.report import CacheReport
from fedumm.training.results import Evaluation, Scores

if TYPE_CHECKING:
    from fedumm.adapters.state import Spec


@dataclass(frozen=True)
class Survey:
    """Server to every host, first: all clients in order. A client's place decides its share of the data."""

    roster: list[str]


@dataclass(frozen=True)
class Sizes:
    """A host's answer to :class:`Survey`: who has how much.

    ``clients`` maps a name to ``train``, ``heldout`` (rows), ``tasks`` and ``labels`` (training rows by
    task and by label; empty where labels are not told). ``fingerprint`` must be the same on all hosts, and with
    ``--partition own``, where each tells of its own clients only, in every run that goes on.
    """

    clients: dict[str, dict[str, Any]]
    method: str
    fingerprint: str


@dataclass(frozen=True)
class Setup:
    """Server to every host, second: who serves whom.

    ``tests`` gives each host its part of the common test set: for ``[i, n]`` every ``n``-th row
    from ``i``; ``initial_from`` is the host whose fresh adapter everyone starts from. ``changes`` are those
    of the backbone in earlier rounds of a run that is resumed, in order.
    """

    assignments: dict[str, list[str]]
    tests: dict[str, list[int]]
    initial_from: str
    changes: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Ready:
    """A host's answer to :class:`Setup`: the model is there; ``adapter`` is empty unless asked for.

    ``digest`` tells the first adapter, which every host derives from the seed, from others.

    ``versions`` are those of the libraries that results depend on.
    """

    spec: Spec
    adapter_config: dict[str, Any]
    trainable: int
    total: int
    adapter: bytes
    test_samples: int
    cache: list[CacheReport]
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Parcel:
    """Tensors on the wire.

    ``mode`` says what they are to the receiver: ``whole`` (all tensors, a safetensors image), ``values`` (new values
    of some) or ``delta`` (to be added to some), the latter two as :mod:`fedumm.adapters.codec` packs them.
    """

    mode: str
    payload: bytes = field(repr=False)

    def __len__(self) -> int:
        """Bytes."""
        return len(self.payload)


@dataclass(frozen=True)
class RoundTask:
    """Server to every host; ``assignments`` names the clients that train, ``scorers`` those that only score.

    ``adapter`` makes the global adapter of what the host holds, after the backbone has grown by ``change`` (empty,
    or a safetensors image). Each host scores it on its part of the common test set and on its clients' held-out
    rows, and, with ``train``, trains them from it: the LoRA factors in ``factors`` (``AB``, ``A`` or ``B``).
    ``control`` is SCAFFOLD's c in the same manner. With ``draw`` the host also draws its part of the captions
    to draw. ``since`` gives, for the clients that are named, the last round whose update was used: what a client
    keeps to itself goes on from there. Those without one begin. ``base`` is the number of rounds of which
    the host must hold the result before, -1 where it need not hold any: one that missed a round would go on from
    another adapter than the server believes.
    """

    round: int
    train: bool
    adapter: Parcel
    assignments: dict[str, list[str]]
    draw: bool = False
    factors: str = "AB"
    change: bytes = b""
    control: Parcel | None = None
    since: dict[str, int] = field(default_factory=dict)
    base: int = -1
    scorers: dict[str, list[str]] = field(default_factory=dict)

    def clients(self, host: str) -> list[str]:
        """The clients of ``host`` that have something to do."""
        return [*self.assignments.get(host, []), *self.scorers.get(host, [])]

    @property
    def size(self) -> int:
        """Bytes that are tensors."""
        return len(self.adapter) + len(self.change) + len(self.control or b"")


@dataclass(frozen=True)
class Update:
    """One client's part of a :class:`HostReply`.

    ``before`` scores the adapter that the client starts from on its held-out rows, ``after`` the one that it
    trained, task by task. ``adapter`` is empty where nothing was trained; else it holds what was, packed by
    :mod:`fedumm.adapters.codec` (new values in float32, otherwise differences), and ``untrained`` names tensors
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
class HostReply:
    """A host's answer to a :class:`RoundTask`.

    ``seconds`` is what it took the host to make; ``notes`` are lines for the user. ``folding_error`` is the share of
    the result of the round before that the host's arithmetic lost when it took the change of the backbone in; None if
    there was none.
    """

    updates: list[Update]
    test: Scores = field(default_factory=dict)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    folding_error: float | None = None


@dataclass(frozen=True)
class HostError:
    """A host cannot go on; ``message`` is for the user."""

    message: str
    details: str = field(default="", repr=False)


_MOST_NOTES, _LONGEST_NOTE = 20, 500
Message = Survey | Sizes | Setup | Ready | RoundTask | HostReply | HostError
_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (Survey, Sizes, Setup, Ready, RoundTask, HostError)}


def to_wire(message: Message) -> dict[str, Any]:
    """A plain dictionary with the message's kind under ``kind``."""
    return {"kind": type(message).__name__, **asdict(message)}


def from_wire(data: dict[str, Any]) -> Message:
    """The inverse of :func:`to_wire`.

    Raises:
        ValueError: unknown kind, unknown or missing fields, or fields of the wrong type.
    """
    fields = {k: v for k, v in data.items() if k != "kind"}
    try:
        if data.get("kind") == "HostReply":
            updates = [_update_or_error(u) for u in fields["updates"]]
            lost = fields["folding_error"]
            lost = None if lost is None else float(lost)
            notes = [_line(note) for note in fields["notes"][:_MOST_NOTES]]
            return HostReply(updates, _scores(fields["test"]), float(fields["seconds"]), notes, lost)
        if data.get("kind") == "Sizes":
            fields["clients"] = {str(name): _sizes(own) for name, own in fields["clients"].items()}
        if data.get("kind") == "RoundTask":
            fields["adapter"] = _parcel(fields["adapter"])
            fields["control"] = _parcel(fields["control"]) if fields["control"] is not None else None
        if data.get("kind") == "Ready":
            fields["cache"] = [CacheReport(**report) for report in fields["cache"]]
            versions = list(fields["versions"].items())[:_MOST_NOTES]
            fields["versions"] = {_line(name): _line(version) for name, version in versions}
            fields["spec"] = {k: (tuple(int(n) for n in shape), str(d)) for k, (shape, d) in fields["spec"].items()}
        message: Message = _PLAIN[data["kind"]](**fields)
        if isinstance(message, Survey | Setup | RoundTask):
            for name, hint in get_type_hints(type(message)).items():
                if not _is(getattr(message, name), hint):
                    raise ValueError(f"{name} is not a {hint}")
        return message
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a message: {type(error).__name__} {error}") from error


def _parcel(data: dict[str, Any]) -> Parcel:
    parcel = Parcel(**data)
    if type(parcel.mode) is not str or type(parcel.payload) is not bytes:
        raise ValueError("not a parcel")
    return parcel


def _is(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type ``hint``: a class, a union, or a list or dictionary of such."""
    kinds = get_args(hint)
    if isinstance(hint, UnionType):
        return any(_is(value, kind) for kind in kinds)
    if get_origin(hint) is list:
        return type(value) is list and all(_is(item, kinds[0]) for item in value)
    if get_origin(hint) is dict:
        return type(value) is dict and all(_is(k, kinds[0]) and _is(v, kinds[1]) for k, v in value.items())
    return type(value) is hint


def _line(text: str) -> str:
    """Of a text of somebody else's what may be shown: no control characters, and no book."""
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_NOTE])


def _sizes(data: Any) -> dict[str, Any]:
    counts = {kind: {str(name): int(count) for name, count in data[kind].items()} for kind in ("tasks", "labels")}
    if min(counts["tasks"].values(), default=1) < 1:
        raise ValueError("a task without rows")
    return {"train": int(data["train"]), "heldout": int(data["heldout"]), **counts}


def _scores(data: Any) -> Scores:
    return {str(task): _evaluation(one) for task, one in data.items()}


def _evaluation(data: Any) -> Evaluation:
    parts = {str(k): (float(score), int(count)) for k, (score, count) in data["parts"].items()}
    loss = None if data["loss"] is None else float(data["loss"])
    return Evaluation(float(data["score"]), int(data["count"]), parts, loss)


_KINDS = {
    "client": str, "round": int, "adapter": bytes, "num_samples": int, "steps": int, "train_loss": float,
    "seconds_train": float, "seconds_eval": float, "error": str, "control": bytes,
}  # fmt: skip


def _update_or_error(data: dict[str, Any]) -> Update:
    """One client's malformed update is that client's failure, not its host's."""
    try:
        return _update(data)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return Update(str(data["client"]), 0, error=f"not an update: {type(error).__name__} {error}")


def _update(data: dict[str, Any]) -> Update:
    known = {name: _scores(data.get(name, {})) for name in ("before", "after")}
    losses = {str(task): float(loss) for task, loss in data.get("train_losses", {}).items()}
    untrained = [str(name) for name in data.get("untrained", [])]
    update = Update(**{**data, **known, "train_losses": losses, "untrained": untrained})
    for name, kind in _KINDS.items():
        if type(getattr(update, name)) is not kind:
            raise ValueError(f"{name} is not a {kind.__name__}")
    return update
