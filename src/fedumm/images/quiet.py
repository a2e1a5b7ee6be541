"""What libraries say beside an error: of a picture's size, and of a patient's data."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def quiet(logger: str = "") -> Iterator[None]:
    """No warning is shown, and nothing logged as ``logger``.

    One thread at a time, since filters of warnings belong to the whole process: put little into it.
    """
    log = logging.getLogger(logger) if logger else None
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = log.disabled if log else False
        try:
            if log:
                log.disabled = True
            yield
        finally:
            if log:
                log.disabled = before
