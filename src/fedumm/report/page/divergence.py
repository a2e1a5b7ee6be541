"""How unlike clients' labels are those of all clients together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np


def distances(counts: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """By client with rows, the Jensen-Shannon distance between its labels' shares and those of all rows together.

    It is the square root of the divergence to base 2 (Endres and Schindelin, 2003): 0 for equal shares, and 1 where no
    label is shared, which the whole, of which the client is a part, never comes to.

    Args:
        counts: rows by label, by client.
    """
    from scipy.spatial.distance import jensenshannon

    labels = sorted({label for own in counts.values() for label in own})
    rows = {name: np.array([own.get(label, 0) for label in labels], float) for name, own in counts.items()}
    whole = sum(rows.values(), np.zeros(len(labels)))
    found = {name: float(jensenshannon(row, whole, base=2)) for name, row in rows.items() if row.sum() > 0}
    # Of equal shares, rounding makes the root of something just below 0.
    return {name: 0.0 if math.isnan(value) else value for name, value in found.items()}
