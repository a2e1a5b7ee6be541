"""A figure that a notebook shows by itself."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 110


class NotebookFigure(Figure):
    """A figure that needs no display and leaves pyplot's global state alone: IPython asks it for a picture."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        """IPython's protocol; without pyplot, nothing else tells it how to show a figure."""
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=DPI)
        return data.getvalue()
