"""Which clients train in a round, and which score every version of the global adapter."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from fedumm.config import FederateConfig
from fedumm.federation.assignment import natural
from fedumm.privacy.plan import DPPlan
from fedumm.privacy.sampling import poisson_sample
from fedumm.seeds import derive

Sampler = Callable[[int, Sequence[str]], list[str]]
"""From the round (1, 2, ...) and the roster to the clients that take part."""

_FEWEST = 8
"""To score fewer rows than these takes as long: an answer is generated token by token, however many there are."""


def uniform_sampler(count: int, seed: int) -> Sampler:
    """``count`` clients drawn without replacement, in the roster's order; 0 takes all."""

    def sample(round_number: int, roster: Sequence[str]) -> list[str]:
        if not 0 < count < len(roster):
            return list(roster)
        chosen = random.Random(derive(seed, "clients", round_number)).sample(list(roster), count)
        return sorted(chosen, key=list(roster).index)

    return sample


def sampler_for(config: FederateConfig, dp: DPPlan | None) -> Sampler:
    """Who takes part: with noise at the server each client by a secret draw of its own, which privacy gains from."""
    if dp and dp.mode == "central" and dp.sampling < 1:
        return lambda _, roster: poisson_sample(roster, dp.sampling)
    return uniform_sampler(config.clients_per_round, config.seed)


def panel_of(clients: Mapping[str, Mapping[str, Any]], drawn: int, seed: int) -> list[str]:
    """The clients that score every version, in natural order.

    Everybody, if everybody trains in every round. Otherwise clients with held-out rows in an order that follows from
    ``seed``: as many as have, together, no more held-out rows than ``drawn`` clients have training rows on average,
    where one with fewer than 8 counts as one with 8; and never fewer than ``drawn``.

    Args:
        clients: by name, the numbers of rows in ``train`` and ``heldout``.
        drawn: how many clients train in a round.
    """
    roster = sorted(clients, key=natural)
    if drawn >= len(roster):
        return roster
    order = [c for c in random.Random(derive(seed, "panel")).sample(roster, len(roster)) if clients[c]["heldout"]]
    room = drawn * sum(own["train"] for own in clients.values()) // len(roster)
    costs = accumulate(max(_FEWEST, clients[c]["heldout"]) for c in order)
    fitting = bisect_right(list(costs), room)
    return sorted(order[: max(drawn, fitting)], key=natural)
