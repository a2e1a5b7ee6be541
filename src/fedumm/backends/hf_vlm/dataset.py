"""Questions, answers and images as an image-text model takes them in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from fedumm.backends.answers import answer_shares
from fedumm.backends.hf_vlm.batch import Item
from fedumm.backends.hf_vlm.probe import Facts
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompt, Prompts, extras, joined
from fedumm.backends.hf_vlm.several import Several, together
from fedumm.backends.prompting import asked
from fedumm.backends.spelling import Speller
from fedumm.data import read_image
from fedumm.data.each_picture import each_picture
from fedumm.errors import FedummError
from fedumm.tasks import I2T, VQA

if TYPE_CHECKING:
    from fedumm.backends.feature_table import FeatureTable

FEATURES = "vision features"
"""Name of the frozen stage."""


class VlmDataset(Dataset[Item]):
    """One item per question, or per text of an image. Text is tokenised once, here; images are read when asked for.

    Args:
        hf_ds: rows with ``image`` (and ``image_2`` ...), and either ``question``, ``multiple_choice_answer``,
            ``answers`` or ``text`` and ``texts``; optionally ``answer_type`` and ``choices``.
        task: ``vqa`` or ``i2t``.
        prompts: of the model's processor.
        facts: what is known of the model.
        several: how it reads several images; None: no row has more than one.
        speller: answers as tokens.
        prompt: ``--prompt``.
        max_q_len, max_a_len: most tokens of a question's own text, and of an answer with its end token.
        context: most tokens that the model reads; None: no limit is known.
        train_all: train on all answers of a question, not on the most common one.

    Raises:
        FedummError: a text holds a special token of the model.
    """

    def __init__(
        self, hf_ds: Any, task: str, prompts: Prompts, facts: Facts, speller: Speller, prompt: str, max_q_len: int,
        max_a_len: int, context: int | None, *, train_all: bool = False, several: Several | None = None,
    ) -> None:  # fmt: skip
        pictures = each_picture(hf_ds)
        self.rows, self.pictures = pictures.rows, pictures.of_rows()
        self.task, self.prompts, self.facts, self.several = task, prompts, facts, several
        asks = task == VQA.name
        common, everyone = ("multiple_choice_answer", "answers") if asks else I2T.columns
        self.features: FeatureTable | None = None
        self.max_a_len, self.context = max_a_len, context
        given: list[str] = hf_ds["question"][:] if asks else [""] * len(hf_ds)
        texts = [prompts.cut(prompts.check(text, "A question"), max_q_len) for text in given]
        self.questions = [asked(text, prompt) for text in texts]
        composed = facts.composed if several is None else several.composed
        self.texts = list(map(prompts.question, self.questions)) if composed else None
        best = hf_ds[common][:]
        self.references: list[list[str]] = hf_ds[everyone][:]
        own = map(answer_shares, self.references, best) if train_all else ({text: 1.0} for text in best)
        self.shares = [self._tokens(speller, shares) for shares in own]
        longest = max((len(own.ids) for own in self.texts or ()), default=0)
        if context is not None and longest + max_a_len >= context:
            raise FedummError(
                f"A question and an answer take up to {longest + max_a_len:,} tokens without their image, and the "
                f"model reads {context:,} at most: lower --max_q_len or --max_a_len."
            )
        columns = hf_ds.column_names
        self.types: list[str] = hf_ds["answer_type"][:] if "answer_type" in columns else [""] * len(best)
        self.choices = hf_ds["choices"][:] if "choices" in columns else [None] * len(best)
        self.index: Sequence[int] = range(len(best))

    def _tokens(self, speller: Speller, shares: dict[str, float]) -> dict[tuple[int, ...], float]:
        """Shares by tokens; answers with the same ones are one."""
        joint: dict[tuple[int, ...], float] = {}
        for text, share in shares.items():
            (ids,) = speller.encode([self.prompts.check(text, "An answer")])
            answer = self.prompts.answer(ids, self.max_a_len)
            joint[answer] = joint.get(answer, 0.0) + share
        return joint

    def __len__(self) -> int:
        return len(self.index)

    @property
    def tasks(self) -> list[str]:
        """The task of each sample."""
        return [self.task] * len(self.index)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample, with those of a picture of ordinary size; of several answers all.

        Not those of its own picture, which are known only where features are kept: batches would be others there.
        """
        return [self._length(row) for row in self.index]

    def _length(self, row: int) -> int:
        text = len(self.texts[row].ids) if self.texts is not None else len(self.questions[row])
        answers = self.shares[row]
        return (self.facts.tokens * len(self.pictures[row]) + text + max(map(len, answers)) - 1) * len(answers)

    @property
    def cached(self) -> bool:
        """Whether images come as features."""
        return self.features is not None

    def part(self, stage: str) -> VlmDataset | None:
        """All samples take the features of the one stage, or none does."""
        return None if self.texts is None else self

    def subset(self, rows: Sequence[int]) -> VlmDataset:
        """Some of the items, in this order; text and features are shared."""
        some = copy.copy(self)
        some.index = [self.index[row] for row in rows]
        return some

    def pixels(self, rows: Sequence[int]) -> Prompt:
        """What the frozen stage takes of one of the pictures: it with a stand-in for the question."""
        (row,) = rows
        return self.prompts.encode([read_image(self.rows, row)], QUESTION)

    def _prompt(self, row: int) -> tuple[Prompt, Any, dict[str, torch.Tensor]]:
        """The prompt of one row, its images (features, or what is encoded when it is needed), and facts about them."""
        own, accepted = self.pictures[row], self.facts.reader.accepted
        if self.texts is None:
            whole = self._whole(row)
            return whole, whole.image, extras(whole, accepted)
        if self.features is not None:
            kept = [unpacked(self.features.beside(picture), self.facts) for picture in own]
            features = [self.features.of(picture) for picture in own]
            prompt = joined(self._joined([part for part, _ in kept]), self.texts[row])
            return prompt, features[0] if len(own) == 1 else torch.cat(features), together([facts for _, facts in kept])
        made = [self.pixels([picture]) for picture in own]
        parts = [part for image in made if (part := self.prompts.image_part(image)) is not None]
        prompt = joined(self._joined(parts), self.texts[row]) if len(parts) == len(own) else self._whole(row)
        images = [image.image for image in made]
        return prompt, images[0] if len(own) == 1 else images, together([extras(image, accepted) for image in made])

    def _whole(self, row: int) -> Prompt:
        images = [read_image(self.rows, picture) for picture in self.pictures[row]]
        return self.prompts.encode(images, self.questions[row])

    def _joined(self, parts: Sequence[Prompt]) -> Prompt:
        return parts[0] if self.several is None else self.several.joined(parts)

    def __getitem__(self, position: int) -> Item:
        row = self.index[position]
        prompt, image, given = self._prompt(row)
        longest = len(prompt.ids) + max(self.max_a_len, max(map(len, self.shares[row])))
        if self.context is not None and longest > self.context:
            raise FedummError(
                f"A sample and an answer take {longest:,} tokens, and the model reads {self.context:,} at most: lower "
                f"--max_q_len or --max_a_len, or give smaller images. The question: {self.questions[row][:200]!r}."
            )
        return {
            "task": self.task,
            "ids": prompt.ids,
            "types": prompt.types,
            "answer_types": self.facts.reader.answer_types,
            "images": image,
            "extras": given,
            "answers": list(self.shares[row]),
            "shares": list(self.shares[row].values()),
            "references": self.references[row],
            "type": self.types[row],
            "choices": self.choices[row],
            "max_a_len": self.max_a_len,
        }


def packed(prompts: Prompts, facts: Facts, made: Prompt) -> torch.Tensor:
    """All numbers that go with an image's features, ``(count,)`` int64: its tokens, their types, its extras."""
    image, given = prompts.image_part(made), extras(made, facts.reader.accepted)
    if image is None:
        raise FedummError(
            "What follows an image in a prompt of this model differs from image to image, so that features can't be "
            "kept: set --feature_cache off."
        )
    numbers = [len(image.ids), *image.ids]
    for name in facts.reader.answer_types:
        numbers += image.types[name]
    for name in facts.extras:
        numbers += [given[name].dim(), *given[name].shape, *given[name].flatten().tolist()]
    return torch.tensor(numbers, dtype=torch.int64)


def unpacked(numbers: torch.Tensor, facts: Facts) -> tuple[Prompt, dict[str, torch.Tensor]]:
    """What :func:`packed` was given: the tokens of an image, and its extras."""
    rest = iter(numbers.tolist())

    def take(count: int) -> tuple[int, ...]:
        return tuple(next(rest) for _ in range(count))

    (count,) = take(1)
    ids = take(count)
    types = {name: take(count) for name in facts.reader.answer_types}
    given = {}
    for name in facts.extras:
        shape = take(take(1)[0])
        given[name] = torch.tensor(take(torch.Size(shape).numel()), dtype=torch.int64).view(shape)
    return Prompt(ids, types), given
