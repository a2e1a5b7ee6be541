"""What every contribution must be, whatever is done with it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedumm.adapters.state import check_state, spec_of
from fedumm.aggregation.base import ClientContribution
from fedumm.lazy import torch


def check_contribution(contribution: ClientContribution, start: Mapping[str, torch.Tensor]) -> None:
    """See that ``contribution`` can be averaged with others, entry by entry, into an adapter like ``start``.

    Raises:
        ValueError: the weight is not positive and finite; it holds no tensor, or one that ``start`` has not or has
            in another shape, or NaN or infinite values.
    """
    weight = contribution.weight
    if not 0 < weight < math.inf:
        raise ValueError(f"weight must be positive and finite, not {weight}")
    if not contribution.adapter:
        raise ValueError("it holds no tensor")
    if problem := check_state(contribution.adapter, spec_of(start), partial=True, any_dtype=True):
        raise ValueError(problem.text)
