"""What libraries say beside an error: of a picture's size and its tags, and of a patient's data."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LOG = logging.getLogger("pydicom")
_lock = threading.Lock()
_inside = 0
_before = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """No warning is shown, and pydicom logs nothing.

    Filters of warnings belong to the whole process: of several threads, the first one in sets them, the last one out
    puts them back.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside
    with _lock:
        if not _inside:
            _before.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _before.callback(setattr, _LOG, "disabled", _LOG.disabled)
            _LOG.disabled = True
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            _before.close()
