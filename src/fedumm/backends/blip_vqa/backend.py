"""The backend ``blip_vqa``: the protocol's methods in terms of BLIP's stages."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import torch

from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.blip_vqa.dataset import BlipVqaDataset, collate, pad
from fedumm.backends.protocol import FrozenStage, SampleScore
from fedumm.errors import FedummError
from fedumm.metrics import vqa_score
from fedumm.metrics.registry import AnswerMetric
from fedumm.tasks import VQA

_TENSORS = ("input_ids", "attention_mask", "decoder_input_ids", "labels")
_MAX_ANSWER = 16


class BlipVqaBackend:
    """BLIP with LoRA on its text encoder and decoder; answers are scored by ``metric``, the VQA v2 accuracy."""

    name = "blip_vqa"
    loss_is_sample_mean = True
    default_model = blip.DEFAULT_MODEL

    def __init__(self, metric: AnswerMetric = vqa_score) -> None:
        self.metric = metric

    def for_metric(self, metric: AnswerMetric) -> BlipVqaBackend:
        """The same with another score of answers."""
        return BlipVqaBackend(metric)

    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[torch.nn.Module, Any]:
        """A PEFT model around ``BlipForQuestionAnswering`` (float32), and its ``BlipProcessor``."""
        base, processor = blip.load_pretrained(model_name_or_path)
        # The tokenizer of the published checkpoint does not know the decoder's start token.
        processor.decoder_start_token_id = base.decoder_start_token_id
        return blip.add_lora(base, lora_r, lora_alpha, lora_dropout).to(device), processor

    def build_dataset(self, hf_ds: Any, processor: Any, max_q_len: int, max_a_len: int) -> BlipVqaDataset:
        """Tokenise all questions and answers."""
        return BlipVqaDataset(hf_ds, processor, max_q_len, max_a_len)

    def collate_fn(self, batch: list[dict[str, Any]]) -> dict[str, Any]:
        """See :func:`fedumm.backends.blip_vqa.dataset.collate`."""
        return collate(batch)

    def _image_embeds(self, model: torch.nn.Module, batch: dict[str, Any], device: torch.device) -> torch.Tensor:
        if "image_embeds" in batch:
            embeds: torch.Tensor = batch["image_embeds"].to(device, non_blocking=True)
            return embeds.float()
        return blip.encode_images(model, batch["pixel_values"].to(device, non_blocking=True))

    def train_step(self, model: torch.nn.Module, batch: dict[str, Any], device: torch.device) -> torch.Tensor:
        """Mean over samples of the answers' negative log-likelihood (nats, summed over tokens)."""
        text = {name: batch[name].to(device, non_blocking=True) for name in _TENSORS}
        return blip.answer_loss(model, self._image_embeds(model, batch, device), **text)

    def _predict(self, model: torch.nn.Module, batch: dict[str, Any], processor: Any, max_a_len: int) -> list[str]:
        device = next(model.parameters()).device
        tokens = blip.generate_answers(
            model,
            self._image_embeds(model, batch, device),
            batch["input_ids"].to(device),
            batch["attention_mask"].to(device),
            max_a_len,
        )
        decoded: list[str] = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [answer.strip() for answer in decoded]

    def score_batch(
        self, model: torch.nn.Module, batch: dict[str, Any], processor: Any, device: torch.device
    ) -> list[SampleScore]:
        """VQA score (0..1) of each greedy answer, and its answer type."""
        answers = self._predict(model, batch, processor, batch["max_a_len"])
        types = batch.get("answer_type", [""] * len(answers))
        return list(map(SampleScore, map(self.metric, answers, batch["references"]), types))

    def evaluate(self, model: torch.nn.Module, dataloader: Any, processor: Any, device: torch.device) -> float:
        """VQA accuracy (0..1) of greedy answers."""
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
        """Greedy answer to one question.

        Raises:
            FedummError: it is longer than the model reads.
        """
        ids = pad(processor.tokenizer([question], verbose=False).input_ids, 0)
        if ids.shape[1] > (most := blip.base_of(model).config.text_config.max_position_embeddings):
            raise FedummError(f"The question takes {ids.shape[1]:,} tokens, and the model reads {most:,} at most.")
        pixels = processor.image_processor(images=[image.convert("RGB")], return_tensors="pt").pixel_values
        batch = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return self._predict(model, batch, processor, _MAX_ANSWER)[0]

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
