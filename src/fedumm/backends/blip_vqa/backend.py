"""The backend ``blip_vqa``: the protocol's methods in terms of BLIP's stages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from fedumm.backends.answers import PLAIN, AnswerOptions
from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.blip_vqa.dataset import BlipVqaDataset, collate
from fedumm.backends.protocol import FrozenStage, SampleScore, scored
from fedumm.backends.ranking import ballots_for, speak
from fedumm.backends.spelling import Speller, speller_of
from fedumm.backends.tensors import pad
from fedumm.backends.weights import DEFAULT_WEIGHTS, WeightOptions, placed
from fedumm.errors import FedummError
from fedumm.metrics import vqa_score
from fedumm.metrics.registry import AnswerMetric
from fedumm.tasks import VQA

_TENSORS = ("input_ids", "attention_mask", "decoder_input_ids", "labels", "owner", "shares")
_MAX_ANSWER = 64
"""Most tokens of an answer to a user's question."""


@dataclass(frozen=True)
class BlipVqaBackend:
    """BLIP with LoRA on its text encoder and decoder.

    Args:
        metric: score of an answer.
        answers: what is trained on, and how an answer is chosen and written.
        weights: how they are loaded.
    """

    metric: AnswerMetric = vqa_score
    answers: AnswerOptions = PLAIN
    weights: WeightOptions = DEFAULT_WEIGHTS

    name = "blip_vqa"
    loss_is_sample_mean = True
    default_model = blip.DEFAULT_MODEL

    def for_metric(self, metric: AnswerMetric) -> BlipVqaBackend:
        """The same with another score of answers."""
        return replace(self, metric=metric)

    def for_answers(self, options: AnswerOptions) -> BlipVqaBackend:
        """The same with other answers to train on or to choose from."""
        return replace(self, answers=options)

    def for_weights(self, options: WeightOptions) -> BlipVqaBackend:
        """The same with weights loaded in another way.

        Raises:
            FedummError: over several GPUs.
        """
        if options.device_map:
            raise FedummError(
                f"--device_map {options.device_map}: the backend {self.name!r} does not support it. Its models fit any "
                "GPU, and each host has one of its own."
            )
        return replace(self, weights=options)

    def load_processor(self, model_name_or_path: str) -> Any:
        """A ``BlipProcessor``."""
        return blip.load_processor(model_name_or_path)

    def speller(self, processor: Any) -> Speller:
        """An answer's tokens are those of its text alone; a question's include its two special ones."""
        tokenizer = processor.tokenizer
        return speller_of(tokenizer, "", tokenizer.sep_token_id, self.answers.known, True)

    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[torch.nn.Module, Any]:
        """A PEFT model around ``BlipForQuestionAnswering``, and its ``BlipProcessor``."""
        base, processor = blip.load_pretrained(model_name_or_path, device, self.weights)
        model = blip.add_lora(base, lora_r, lora_alpha, lora_dropout)
        return placed(model, device, self.weights), processor

    def build_dataset(self, hf_ds: Any, processor: Any, max_q_len: int, max_a_len: int) -> BlipVqaDataset:
        """Tokenise all questions and answers."""
        return BlipVqaDataset(hf_ds, processor, max_q_len, max_a_len, train_all=self.answers.train_all)

    def collate_fn(self, batch: list[dict[str, Any]]) -> dict[str, Any]:
        """See :func:`fedumm.backends.blip_vqa.dataset.collate`."""
        return collate(batch)

    def _image_embeds(self, model: torch.nn.Module, batch: dict[str, Any], device: torch.device) -> torch.Tensor:
        if "image_embeds" in batch:
            embeds: torch.Tensor = batch["image_embeds"].to(device, non_blocking=True)
            return embeds.to(blip.base_of(model).get_input_embeddings().weight.dtype)
        return blip.encode_images(model, batch["pixel_values"].to(device, non_blocking=True))

    def train_step(self, model: torch.nn.Module, batch: dict[str, Any], device: torch.device) -> torch.Tensor:
        """Mean over samples of the answers' negative log-likelihood (nats, summed over tokens, by their shares)."""
        text = {name: batch[name].to(device, non_blocking=True) for name in _TENSORS if name in batch}
        return blip.answer_loss(model, self._image_embeds(model, batch, device), **text)

    def _predict(
        self, model: torch.nn.Module, batch: dict[str, Any], processor: Any, references: Sequence[Sequence[str]]
    ) -> list[str]:
        """The answer to each question of ``batch``; one that is among its ``references`` is written as there."""
        device, speller = next(model.parameters()).device, self.speller(processor)
        read = (
            self._image_embeds(model, batch, device), batch["input_ids"].to(device), batch["attention_mask"].to(device)
        )  # fmt: skip
        if self.answers.rank:
            ballots = ballots_for(speller, self.answers.candidates, batch, len(references))
            return speak(speller, ballots, blip.rank_answers(model, *read, [own.ids for own in ballots]), references)
        tokens = blip.generate_answers(model, *read, batch["max_a_len"]).tolist()
        # The start token is the first, whatever the tokenizer calls it.
        return [speller.say(speller.spoken(row[1:]), own) for row, own in zip(tokens, references, strict=True)]

    def score_batch(
        self, model: torch.nn.Module, batch: dict[str, Any], processor: Any, device: torch.device
    ) -> list[SampleScore]:
        """Score (0..1) of each answer, greedy or ranked, and its answer type."""
        answers = self._predict(model, batch, processor, batch["references"])
        types = batch.get("answer_type", [""] * len(answers))
        return list(map(partial(scored, self.metric), answers, batch["references"], types))

    def evaluate(self, model: torch.nn.Module, dataloader: Any, processor: Any, device: torch.device) -> float:
        """Mean score (0..1) of the answers."""
        batches = (self.score_batch(model, batch, processor, device) for batch in dataloader)
        scores = [sample.score for batch in batches for sample in batch]
        return sum(scores) / len(scores)

    def frozen_stages(self, model: torch.nn.Module, processor: Any) -> list[FrozenStage]:
        """The vision tower."""
        tower, images = blip.base_of(model).vision_model, processor.image_processor
        facts = {"tower": tower.config.to_dict(), "images": images.to_dict()}
        settings = json.dumps(facts, sort_keys=True, default=str)
        return [FrozenStage("vision features", tower, partial(blip.encode_images, model), settings)]

    def answer(self, model: torch.nn.Module, processor: Any, image: Any, question: str, device: torch.device) -> str:
        """The answer to one question.

        Raises:
            FedummError: it is longer than the model reads.
        """
        ids = pad(processor.tokenizer([question], verbose=False).input_ids, 0)
        if ids.shape[1] > (most := blip.base_of(model).config.text_config.max_position_embeddings):
            raise FedummError(f"The question takes {ids.shape[1]:,} tokens, and the model reads {most:,} at most.")
        pixels = processor.image_processor(images=[image.convert("RGB")], return_tensors="pt").pixel_values
        batch = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return self._predict(model, batch | {"max_a_len": _MAX_ANSWER}, processor, [[]])[0]

    def hf_dataset_name(self) -> str:
        """VQA v2 (Goyal et al., 2017)."""
        return "vqav2"

    def hf_train_split(self) -> str:
        """Split to train on."""
        return "train"

    def hf_eval_split(self) -> str:
        """Split to evaluate on."""
        return "validation"

    def keep_columns(self) -> list[str]:
        """Columns that the data set reads."""
        return ["image", *VQA.columns]
