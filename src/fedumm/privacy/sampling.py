"""Who takes part in a round, drawn so that a round that a client may have missed costs it less privacy."""

from __future__ import annotations

import secrets
from collections.abc import Sequence


def poisson_sample(clients: Sequence[str], probability: float) -> list[str]:
    """Each client with ``probability``, independently of the others; there may be none.

    Drawn from the operating system's entropy: the gain from sampling is lost to anybody who knows the draw, and a
    run's seed is public. For the same reason who took part must not be published.
    """
    draw = secrets.SystemRandom().random
    return [client for client in clients if draw() < probability]
