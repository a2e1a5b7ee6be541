"""Samples as tensors: prompts padded on the left, to go on from, and training texts that end together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Item = dict[str, Any]


@dataclass(frozen=True)
class Texts:
    """Token ids of some samples, padded on the left.

    Attributes:
        ids: ``(rows, length)`` int64.
        mask: ``(rows, length)`` int64, 0 where padded, and there ids mean nothing.
        types: other integers for each token, each ``(rows, length)`` int64.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    types: dict[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Texts:
        """The same on ``device``."""
        types = {name: own.to(device, non_blocking=True) for name, own in self.types.items()}
        return Texts(self.ids.to(device, non_blocking=True), self.mask.to(device, non_blocking=True), types)

    def pin_memory(self) -> Texts:
        """The same where a GPU can fetch it from (asked for by PyTorch's data loader)."""
        own = {name: tensor.pin_memory() for name, tensor in self.types.items()}
        return Texts(self.ids.pin_memory(), self.mask.pin_memory(), own)

    def alone(self, row: int) -> Texts:
        """One row without its padding."""
        kept = self.mask[row].bool()
        own = {name: tensor[row, kept][None] for name, tensor in self.types.items()}
        return Texts(self.ids[row, kept][None], self.mask[row, kept][None], own)


def texts(ids: Sequence[Sequence[int]], types: Sequence[Mapping[str, Sequence[int]]]) -> Texts:
    """Rows of any length as tensors; ``types`` has the same names for each."""
    mask = pad_left([[1] * len(row) for row in ids])
    return Texts(pad_left(ids), mask, {name: pad_left([own[name] for own in types]) for name in types[0]})


def pad_left(rows: Sequence[Sequence[int]], value: int = 0) -> torch.Tensor:
    """Ragged integer rows as ``(len(rows), longest)`` int64, filled with ``value`` on the left."""
    longest = max(map(len, rows))
    return torch.tensor([[*[value] * (longest - len(row)), *row] for row in rows], dtype=torch.int64)


def training_texts(items: Sequence[Item], answer_types: Mapping[str, int]) -> tuple[Texts, torch.Tensor]:
    """Prompts with their answers, all but the last token, and labels ``(rows, longest answer)``.

    Both end together: the last position says the last label, and before a shorter answer labels are -100.
    """
    ids, types, labels = [], [], []
    for item in items:
        for answer in item["answers"]:
            ids.append([*item["ids"], *answer[:-1]])
            fill = len(answer) - 1
            types.append({name: [*own, *[answer_types[name]] * fill] for name, own in item["types"].items()})
            labels.append(answer)
    return texts(ids, types), pad_left(labels, -100)


def collate(items: Sequence[Item]) -> dict[str, Any]:
    """Samples as a batch.

    ``images`` has an entry a sample: its features, or what the processor made of it. Where a question has several
    answers, ``owner`` says which sample each is for, and ``shares`` what it weighs, both ``(answers,)``.
    """
    owner = [place for place, item in enumerate(items) for _ in item["answers"]]
    several = {
        "owner": torch.tensor(owner),
        "shares": torch.tensor([share for item in items for share in item["shares"]]),
    }
    inputs, labels = training_texts(items, items[0]["answer_types"])
    lists = ("references", "type", "choices", "images", "extras", "task")
    return {
        "prompts": texts([item["ids"] for item in items], [item["types"] for item in items]),
        "inputs": inputs,
        "labels": labels,
        "max_a_len": items[0]["max_a_len"],
        **{name: [item[name] for item in items] for name in lists},
        **(several if len(owner) > len(items) else {}),
    }
