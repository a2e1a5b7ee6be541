"""Questions and captions with their images, as Janus takes them in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from fedumm.backends.answers import answer_shares
from fedumm.backends.januspro.prompts import Prompts, widen
from fedumm.backends.prompting import BARE, asked
from fedumm.backends.tensors import pad
from fedumm.data import read_image
from fedumm.errors import FedummError
from fedumm.tasks import I2T, T2I, VQA

if TYPE_CHECKING:
    from fedumm.backends.feature_table import FeatureTable

FEATURES, CODES = "vision features", "image codes"
"""Names of the two frozen stages: of what is seen, and of what is to be drawn."""

Item = dict[str, Any]


class Questions:
    """Rows with ``question``, ``multiple_choice_answer`` and ``answers``; or with ``text`` and ``texts``, which are
    answers to what ``prompt`` asks.

    Args:
        max_q_len, max_a_len: most tokens of a question's own text, and of an answer with its end token.
        prompt: words around each question.
        train_all: train on all answers of a question, not on the most common one.

    Attributes:
        shares: of each question the answers that are trained on, each with its share of them.
        copies: how many those are.
    """

    def __init__(
        self, rows: Any, prompts: Prompts, images: Any, max_q_len: int, max_a_len: int, *, task: str = VQA.name,
        prompt: str, train_all: bool = False,
    ) -> None:  # fmt: skip
        self.task, self.rows, self._images = task, rows, images
        asks = task == VQA.name
        best, everyone = ("multiple_choice_answer", "answers") if asks else I2T.columns
        questions: list[str] = rows["question"][:] if asks else [""] * len(rows)
        answers: list[str] = rows[best][:]
        self.features: FeatureTable | None = None
        self.max_a_len = max_a_len
        # With one placeholder for the image: hundreds of equal tokens for each question would fill the memory.
        self.prompts = [prompts.question(asked(prompts.cut(text, max_q_len), prompt)) for text in questions]
        self._image_ids = prompts.image
        self.answers = [prompts.answer(text, max_a_len) for text in answers]
        self.references: list[list[str]] = rows[everyone][:]
        self.types: list[str] = _types(rows)
        self.choices = rows["choices"][:] if "choices" in rows.column_names else None
        self.shares = [{answer: 1.0} for answer in self.answers]
        if train_all:
            own = map(answer_shares, self.references, answers)
            self.shares = [_joined(shares, prompts, max_a_len) for shares in own]
        self.copies = list(map(len, self.shares))
        # The answer's end token is said, but not read.
        wider, longest = len(self._image_ids) - 1, [max(map(len, own)) for own in self.shares]
        self.lengths = [len(p) + wider + most - 1 for p, most in zip(self.prompts, longest, strict=True)]

    def pixels(self, rows: Sequence[int]) -> torch.Tensor:
        """Images to understand, padded to squares: ``(len(rows), 3, side, side)`` float32."""
        return _pixels(self._images, [read_image(self.rows, row) for row in rows])

    def item(self, row: int) -> Item:
        """A question: ``input_ids``, ``labels`` and ``shares`` of its answers for training, ``prompt_ids`` to answer
        it."""
        prompt, answers = widen(self.prompts[row], self._image_ids), self.shares[row]
        return {
            "task": self.task,
            "input_ids": [[*prompt, *answer[:-1]] for answer in answers],
            "labels": [[*[-100] * (len(prompt) - 1), *answer] for answer in answers],
            "shares": list(answers.values()),
            "prompt_ids": prompt,
            "references": self.references[row],
            "type": self.types[row],
            "max_a_len": self.max_a_len,
            "choices": None if self.choices is None else self.choices[row],
            **_image(self, row),
        }


def _joined(shares: dict[str, float], prompts: Prompts, max_a_len: int) -> dict[tuple[int, ...], float]:
    """Shares by tokens; answers with the same ones are one."""
    joined: dict[tuple[int, ...], float] = {}
    for text, share in shares.items():
        answer = prompts.answer(text, max_a_len)
        joined[answer] = joined.get(answer, 0.0) + share
    return joined


class Captions:
    """Rows with ``caption``.

    Args:
        max_len: most tokens of a caption's own text.
    """

    task = T2I.name

    def __init__(self, rows: Any, prompts: Prompts, images: Any, max_len: int) -> None:
        self.rows, self._images = rows, images
        self.features: FeatureTable | None = None
        self.prompts = [prompts.caption(prompts.cut(text, max_len)) for text in rows["caption"][:]]
        self.without = [prompts.unconditional(prompt) for prompt in self.prompts]
        self.types: list[str] = _types(rows)
        self.copies = [1] * len(self.prompts)
        # The last token is drawn, but not read.
        self.lengths = [len(prompt) + prompts.image_tokens - 1 for prompt in self.prompts]

    def pixels(self, rows: Sequence[int]) -> torch.Tensor:
        """Images to draw, their middle squares: ``(len(rows), 3, side, side)`` float32."""
        return _pixels(self._images, [centre_crop(read_image(self.rows, row), self._images) for row in rows])

    def item(self, row: int) -> Item:
        """A caption: ``prompt_ids``, and ``without_ids``, the same with nothing said."""
        prompt, without = self.prompts[row], self.without[row]
        item = {"task": self.task, "prompt_ids": prompt, "without_ids": without, "type": self.types[row]}
        return item | _image(self, row)


def _types(rows: Any) -> list[str]:
    return rows["answer_type"][:] if "answer_type" in rows.column_names else [""] * len(rows)


def _image(part: Questions | Captions, row: int) -> Item:
    if part.features is not None:
        return {"features": part.features.of(row)}
    return {"pixel_values": part.pixels([row])[0]}


def _pixels(images: Any, pictures: list[Any]) -> torch.Tensor:
    pixel_values: torch.Tensor = images(images=pictures, return_tensors="pt").pixel_values
    return pixel_values


def centre_crop(image: Image.Image, images: Any) -> Image.Image:
    """Scale the short side to the image processor's side, and cut the long one: Janus's targets are not padded."""
    return ImageOps.fit(image, (images.size["width"], images.size["height"]), Image.Resampling.BICUBIC)


class JanusDataset(Dataset[Item]):
    """A sample for each row of ``hf_ds``, in order. Text is tokenised once, here; images are read when asked for.

    Args:
        hf_ds: canonical rows (:mod:`fedumm.data.columns`) with a column ``task``.
        tasks: what rows may be for.
        context: most tokens that the model can read.
        prompt: words around each question.
        train_all: train on all answers of a question, not on the most common one.

    Raises:
        FedummError: a sample is longer than that.
    """

    def __init__(
        self, hf_ds: Any, processor: Any, tasks: Sequence[str], max_q_len: int, max_a_len: int, context: int,
        *, prompt: str = BARE, train_all: bool = False,
    ) -> None:  # fmt: skip
        prompts, images = Prompts(processor), processor.image_processor
        self.parts: list[Questions | Captions] = []
        self.index: list[tuple[int, int]] = [(0, 0)] * len(hf_ds)
        own = hf_ds["task"][:] if "task" in hf_ds.column_names else [tasks[0]] * len(hf_ds)
        for task in tasks:
            chosen = [row for row, name in enumerate(own) if name == task]
            if not chosen:
                continue
            for place, row in enumerate(chosen):
                self.index[row] = (len(self.parts), place)
            rows = hf_ds if len(chosen) == len(hf_ds) else hf_ds.select(chosen)
            self.parts.append(
                Captions(rows, prompts, images, max_q_len)
                if task == T2I.name
                else Questions(
                    rows, prompts, images, max_q_len, max_a_len, task=task, prompt=prompt, train_all=train_all
                )
            )
        longest = max(length for part in self.parts for length in part.lengths)
        if longest > context:
            raise FedummError(
                f"A sample takes {longest} tokens, {prompts.image_tokens} of them for its image, and the model reads "
                f"{context} at most: lower --max_q_len or --max_a_len, or shorten --prompt."
            )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def tasks(self) -> list[str]:
        """The task of each sample."""
        return [self.parts[part].task for part, _ in self.index]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample, with those of its image; of several answers all that are read."""
        return [self.parts[part].lengths[row] * self.parts[part].copies[row] for part, row in self.index]

    @property
    def cached(self) -> bool:
        """Whether all images come as features or codes."""
        return all(part.features is not None for part in self.parts)

    def part(self, stage: str) -> Questions | Captions | None:
        """The samples that take the output of ``stage``."""
        kind = {FEATURES: Questions, CODES: Captions}[stage]
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def subset(self, rows: Sequence[int]) -> JanusDataset:
        """Some of the samples, in this order; text and features are shared."""
        some = copy.copy(self)
        some.index = [self.index[row] for row in rows]
        return some

    def __getitem__(self, position: int) -> Item:
        part, row = self.index[position]
        return self.parts[part].item(row)


def pad_left(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids ``(len(rows), longest)`` int64 and their mask: 0 where padded, and there ids mean nothing."""
    longest = max(map(len, rows))
    gaps = [longest - len(row) for row in rows]
    ids = torch.tensor([[*[0] * gap, *row] for gap, row in zip(gaps, rows, strict=True)])
    mask = torch.tensor([[*[0] * gap, *[1] * (longest - gap)] for gap in gaps])
    return ids, mask


def collate(batch: list[Item]) -> dict[str, Any]:
    """Samples of one task as a batch: prompts padded on the left, to go on from; training texts on the right.

    Where a question has several answers, ``owner`` says which question each is for, and ``shares`` what it weighs,
    both ``(answers,)``.
    """
    image = "features" if "features" in batch[0] else "pixel_values"
    prompt_ids, prompt_mask = pad_left([item["prompt_ids"] for item in batch])
    joined = {
        "task": batch[0]["task"],
        "types": [item["type"] for item in batch],
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        image: torch.stack([item[image] for item in batch]),
    }
    if joined["task"] == T2I.name:
        return joined | {"without_ids": pad_left([item["without_ids"] for item in batch])[0]}
    owner = [place for place, item in enumerate(batch) for _ in item["labels"]]
    several = {
        "owner": torch.tensor(owner),
        "shares": torch.tensor([share for item in batch for share in item["shares"]]),
    }
    return joined | {
        "input_ids": pad([ids for item in batch for ids in item["input_ids"]], 0),
        "labels": pad([labels for item in batch for labels in item["labels"]], -100),
        "references": [item["references"] for item in batch],
        "choices": [item["choices"] for item in batch],
        "max_a_len": batch[0]["max_a_len"],
        **(several if len(owner) > len(batch) else {}),
    }
