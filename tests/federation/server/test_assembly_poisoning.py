"""Updates whose factors A and B each look like the others', and whose product does not (gradient assembly poisoning,
2601.00566): what the checks of products refuse, and what they let through."""

from __future__ import annotations

import torch
from test_outliers import HONEST, START, A, B, examined, judged

from fedumm.adapters import AdapterState
from fedumm.federation.server.outliers import AGAINST, OUTLIER, directions, unusual
from fedumm.federation.server.validation import norm_between, product_norm

Change = dict[str, torch.Tensor]


def change_of(state: AdapterState) -> Change:
    return {name: t.double() - START[name].double() for name, t in state.items()}


MEAN = {name: sum(change_of(one.adapter())[name] for one in HONEST) / len(HONEST) for name in START}
LENGTH = max(one.norm for one in HONEST)


def product(change: Change) -> torch.Tensor:
    """What B A moves by."""
    a, b = START[A].double(), START[B].double()
    return (b + change[B]) @ (a + change[A]) - b @ a


def dot(left: Change, right: Change) -> float:
    return sum(float((left[name] * right[name]).sum()) for name in left)


def sent(change: Change, length: float) -> AdapterState:
    """The update of this direction and length."""
    ratio = length / dot(change, change) ** 0.5
    return {name: (START[name].double() + ratio * t).float() for name, t in change.items()}


def assembled() -> Change:
    """At right angles to the honest mean as factors, and against it as a product, as far as both are possible."""
    wanted = product(MEAN)
    against = {A: -START[B].double().T @ wanted, B: -wanted @ START[A].double().T}
    against = {name: against.get(name, torch.zeros_like(t)) for name, t in MEAN.items()}
    along = dot(against, MEAN) / dot(MEAN, MEAN)
    return {name: t - along * MEAN[name] for name, t in against.items()}


def share_left(bad: AdapterState) -> float:
    """Of the honest mean's product, in a mean over all eight; factors averaged as ``fedavg`` does."""
    n = len(HONEST)
    mean = {name: (n * MEAN[name] + t) / (n + 1) for name, t in change_of(bad).items()}
    wanted = product(MEAN)
    return float((product(mean) * wanted).sum() / wanted.square().sum())


def test_a_product_that_is_too_long_is_refused_though_its_factors_are_not() -> None:
    """Factors that all pull one way, along what the other factor is longest in."""
    u, _, vt = torch.linalg.svd(START[B].double() @ START[A].double())
    left, right = u[:, :1], vt[:1]
    change = {A: START[B].double().T @ left @ right, B: left @ right @ START[A].double().T}
    change |= {name: torch.zeros_like(t) for name, t in MEAN.items() if name not in change}
    bad = sent(change, 2.8 * min(one.norm for one in HONEST))
    assert norm_between(bad, START) < OUTLIER * min(one.norm for one in HONEST), "as factors it is within the limit"
    assert product_norm(bad, START) > OUTLIER * max(one.product for one in HONEST)
    assert judged(bad)[1] == {"site-8": "product"}


def test_a_product_that_points_backwards_is_let_through_and_takes_back_this_much() -> None:
    """The measured limit of docs/security.md: direction is compared by factors, not by products."""
    bad = sent(assembled(), LENGTH)
    one = examined("site-8", bad)
    kept, codes = judged(bad)
    everybody = [*HONEST, one]
    cosines = directions(everybody)
    assert not codes
    assert len(kept) == 8
    assert cosines["site-8"] > AGAINST
    assert "site-8" not in unusual(everybody, cosines)
    assert 0.75 < share_left(bad) < share_left(dict(START)) < 0.9


def test_it_gains_less_than_an_update_that_is_turned_over() -> None:
    """Which has a line on the screen, where this one has none."""
    length = 0.99 * OUTLIER * min(one.norm for one in HONEST)
    bad, turned = sent(assembled(), length), sent({name: -t for name, t in MEAN.items()}, length)
    assert not judged(bad)[1]
    assert 0.35 < share_left(turned) < 0.5 < share_left(bad) < 0.75
