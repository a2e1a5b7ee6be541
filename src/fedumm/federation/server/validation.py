"""Is a client's update what it should be? Asked before anything of it is used.

Everything that an update claims is compared with what the server knows: names, shapes, the round, how many samples
and steps there were. Then its size is compared with the others'.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from fedumm.adapters import AdapterState, Spec, check_state
from fedumm.adapters.factors import factor_of, modules_of
from fedumm.adapters.state import LARGEST
from fedumm.compression.packing import unpack
from fedumm.federation.protocol.messages import ClientUpdate
from fedumm.federation.protocol.transfer import unpack_update
from fedumm.federation.server.rejection import RejectedError, RejectionCode
from fedumm.federation.server.score_validation import loss_problem, score_problem
from fedumm.tasks import VQA

_CODES: dict[str, RejectionCode] = {
    "names": "tensors", "shape": "payload", "non_finite": "non_finite", "huge": "huge",
}  # fmt: skip
"""By what does not fit."""


@dataclass(frozen=True)
class Expected:
    """What the server knows of a client in a round.

    ``spec`` describes the client's adapter (at its rank) and ``names`` the tensors in it that were to be trained
    and sent; ``start`` is what it started from. ``train`` and ``heldout`` are its numbers of rows, ``tasks`` those
    of its training rows by task, ``steps`` the optimiser steps that they make, of which a client that ``may_be_cut``
    (``--round_minutes``) does at least one. ``scored`` are the tasks of the run,
    ``unit`` says that scores are shares, ``control`` that SCAFFOLD's control variates come along. ``previous`` is the
    :func:`digest` of the client's last update that counted. A ``private`` client (``--dp local``) says nothing of its
    losses. ``masked`` are the bytes of an update that can't be read (``--secure_aggregation``), 0 for others.
    """

    round: int
    spec: Spec = field(repr=False)
    names: frozenset[str] = field(repr=False)
    start: Mapping[str, torch.Tensor] = field(repr=False)
    train: int
    heldout: int
    tasks: Mapping[str, int]
    steps: int
    wire: str
    keep: float
    scored: frozenset[str] = frozenset({VQA.name})
    unit: bool = False
    control: bool = False
    previous: str = ""
    private: bool = False
    masked: int = 0
    may_be_cut: bool = False


@dataclass(frozen=True)
class Accepted:
    """An update that passed. Its tensors are decoded each time, so that not all clients' are in memory at once.

    ``norm`` is the L2 norm of what it moves, over all its tensors; one above ``limit`` is scaled down to it.
    ``control_norm`` is that of the change of SCAFFOLD's c_k. ``product`` is how far the products of its factors moved
    (:func:`product_norm`), ``facing`` how far its factors A still point where they did (:func:`facing`).
    """

    update: ClientUpdate
    expected: Expected = field(repr=False)
    norm: float
    limit: float = math.inf
    control_norm: float = 0.0
    product: float = 0.0
    facing: float = 1.0

    def control(self) -> AdapterState:
        """The change of SCAFFOLD's c_k."""
        return unpack(self.update.control, self.expected.spec)

    def adapter(self) -> AdapterState:
        """The trained tensors."""
        state = _decoded(self.update, self.expected)
        if self.norm <= self.limit:
            return state
        start, ratio = self.expected.start, self.limit / self.norm
        return {name: start[name] + (t - start[name]) * ratio for name, t in state.items()}


def examine(update: ClientUpdate | None, expected: Expected) -> Accepted:
    """Check everything about one update that needs no other.

    Raises:
        RejectedError: with code and reason.
    """
    update = examine_scores(update, expected)
    if update.num_samples != expected.train:
        raise RejectedError(
            "claims",
            f"it claims {update.num_samples} samples, but it announced {expected.train} before the first round",
        )
    least = min(1, expected.steps) if expected.may_be_cut else expected.steps
    if not least <= update.steps <= expected.steps:
        raise RejectedError("claims", f"it claims {update.steps} steps, its samples make {expected.steps}")
    if strange := sorted(update.train_losses.keys() - expected.tasks.keys()):
        raise RejectedError("claims", f"it claims to have trained {strange[0]}, for which it has no data")
    if not expected.private:
        _check_losses(update, expected)
    if expected.masked:
        return _examine_masked(update, expected)
    state = _decoded(update, expected)
    _check_tensors(state, update, expected)
    control_norm = _checked_control(update, expected)
    norm = norm_between(state, expected.start)
    # Two rounds that move nothing may well be the same.
    if norm and digest(update) == expected.previous:
        raise RejectedError("duplicate", "it is, byte for byte, the one that counted last")
    product, cosine = product_norm(state, expected.start), facing(state, expected.start)
    return Accepted(update, expected, norm, control_norm=control_norm, product=product, facing=cosine)


def _examine_masked(update: ClientUpdate, expected: Expected) -> Accepted:
    """All that can be seen of it is its size."""
    if len(update.adapter) != expected.masked or update.control:
        raise RejectedError("payload", f"a masked update of {len(update.adapter)} bytes, expected {expected.masked}")
    if update.untrained:
        raise RejectedError("tensors", "it tells of tensors that are hidden in the sum")
    return Accepted(update, expected, 0.0)


def _check_losses(update: ClientUpdate, expected: Expected) -> None:
    if not all(map(math.isfinite, (update.train_loss, *update.train_losses.values()))):
        raise RejectedError("loss", "its training loss is NaN or infinite: lower --lr")
    if problem := loss_problem({"": update.train_loss, **update.train_losses}, expected.unit):
        raise RejectedError("loss", problem)


def digest(update: ClientUpdate) -> str:
    """Tells an update's tensors from others."""
    return hashlib.blake2b(update.adapter + update.control, digest_size=16).hexdigest()


def examine_scores(update: ClientUpdate | None, expected: Expected) -> ClientUpdate:
    """Check what is there without training: round and scores.

    Raises:
        RejectedError: with code and reason.
    """
    if update is None:
        raise RejectedError("missing", "no answer")
    if update.error:
        raise RejectedError("failed", update.error)
    if update.round != expected.round:
        raise RejectedError("stale", f"it is of round {update.round}")
    for scores in (update.before, update.after):
        if strange := sorted(scores.keys() - expected.scored):
            raise RejectedError("score", f"it has scores of {strange[0]}, which the run is not about")
        if scores and sum(own.count for own in scores.values()) != expected.heldout:
            raise RejectedError("score", f"its scores are not those of {expected.heldout} held-out samples")
        if problem := score_problem(scores, expected.unit):
            raise RejectedError("score", problem)
    return update


def _decoded(update: ClientUpdate, expected: Expected) -> AdapterState:
    try:
        return unpack_update(expected.start, update.adapter, expected.wire, expected.keep, expected.spec)
    except ValueError as error:
        raise RejectedError("payload", str(error)) from error


def _check_tensors(state: Mapping[str, torch.Tensor], update: ClientUpdate, expected: Expected) -> None:
    untrained = set(update.untrained)
    if not state or untrained - expected.names:
        raise RejectedError("tensors", "it does not say what it trained")
    trained = {name: expected.spec[name] for name in expected.names - untrained}
    if problem := check_state(state, trained, largest=LARGEST):
        raise RejectedError(_CODES[problem.kind], problem.text)


def _checked_control(update: ClientUpdate, expected: Expected) -> float:
    """The norm of control variates that may be there."""
    if bool(update.control) != expected.control:
        why = "it has no control variates" if expected.control else "nobody asked for control variates"
        raise RejectedError("control", why)
    if not expected.control:
        return 0.0
    try:
        control = unpack(update.control, expected.spec)
    except ValueError as error:
        raise RejectedError("control", f"control variates: {error}") from error
    trained = {name: expected.spec[name] for name in expected.names}
    if problem := check_state(control, trained, partial=True, largest=LARGEST):
        raise RejectedError("control", f"control variates: {problem}")
    return norm_between(control, {name: torch.zeros_like(t) for name, t in control.items()})


def norm_between(state: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]) -> float:
    """L2 norm of ``state - start`` over all tensors of ``state``, in float64."""
    squares = [float((t.double() - start[name].double()).square().sum()) for name, t in state.items()]
    return math.sqrt(math.fsum(squares))


def product_norm(state: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]) -> float:
    """Frobenius norm of what the products B A of all modules move by, without their scale, in float64.

    From the factors' Gram matrices, so that no product is formed; a factor that was not sent is that of the start.
    """
    square = 0.0
    for a, b in modules_of(start).values():
        if a in state or b in state:
            old, new = (start[b].double(), start[a].double()), (state.get(b, start[b]), state.get(a, start[a]))
            left, right = torch.cat([new[0].double(), -old[0]], dim=1), torch.cat([new[1].double(), old[1]])
            square += float(((left.T @ left) * (right @ right.T)).sum())
    return math.sqrt(max(0.0, square))


def facing(state: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]) -> float:
    """Cosine between the factors A as they were sent and as the round began, all in one vector; 1 without any.

    Turned about together with B they make the same products, and spoil every mean of factors.
    """
    pairs = [(t.double(), start[name].double()) for name, t in state.items() if factor_of(name) == "A"]
    dot, new, old = (
        math.fsum(float((x * y).sum()) for x, y in of)
        for of in (pairs, [(t, t) for t, _ in pairs], [(t, t) for _, t in pairs])
    )
    return dot / math.sqrt(new * old) if new * old > 0 else 1.0
