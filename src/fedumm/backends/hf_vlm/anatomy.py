"""The parts of a model: its language tower, what lies outside of it, and the layers that get LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from fedumm.errors import FedummError

ATTENTION, ALL = "attention", "all"
"""What ``--lora_targets`` can be besides a regular expression."""

_OUTPUTS = {"o_proj", "out_proj", "c_proj", "proj_out", "dense", "proj", "out", "output", "wo", "o"}
"""What attention's last layer is called: with ``attention``, only what makes queries, keys and values gets LoRA."""

_SHOWN = 20


def tower_name(model: torch.nn.Module) -> str:
    """The full name of the language tower: what ``get_decoder()`` returns, found by identity.

    Raises:
        FedummError: it is the whole model, or no part of it.
    """
    tower = model.get_decoder()  # type: ignore[operator]
    name = next((name for name, module in model.named_modules() if module is tower), "")
    if not name:
        raise FedummError(
            f"The language model of a {type(model).__name__} can't be told from the rest of it (get_decoder() names "
            "none): the backend hf_vlm does not take it."
        )
    return name


class Anatomy:
    """The parts of one model.

    Args:
        model: of ``AutoModelForImageTextToText``, without LoRA.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.tower = model, tower_name(model)
        head = model.get_output_embeddings()
        modules = dict(model.named_modules())
        self._classes = {name: type(module).__name__.lower() for name, module in modules.items()}
        self.layers = [
            name for name, module in modules.items()
            if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        ]  # fmt: skip
        """Full names of all layers that can get LoRA."""
        self.in_tower = [name for name in self.layers if name.startswith(f"{self.tower}.") and not self._sees(name)]
        """Those of the language tower."""

    def _ancestors(self, name: str) -> list[str]:
        parts = name.split(".")
        return [".".join(parts[:count]) for count in range(1, len(parts))]

    def _sees(self, name: str) -> bool:
        """Whether a layer of the tower belongs to what looks at the image (few models keep that in there)."""
        inside = [own for own in self._ancestors(name) if own.startswith(f"{self.tower}.")]
        # A word that the whole family is called by tells nothing.
        words = [word for word in ("vision", "perceiver", "resampler") if word not in self._classes[self.tower]]
        named = any(own.rsplit(".", 1)[-1].startswith(("vision", "visual")) for own in inside)
        return named or any(word in self._classes[own] for own in inside for word in words)

    def _attends(self, name: str) -> bool:
        inside = [own for own in self._ancestors(name) if own.startswith(f"{self.tower}.")]
        # Attention that is linear in the length has classes with names of their own (GatedDeltaNet).
        attention = any(_is_attention(self._classes[own]) or _is_attn(own.rsplit(".", 1)[-1]) for own in inside)
        return attention and name.rsplit(".", 1)[-1] not in _OUTPUTS

    def chosen(self, targets: str) -> list[str]:
        """The layers that ``--lora_targets`` means.

        Args:
            targets: ``attention`` (queries, keys and values of the language tower), ``all`` (all linear layers of it)
                or a regular expression for whole names, which may lie anywhere in the model.

        Raises:
            FedummError: there is none.
        """
        if targets == ATTENTION:
            found = list(filter(self._attends, self.in_tower))
        elif targets == ALL:
            found = self.in_tower
        else:
            found = [name for name in self.layers if _pattern(targets).fullmatch(name)]
        if not found:
            kinds = kinds_of(self.layers)
            more = f" and {len(kinds) - _SHOWN} more kinds" if len(kinds) > _SHOWN else ""
            raise FedummError(
                f"--lora_targets {targets}: no layer of this {type(self.model).__name__} fits. It has "
                f"{', '.join(kinds[:_SHOWN])}{more}. Give attention, all, or a regular expression for their whole "
                rf"names, for instance .*\.q_proj."
            )
        return found

    def outside(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that lie outside of the language tower."""
        own = {*self.in_tower}
        return [name for name in names if name not in own]

    def expression(self, names: Sequence[str]) -> str:
        """A regular expression for exactly these layers, the same each time."""
        found = "|".join(_expressions(names))
        exact = {name for name in self.layers if re.fullmatch(found, name)} == {*names}
        return found if exact else "|".join(map(re.escape, sorted(names)))


def _is_attention(kind: str) -> bool:
    """Whether a class is one of attention, by its name, and not one of a whole layer with attention in it."""
    return "attention" in kind and "layer" not in kind and "block" not in kind


def _is_attn(name: str) -> bool:
    """Whether a part of a layer is its attention by the name that the layer has for it."""
    return name.endswith(("attn", "attention"))


def _pattern(targets: str) -> re.Pattern[str]:
    try:
        return re.compile(targets)
    except re.error as error:
        raise FedummError(
            f"--lora_targets {targets}: neither attention nor all, and no regular expression: {error}."
        ) from error


def _expressions(names: Iterable[str]) -> list[str]:
    leaves: dict[str, set[str]] = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        parts = (r"\d+" if part.isdecimal() else re.escape(part) for part in parent.split("."))
        leaves.setdefault(r"\.".join(parts), set()).add(re.escape(leaf))
    return [rf"{parent}\.({'|'.join(sorted(own))})" for parent, own in sorted(leaves.items())]


def kinds_of(names: Iterable[str]) -> list[str]:
    """Names for people, with a ``*`` for the numbers of layers: ``model.layers.*.attn.{k_proj,q_proj}``."""
    leaves: dict[str, set[str]] = {}
    for name in names:
        parent, _, leaf = re.sub(r"(?<=\.)\d+(?=\.)", "*", name).rpartition(".")
        leaves.setdefault(parent, set()).add(leaf)
    return [
        f"{parent}.{{{','.join(sorted(own))}}}" if len(own) > 1 else f"{parent}.{min(own)}"
        for parent, own in leaves.items()
    ]


class Rest(torch.nn.Module):
    """All parts of a model but its language tower and its head: what may have to do with an image.

    Args:
        model: with or without LoRA in it.
        tower: full name of the tower.
    """

    def __init__(self, model: Any, tower: str) -> None:
        super().__init__()
        head, place, parts = model.get_output_embeddings(), model, tower.split(".")
        for depth, step in enumerate(parts):
            label = "_".join(parts[:depth]) or "top"
            for name, child in place.named_children():
                if name != step and child is not head:
                    self.add_module(f"{label}_{name}", child)
            for name, own in place.named_parameters(recurse=False):
                self.register_parameter(f"{label}_{name}", own)
            place = getattr(place, step)
