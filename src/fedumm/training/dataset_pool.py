"""Data sets of many clients over one split's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedumm.backends.protocol import HasFrozenStages
from fedumm.config import RunConfig
from fedumm.training.backbone import Backbone


class DatasetPool:
    """Makes the data set of any part of ``rows``.

    Where the backend's data sets can be cut, the rows are prepared once for all parts (``whole``);
    otherwise each part is built when it is asked for.

    Args:
        used: the rows that parts will be taken of.
    """

    def __init__(self, backbone: Backbone, rows: Any, config: RunConfig, used: Sequence[int]) -> None:
        self._backbone, self._rows, self._config = backbone, rows, config
        self._place = {row: place for place, row in enumerate(used)}
        self.whole: Any = None
        if isinstance(backbone.backend, HasFrozenStages) and used:
            self.whole = self._build(used)

    def _build(self, chosen: Sequence[int]) -> Any:
        config = self._config
        rows = self._rows if chosen == range(len(self._rows)) else self._rows.select(chosen)
        return self._backbone.backend.build_dataset(rows, self._backbone.processor, config.max_q_len, config.max_a_len)

    def part(self, chosen: Sequence[int]) -> Any:
        """The data set of some rows, in this order; None if there are none."""
        if not len(chosen):
            return None
        if self.whole is not None:
            return self.whole.subset([self._place[row] for row in chosen])
        return self._build(chosen)
