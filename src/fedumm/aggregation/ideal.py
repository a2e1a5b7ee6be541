"""The ideal update of a round, as factors: ``D = sum_k p_k s_k B_k A_k`` of a module, over the clients that sent it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fedumm.adapters.factors import at_rank
from fedumm.aggregation.base import ClientContribution
from fedumm.aggregation.low_rank import LowRank, stack
from fedumm.lazy import torch


def by_client(contributions: Iterable[ClientContribution]) -> list[ClientContribution]:
    """Sorted by name, so that sums do not depend on who came first."""
    return sorted(contributions, key=lambda c: c.client)


def mean(contributions: list[ClientContribution], name: str) -> torch.Tensor | None:
    """The weighted mean of the tensor ``name`` over those that sent it, in float64; None: nobody did."""
    sent = [c for c in contributions if name in c.adapter]
    if not sent:
        return None
    total = math.fsum(c.weight for c in sent)
    first, *others = [c.weight / total * c.adapter[name].double() for c in sent]
    return sum(others, first)


def factors_of(
    begin: Mapping[str, torch.Tensor], scale: float, contribution: ClientContribution, names: tuple[str, str]
) -> LowRank | None:
    """A client's ``(B, A)`` of the module whose factors are called ``names`` (A, B); None: it sent neither.

    One that is missing is the one that the client was given: that of ``begin`` at the client's rank, with B
    multiplied by ``scale`` over the client's scale.
    """
    a_name, b_name = names
    sent = contribution.adapter
    if a_name in sent:
        rank = sent[a_name].shape[0]
    elif b_name in sent:
        rank = sent[b_name].shape[1]
    else:
        return None
    given = at_rank({name: begin[name] for name in names}, rank, scale / contribution.scale)
    return sent.get(b_name, given[b_name]), sent.get(a_name, given[a_name])


def ideal_update(
    begin: Mapping[str, torch.Tensor], scale: float, contributions: list[ClientContribution], names: tuple[str, str]
) -> LowRank | None:
    """``([p_1 s_1 B_1, ...], [A_1; ...])`` of a module, float64: ``(out, sum_k r_k)`` and ``(sum_k r_k, in)``.

    The shares p_k are of those that sent the module; None: nobody did. Arguments as in :func:`factors_of`.
    """
    found = [(c, factors_of(begin, scale, c, names)) for c in contributions]
    pairs = [(c.weight, c.scale, pair) for c, pair in found if pair is not None]
    total = math.fsum(weight for weight, _, _ in pairs)
    return stack((weight / total * own, b, a) for weight, own, (b, a) in pairs) if pairs else None
