"""Questions, answers and images as BLIP takes them in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from fedumm.backends.answers import answer_shares
from fedumm.backends.tensors import pad
from fedumm.data import read_image

if TYPE_CHECKING:
    from fedumm.backends.feature_table import FeatureTable


class BlipVqaDataset(Dataset[dict[str, Any]]):
    """One item per question. Text is tokenised once, here; images are read when asked for.

    Args:
        hf_ds: rows with ``image``, ``question``, ``multiple_choice_answer``, ``answers``, and
            optionally ``answer_type``, ``question_type`` and ``choices``.
        processor: a ``BlipProcessor`` with ``decoder_start_token_id`` set.
        max_q_len: questions are cut to this many tokens, special tokens included.
        max_a_len: answers are cut to this many tokens, the end token included.
        train_all: train on all answers of a question, not on the most common one.

    Attributes:
        answers: the most common answer of each question, its end token included.
        shares: of each question the answers that are trained on, each with its share of them.
    """

    def __init__(self, hf_ds: Any, processor: Any, max_q_len: int, max_a_len: int, *, train_all: bool = False) -> None:
        tokenizer = processor.tokenizer
        self.rows = hf_ds
        self.image_processor = processor.image_processor
        self.start_id: int = processor.decoder_start_token_id
        self.max_a_len = max_a_len
        self.features: FeatureTable | None = None
        self.questions = _tokens(tokenizer, hf_ds["question"][:], max_length=max_q_len)
        best = hf_ds["multiple_choice_answer"][:]
        self._cut: dict[str, Any] = {"max_length": max_a_len - 1, "add_special_tokens": False}
        answers = _tokens(tokenizer, best, **self._cut)
        self.answers: list[list[int]] = [[*ids, tokenizer.sep_token_id] for ids in answers]
        self.references: list[list[str]] = hf_ds["answers"][:]
        self.shares: list[list[tuple[list[int], float]]] = [[(answer, 1.0)] for answer in self.answers]
        if train_all:
            self.shares = self._all_shares(tokenizer, best)
        lists = ("answer_type", "question_type", "choices")
        self.lists = {name: hf_ds[name][:] for name in lists if name in hf_ds.column_names}
        self.index: Sequence[int] = range(len(self.questions))

    def _all_shares(self, tokenizer: Any, best: Sequence[str]) -> list[list[tuple[list[int], float]]]:
        """Each distinct answer of each question by its share; those with the same tokens are one."""
        shares = list(map(answer_shares, self.references, best))
        texts = list(dict.fromkeys(text for own in shares for text in own))
        ids = dict(zip(texts, _tokens(tokenizer, texts, **self._cut), strict=True))
        joined = []
        for own in shares:
            weights: dict[tuple[int, ...], float] = {}
            for text, share in own.items():
                answer = (*ids[text], tokenizer.sep_token_id)
                weights[answer] = weights.get(answer, 0.0) + share
            joined.append([(list(answer), weight) for answer, weight in weights.items()])
        return joined

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each question."""
        return [len(self.questions[row]) for row in self.index]

    @property
    def cached(self) -> bool:
        """Whether images come as features."""
        return self.features is not None

    def part(self, stage: str) -> BlipVqaDataset:
        """All samples take the features of the one stage."""
        return self

    def subset(self, rows: Sequence[int]) -> BlipVqaDataset:
        """Some of the items, in this order; text and features are shared."""
        part = copy.copy(self)
        part.index = [self.index[row] for row in rows]
        return part

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = self.index[position]
        item: dict[str, Any] = {
            "question_ids": self.questions[row],
            "start_id": self.start_id,
            "answers": self.shares[row],
            "references": self.references[row],
            "max_a_len": self.max_a_len,
            **{name: values[row] for name, values in self.lists.items()},
        }
        if self.features is not None:
            item["image_embeds"] = self.features.of(row)
        else:
            item["pixel_values"] = self.pixels([row])[0]
        return item

    def pixels(self, rows: Sequence[int]) -> torch.Tensor:
        """Processed images of some rows, ``(len(rows), 3, side, side)``, float32."""
        images = [read_image(self.rows, row) for row in rows]
        pixel_values: torch.Tensor = self.image_processor(images=images, return_tensors="pt").pixel_values
        return pixel_values


def _tokens(tokenizer: Any, texts: list[str], **options: Any) -> list[list[int]]:
    """Token ids of each text; the same question asked of many images is tokenised once."""
    distinct = list(dict.fromkeys(texts))
    ids = dict(zip(distinct, tokenizer(distinct, truncation=True, **options).input_ids, strict=True))
    return [ids[text] for text in texts]


def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Items to one batch; questions and answers are padded to the longest of the batch.

    ``decoder_input_ids`` is the start token and the answer; ``labels`` the answer and its end
    token, then -100: position by position what generation feeds in and has to say next. The
    value of padded inputs is arbitrary (0): masks and labels keep it from any result.

    Where a question has several answers, ``owner`` says which question each is for, and ``shares`` what it weighs,
    both ``(answers,)``.
    """
    image = "image_embeds" if "image_embeds" in batch[0] else "pixel_values"
    questions = [item["question_ids"] for item in batch]
    answers = [(place, ids, share) for place, item in enumerate(batch) for ids, share in item["answers"]]
    lists = [name for name in ("references", "answer_type", "question_type", "choices") if name in batch[0]]
    several = {
        "owner": torch.tensor([place for place, _, _ in answers]),
        "shares": torch.tensor([share for _, _, share in answers]),
    }
    return {
        image: torch.stack([item[image] for item in batch]),
        "input_ids": pad(questions, 0),
        "attention_mask": pad([[1] * len(q) for q in questions], 0),
        "decoder_input_ids": pad([[batch[0]["start_id"], *ids[:-1]] for _, ids, _ in answers], 0),
        "labels": pad([ids for _, ids, _ in answers], -100),
        "max_a_len": batch[0]["max_a_len"],
        **{name: [item[name] for item in batch] for name in lists},
        **(several if len(answers) > len(batch) else {}),
    }
