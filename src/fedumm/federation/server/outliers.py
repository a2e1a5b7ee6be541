"""Updates against the others of their round: too long, turned about, or only unusual."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fedumm.adapters import AdapterState
from fedumm.config import FederateConfig
from fedumm.federation.server.rejection import Rejection
from fedumm.federation.server.validation import Accepted, facing

OUTLIER = 3.0
"""An update is too long if it, or what it moves products by, is this many times what the others' suggest. Of honest
clients none was measured above 1.1 (docs/aggregation.md, python benchmarks/attacks.py)."""

UNUSUAL = 1.5
"""From here on it is admitted with a line."""

AGAINST = -0.5
"""So is one whose cosine with the others' directions is below this."""

TURNED, UNTURNED = 0.5, 0.9
"""Factors A that face less than the first where they began are turned about, if the others' face more than the
second."""

CONTROL_OUTLIER = 100.0
"""The same for changes of control variates: gradients, which differ more between clients than AdamW's steps do."""


def judge(accepted: Mapping[str, Accepted], config: FederateConfig) -> tuple[dict[str, Accepted], dict[str, Rejection]]:
    """Compare the updates of a round, by client, with each other.

    Returns:
        Those that stay, with ``--over_norm clip`` scaled down where they are too long; and why others do not.
    """
    rejected = _oversized_controls(accepted)
    kept = _without(accepted, rejected)
    bounds = _bounds(kept, config)
    if config.over_norm == "clip":
        kept = {client: _clipped(one, *bounds[client]) for client, one in kept.items()}
    else:
        rejected |= _oversized(kept, bounds)
        kept = _without(kept, rejected)
    rejected |= _turned(kept)
    return _without(kept, rejected), rejected


def _without(accepted: Mapping[str, Accepted], rejected: Collection[str]) -> dict[str, Accepted]:
    return {client: one for client, one in accepted.items() if client not in rejected}


def _oversized_controls(accepted: Mapping[str, Accepted]) -> dict[str, Rejection]:
    return {
        client: Rejection("norm", f"the norm of its control variates' change is above {limit:.3g}")
        for client, limit in control_limits(list(accepted.values())).items()
        if accepted[client].control_norm > limit
    }


def _bounds(accepted: Mapping[str, Accepted], config: FederateConfig) -> dict[str, tuple[float, float]]:
    """By client, how long its update may be, and how far its products may move."""
    everybody = list(accepted.values())
    products = product_limits(everybody, config.lr) if not config.max_update_norm else {}
    norms = limits(everybody, config.max_update_norm, config.lr)
    return {client: (limit, products.get(client, math.inf)) for client, limit in norms.items()}


def _clipped(own: Accepted, limit: float, most: float) -> Accepted:
    if own.norm <= limit and own.product <= most:
        return own
    # A product moves about as far as its factors do.
    share = min(1.0, most / own.product) if own.product else 1.0
    return replace(own, limit=min(limit, own.norm * share))


def _oversized(accepted: Mapping[str, Accepted], bounds: Mapping[str, tuple[float, float]]) -> dict[str, Rejection]:
    rejected = {}
    for client, own in accepted.items():
        limit, most = bounds[client]
        if own.norm > limit:
            rejected[client] = Rejection("norm", f"its norm {own.norm:.3g} is above {limit:.3g}")
        elif own.product > most:
            rejected[client] = Rejection("product", f"its products B A moved by {own.product:.3g}, above {most:.3g}")
    return rejected


def _turned(accepted: Mapping[str, Accepted]) -> dict[str, Rejection]:
    """Only where the others' factors A hardly turned: long training turns them, too."""
    faces = {
        client: one.facing if one.norm <= one.limit else facing(one.adapter(), one.expected.start)
        for client, one in accepted.items()
    }
    rejected = {}
    for client, own in faces.items():
        others = sorted(other for name, other in faces.items() if name != client)
        if own < TURNED and others and others[(len(others) - 1) // 2] > UNTURNED:
            why = f"its factors A are turned about: their cosine with those that it began with is {own:.2f}"
            rejected[client] = Rejection("direction", why)
    return rejected


def limits(accepted: Sequence[Accepted], largest: float, lr: float) -> dict[str, float]:
    """By client, the largest norm that is believed: ``largest``, or if that is 0, one that follows from the others.

    Client j moved ``n_j`` in ``t_j`` steps. From it, another with t steps may be expected to move up to
    ``n_j max(1, t / t_j)``; the limit is :data:`OUTLIER` times the upper median of that over the others. As long as
    fewer than half of the clients lie, too long or too short, honest ones bound each limit from below, and each liar's
    from above. One client alone has nothing to be compared with.

    It is never below :func:`_reach`: where only A is sent, the first step from B = 0 leaves A alone, and clients of a
    single step would have those of two rejected.
    """
    if largest:
        return {a.update.client: largest for a in accepted}
    usual = _usual(accepted, lambda one: one.norm)
    return {a.update.client: max(OUTLIER * usual[a.update.client], _reach(a, lr)) for a in accepted}


def _usual(accepted: Sequence[Accepted], length: Callable[[Accepted], float]) -> dict[str, float]:
    """By client, what the others' lengths suggest for its number of steps; infinity if they suggest nothing."""
    result = {}
    for own in accepted:
        steps = own.update.steps
        others = ((length(a), a.update.steps) for a in accepted if a is not own)
        result[own.update.client] = _upper_median(n * max(1.0, steps / t) for n, t in others if n > 0)
    return result


def _reach(own: Accepted, lr: float) -> float:
    """How far AdamW gets in the client's steps if each moves every value by the learning rate, all the same way."""
    entries = sum(math.prod(own.expected.spec[name][0]) for name in own.expected.names)
    return lr * own.update.steps * math.sqrt(entries)


def product_limits(accepted: Sequence[Accepted], lr: float) -> dict[str, float]:
    """By client, how far its products B A may move: as far as the others' suggest, or as its factors' reach does if
    their products grow with it as the others' do."""
    usual = _usual(accepted, lambda one: one.product)
    result = {}
    for own in accepted:
        growth = _upper_median(a.product / a.norm for a in accepted if a is not own and a.product > 0)
        result[own.update.client] = max(OUTLIER * usual[own.update.client], _reach(own, lr) * growth)
    return result


def control_limits(accepted: Sequence[Accepted]) -> dict[str, float]:
    """By client, the largest norm of a change of its control variate: by the others' alone."""
    return {
        own.update.client: CONTROL_OUTLIER
        * _upper_median(a.control_norm for a in accepted if a is not own and a.control_norm > 0)
        for own in accepted
    }


def _upper_median(values: Iterable[float]) -> float:
    """Of nothing, infinity."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else math.inf


def lengths(accepted: Sequence[Accepted], length: Callable[[Accepted], float]) -> dict[str, float]:
    """By client, its length as a multiple of what the others' lengths suggest."""
    usual = _usual(accepted, length)
    return {own.update.client: length(own) / usual[own.update.client] for own in accepted}


def unusual(accepted: Sequence[Accepted], cosines: Mapping[str, float]) -> dict[str, str]:
    """By client, in what an update that counts is unlike the others'. Nothing of two or fewer: neither is usual.

    Args:
        cosines: their :func:`directions`; of clients that have none nothing is said of it.
    """
    if len(accepted) < 3:
        return {}
    norms = lengths(accepted, lambda one: min(one.norm, one.limit))
    products = lengths(accepted, lambda one: one.product)
    told = dict[str, str]()
    for own in accepted:
        client = own.update.client
        longer = max(norms[client], products[client])
        parts = [f"{longer:.2g} times as long as the others suggest"] if longer > UNUSUAL else []
        cosine = cosines.get(client, 0.0)
        parts += [f"against the others' direction (cosine {cosine:.2f})"] if cosine < AGAINST else []
        if parts:
            told[client] = ", ".join(parts)
    return told


def directions(accepted: Sequence[Accepted]) -> dict[str, float]:
    """By client, the cosine between its change and the sum of the others' changes, each of these at length 1.

    It is -1..1, and 0 where a change or that sum is nothing. Factors of different ranks have no common directions, and
    one client has no others: then nobody is named.
    """
    if len(accepted) < 2 or any(one.expected.spec != accepted[0].expected.spec for one in accepted):
        return {}
    total: AdapterState = {}
    for one in accepted:
        for name, change in _direction(one).items():
            total[name] = total[name] + change if name in total else change
    result = {}
    for one in accepted:
        own = _direction(one)
        # What is left of the sum without its own part; that part has length 1.
        dot = math.fsum(float((total[name] * t).sum()) for name, t in own.items()) - 1.0
        square = math.fsum(float(t.square().sum()) for t in total.values()) - 2 * dot - 1.0
        result[one.update.client] = dot / math.sqrt(square) if own and square > 1e-12 else 0.0
    return result


def _direction(one: Accepted) -> AdapterState:
    """Its change in float64, at length 1; empty if it moved nothing."""
    if not one.norm:
        return {}
    start, length = one.expected.start, min(one.norm, one.limit)
    return {name: (t.double() - start[name].double()) / length for name, t in one.adapter().items()}
