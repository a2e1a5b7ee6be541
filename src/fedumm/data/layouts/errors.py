"""What is wrong with a file of a data set."""

from __future__ import annotations

from fedumm.errors import FedummError


class LayoutError(FedummError):
    """Half a sentence without a full stop that names the file; who asked for the data set names that, and ends it."""
