"""``--dataset NAME:CONFIGURATION``: a data set, here or on the Hub, of which there are several."""

from __future__ import annotations

import os
from typing import Any

from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

DEFAULT = "default"


def split_name(dataset: str) -> tuple[str, str]:
    """Name and configuration of ``--dataset``; what is there under the whole name has none.

    Example:
        >>> split_name("lmms-lab/GQA:train_balanced"), split_name("owner/name")
        (('lmms-lab/GQA', 'train_balanced'), ('owner/name', ''))
    """
    if os.path.exists(os.path.expanduser(dataset)):
        return dataset, ""
    name, colon, configuration = dataset.rpartition(":")
    return (name, configuration) if colon and name else (dataset, "")


def configurations(card: Any) -> list[str]:
    """Names of the configurations that a data card lists."""
    return [str(entry.get("config_name", DEFAULT)) for entry in _entries(card)]


def pick_configuration(card: Any, asked: str, name: str) -> str | None:
    """The configuration to read, which ``asked`` names, or is the default or the only one; None if there are none.

    Args:
        card: the metadata of a data card.
        name: of the data set, for messages.

    Raises:
        FedummError: there is no such configuration, or there are several and none is named.
    """
    there = configurations(card)
    if asked:
        if asked not in there:
            listed = one_line(", ".join(there), 2000) or "none"
            raise FedummError(
                f"--dataset {name} has no configuration '{one_line(asked, 60)}'. It has: {listed}."
                f"{did_you_mean(asked, there)}"
            )
        return asked
    marked = [str(entry.get("config_name", DEFAULT)) for entry in _entries(card) if entry.get("default") is True]
    if one := marked or [c for c in there if c == DEFAULT] or there[: len(there) == 1]:
        return one[0]
    if there:
        raise FedummError(
            f"--dataset {name} has several configurations: name one, as --dataset {name}:{one_line(there[0], 60)}. "
            f"There are {one_line(', '.join(there), 2000)}."
        )
    return None


def _entries(card: Any) -> list[dict[str, Any]]:
    found = card.get("configs") if isinstance(card, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
