"""Being stopped: Ctrl-C, and the signals by which batch systems and closed terminals end a program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


_ignored = set[int]()
"""Those that an end which has begun takes no notice of."""


class StoppedError(KeyboardInterrupt):
    """A signal that ends the program in the way that Ctrl-C does.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def exit_status(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as a shell says it: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (stop.number if isinstance(stop, StoppedError) else signal.SIGINT)


def _raise(number: int, frame: FrameType | None) -> None:
    # Batch systems ask again, and ask each process: an end that has begun clears up behind it, up to its last line.
    for asked in SIGNALS:
        if signal.getsignal(asked) == _raise:
            signal.signal(asked, signal.SIG_IGN)
            _ignored.add(asked)
    raise StoppedError(number)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise :class:`StoppedError`, unless they are ignored (``nohup``).

    Once they have, they are ignored, since the program is ending; or until this is entered again.
    """
    for number in _ignored:
        signal.signal(number, signal.SIG_DFL)
    _ignored.clear()
    with _handled({s: _raise for s in SIGNALS if signal.getsignal(s) == signal.SIG_DFL}):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it, an end that has begun is not stopped by a second signal."""
    with _handled(dict.fromkeys((signal.SIGINT, *SIGNALS), signal.SIG_IGN)):
        yield


@contextmanager
def _handled(handlers: Mapping[int, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it gets signals
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) == handlers[number]:
                # None: set by another language than Python.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
