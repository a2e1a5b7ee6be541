"""How far a round's result is from the ideal one: FedAvg's price for averaging factors, and what a cut rank costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from fedumm.adapters.factors import modules_of
from fedumm.aggregation.base import BackboneDelta, ClientContribution
from fedumm.aggregation.ideal import by_client, ideal_update
from fedumm.aggregation.low_rank import product_norm, stack


def aggregation_error(
    begin_adapter: Mapping[str, torch.Tensor],
    begin_scale: float,
    contributions: Iterable[ClientContribution],
    delivered_adapter: Mapping[str, torch.Tensor],
    delivered_scale: float,
    change: BackboneDelta,
) -> float | None:
    """``||X - D|| / ||D||``, Frobenius over all LoRA modules together, of ``X = change + s B A`` as delivered.

    ``D = sum_k p_k s_k B_k A_k`` over the clients that sent a factor of the module; the other factor is then the one
    that the round began with. Modules that nobody sent are left out. From factors in float64, one module at a time:
    memory is a module's stack, and the error of the error about 1e-15.

    Returns:
        0.0 where both norms are 0, infinity where only that of D is; None for an adapter without LoRA.
    """
    modules, parts = modules_of(begin_adapter), by_client(contributions)
    missed, wanted = [0.0], [0.0]
    for module, names in modules.items():
        if ideal := ideal_update(begin_adapter, begin_scale, parts, names):
            a, b = (delivered_adapter[name] for name in names)
            delivered = [(delivered_scale, b, a), *((1.0, *pair) for pair in [change.get(module)] if pair)]
            missed.append(product_norm(*stack([(-1.0, *ideal), *delivered])))
            wanted.append(product_norm(*ideal))
    if not modules:
        return None
    return lost_share(math.hypot(*wanted), math.hypot(*missed))


def lost_share(norm: float, lost: float) -> float:
    """``lost / norm``: 0.0 where both are 0, infinity where only ``norm`` is."""
    return lost / norm if norm else math.inf if lost else 0.0
