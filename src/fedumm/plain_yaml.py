"""YAML of options: names and values, of which a few lines never stand for gigabytes."""

from __future__ import annotations

from typing import Any

import yaml

MOST_NODES = 20_000
"""Names and values together."""


class _Plain(yaml.SafeLoader):
    """Without anchors to come back to, which double what they stand for again and again."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Called for each value, before it is made."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to another place of itself (*name), which no list of options needs")
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise yaml.YAMLError(f"it holds more than {MOST_NODES:,} names and values")
        return super().compose_node(parent, index)


def load_plain(text: str) -> Any:
    """What ``text`` holds.

    Raises:
        ValueError: it is no YAML, or none of options; the message is one line.
    """
    try:
        loader = _Plain(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
