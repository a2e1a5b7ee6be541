"""An image processor that works once for the picture that stands in for all others."""

from __future__ import annotations

from typing import Any

from transformers import BatchFeature


class Replayed:
    """An image processor that gives what it gave the first time."""

    def __init__(self, real: Any) -> None:
        self._real, self._made = real, dict[str, Any]()

    def __call__(self, *images: Any, **options: Any) -> BatchFeature:
        """What it made with these options the first time, whatever the images are."""
        key = repr(sorted(options.items()))
        if key not in self._made:
            self._made[key] = self._real(*images, **options)
        return BatchFeature(dict(self._made[key]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
