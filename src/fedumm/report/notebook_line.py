"""Progress in a notebook: one line that changes, above what is printed. No extension of notebooks is needed.

Rich's own moving bars need ``ipywidgets``, and without it show nothing.
"""

from __future__ import annotations

import time
from typing import Any

from fedumm.texts import one_line

_WIDTH = 24
_EVERY = 0.2


class NotebookLine:
    """A line below a cell. ``show`` is cheap: most calls change nothing that anybody could read in time."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0
        self._work: tuple[str, int] = ("", 0)
        self._began, self._before = 0.0, 0

    def show(self, text: str, done: int, total: int, host: str = "") -> None:
        """What is done of ``total``, and about how long the rest takes."""
        now = time.monotonic()
        if (host, total) != self._work or done < self._before:
            self._work, self._began = (host, total), now
        self._before = done
        if self._handle and now - self._shown < _EVERY and done < total:
            return
        self._shown = now
        self._put(f"{one_line(text)}  {_bar(done, total)}  {done:,}/{total:,}{self._left(done, total, now)}")

    def clear(self) -> None:
        """Nothing is being done any more."""
        if self._handle:
            self._put("")

    def _left(self, done: int, total: int, now: float) -> str:
        passed = now - self._began
        return f"  {passed / done * (total - done):,.0f} s left" if 0 < done < total and passed > 1 else ""

    def _put(self, text: str) -> None:
        from IPython.display import display

        bundle = {"text/plain": text}
        if self._handle:
            self._handle.update(bundle, raw=True)
        else:
            self._handle = display(bundle, raw=True, display_id=True)


def _bar(done: int, total: int) -> str:
    full = round(_WIDTH * done / total) if total else 0
    return "█" * full + "░" * (_WIDTH - full)
