"""Being stopped: Ctrl-C, and the signals by which batch systems and closed terminals end a program."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


_SOON = 0.01
"""Seconds after which a signal that was lost comes again."""

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
    with _handled({s: _raise for s in SIGNALS if signal.getsignal(s) == signal.SIG_DFL}), _never_lost():
        yield


@contextmanager
def _never_lost() -> Iterator[None]:
    """Within it, a signal that comes where Python drops all exceptions (a weak reference's callback) comes again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            before(lost)
            return
        for number in _ignored:  # no end has begun, after all
            signal.signal(number, _raise)
        _ignored.clear()
        number = lost.exc_value.number if isinstance(lost.exc_value, StoppedError) else signal.SIGINT
        again = threading.Timer(_SOON, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


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
