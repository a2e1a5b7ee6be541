"""The backend ``januspro``: the protocol's methods in terms of Janus's parts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from PIL import Image

from fedumm.adapters.lora import with_lora
from fedumm.backends.answers import PLAIN, AnswerOptions
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.dataset import CODES, FEATURES, JanusDataset, collate, pad_left
from fedumm.backends.januspro.generate import generate_answers, generate_codes, uniform_numbers
from fedumm.backends.januspro.load import DEFAULT_MODEL, load_pretrained, load_processor
from fedumm.backends.januspro.prompts import LEAD, Prompts
from fedumm.backends.januspro.rank import rank_answers
from fedumm.backends.prompting import BARE, asked, checkpoint_prompt, default_prompt
from fedumm.backends.protocol import FrozenStage, SampleScore, scored
from fedumm.backends.ranking import ballots_for, speak
from fedumm.backends.spelling import Speller, speller_of
from fedumm.backends.weights import DEFAULT_WEIGHTS, WeightOptions, placed
from fedumm.errors import FedummError
from fedumm.metrics import vqa_score
from fedumm.metrics.registry import AnswerMetric
from fedumm.tasks import I2T, T2I, TASKS, VQA

DROP_CAPTION = 0.1
"""Share of captions left out in training, so that guidance has something to push away from."""

_ROOM, _LONGEST = 32, 512
"""Tokens that an answer to a user's question must have room for, and most that it may have."""

_TENSORS = ("input_ids", "labels", "owner", "shares")
Batch = dict[str, Any]


@dataclass(frozen=True)
class JanusProBackend:
    """Janus-Pro (Chen et al., 2025, https://arxiv.org/abs/2501.17811) with LoRA on its language model.

    Answers are scored by a metric, drawing by the cross-entropy of image tokens.

    Args:
        tasks: what to learn: ``vqa``, ``t2i``, both, or ``i2t``.
        lora_targets: ``attention`` or ``all``.
        weights: how they are loaded.
        metric: score of an answer.
        answers: what is trained on, and how an answer is chosen and written.
        prompt: words around a question, or what is asked of an image; empty: what suits the checkpoint and the tasks.
    """

    tasks: tuple[str, ...] = (VQA.name,)
    lora_targets: str = "attention"
    weights: WeightOptions = DEFAULT_WEIGHTS
    metric: AnswerMetric = vqa_score
    answers: AnswerOptions = PLAIN
    prompt: str = ""

    name = "januspro"
    loss_is_sample_mean = True
    default_model = DEFAULT_MODEL

    def for_tasks(self, tasks: Sequence[str], lora_targets: str) -> JanusProBackend:
        """The same for other tasks or layers."""
        if lora_targets not in ("attention", "all"):
            raise FedummError(f"--lora_targets {lora_targets}: the backend 'januspro' takes attention or all.")
        return replace(self, tasks=tuple(tasks), lora_targets=lora_targets)

    def for_metric(self, metric: AnswerMetric) -> JanusProBackend:
        """The same with another score of answers."""
        return replace(self, metric=metric)

    def for_answers(self, options: AnswerOptions) -> JanusProBackend:
        """The same with other answers to train on or to choose from."""
        return replace(self, answers=options)

    def for_prompt(self, prompt: str) -> JanusProBackend:
        """The same with other words around a question."""
        return replace(self, prompt=prompt)

    def _prompt(self, processor: Any) -> str:
        return self.prompt or default_prompt(self.tasks, processor.own_prompt)

    def load_processor(self, model_name_or_path: str) -> Any:
        """A ``JanusProcessor``."""
        return load_processor(model_name_or_path)

    def speller(self, processor: Any) -> Speller:
        """An answer follows a space; of questions and captions only their own text counts."""
        tokenizer = processor.tokenizer
        return speller_of(tokenizer, LEAD, tokenizer.eos_token_id, self.answers.known, False)

    def for_weights(self, options: WeightOptions) -> JanusProBackend:
        """The same with weights loaded in another way."""
        return replace(self, weights=options)

    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[torch.nn.Module, Any]:
        """A PEFT model around ``JanusForConditionalGeneration``, and its ``JanusProcessor``."""
        base, processor = load_pretrained(model_name_or_path, device, self.weights)
        processor.context = base.config.text_config.max_position_embeddings
        processor.own_prompt = checkpoint_prompt(base.config)
        targets = janus.lora_targets(self.lora_targets == "all", T2I.name in self.tasks)
        model = with_lora(base, lora_r, lora_alpha, lora_dropout, targets)
        return placed(model, device, self.weights), processor

    def build_dataset(self, hf_ds: Any, processor: Any, max_q_len: int, max_a_len: int) -> JanusDataset:
        """Tokenise all questions, answers and captions."""
        return JanusDataset(
            hf_ds,
            processor,
            self.tasks,
            max_q_len,
            max_a_len,
            processor.context,
            prompt=self._prompt(processor),
            train_all=self.answers.train_all,
        )

    def collate_fn(self, batch: list[dict[str, Any]]) -> Batch:
        """See :func:`fedumm.backends.januspro.dataset.collate`."""
        return collate(batch)

    def _image(self, model: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
        """What the frozen stage of the batch's task makes of the images, made now if it is not there."""
        draws = batch["task"] == T2I.name
        encode = janus.encode_for_generation if draws else janus.encode_for_understanding
        if "features" in batch:
            made: torch.Tensor = batch["features"].to(device, non_blocking=True)
        else:
            made = encode(model, batch["pixel_values"].to(device, non_blocking=True))
        return made.long() if draws else made.to(janus.base_of(model).get_input_embeddings().weight.dtype)

    def train_step(self, model: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
        """Mean over samples of the mean negative log-likelihood (nats) of an answer's or an image's tokens."""
        image = self._image(model, batch, device)
        if batch["task"] != T2I.name:
            text = {name: batch[name].to(device) for name in _TENSORS if name in batch}
            return janus.answer_loss(model, image_embeds=image, **text)
        dropped = (torch.rand(len(image)) < DROP_CAPTION).to(batch["prompt_ids"].device)
        ids = torch.where(dropped[:, None], batch["without_ids"], batch["prompt_ids"])
        return janus.image_losses(model, ids.to(device), batch["prompt_mask"].to(device), image).mean()

    @torch.inference_mode()
    def score_batch(
        self, model: torch.nn.Module, batch: Batch, processor: Any, device: torch.device
    ) -> list[SampleScore]:
        """Of an answer or a text its scores; of a caption its image's nats a token, and the part saved of a guess's."""
        ids, mask = batch["prompt_ids"].to(device), batch["prompt_mask"].to(device)
        image = self._image(model, batch, device)
        if batch["task"] != T2I.name:
            said = self._answers(model, batch, processor, image, batch["references"])
            return list(map(partial(scored, self.metric), said, batch["references"], batch["types"]))
        nats, codes = janus.image_losses(model, ids, mask, image).tolist(), janus.codebook_size(model)
        # Twice the surprise of a guess is as bad as any: the server takes no score below.
        shares = [max(-1.0, 1 - n / math.log(codes)) for n in nats]
        return list(map(SampleScore, shares, batch["types"], nats))

    def evaluate(self, model: torch.nn.Module, dataloader: Any, processor: Any, device: torch.device) -> float:
        """The mean of all samples' scores."""
        batches = (self.score_batch(model, batch, processor, device) for batch in dataloader)
        scores = [sample.score for batch in batches for sample in batch]
        return sum(scores) / len(scores)

    def token_bytes(self, model: torch.nn.Module) -> int:
        """See :func:`fedumm.backends.januspro.model.token_bytes`."""
        return janus.token_bytes(model)

    def frozen_stages(self, model: torch.nn.Module, processor: Any) -> list[FrozenStage]:
        """Tower and aligner, to understand with; the VQ-VAE's encoder, for what is to be drawn."""
        parts, images = janus.base_of(model).model, processor.image_processor
        config = janus.base_of(model).config
        settings = {"images": images.to_dict(), "vision": config.vision_config.to_dict()}
        seeing = FrozenStage(
            FEATURES,
            torch.nn.ModuleList([parts.vision_model, parts.aligner]),
            partial(janus.encode_for_understanding, model),
            json.dumps(settings, sort_keys=True, default=str),
        )
        settings = {"images": images.to_dict(), "crop": "centre", "vq": config.vq_config.to_dict(), "in": "float32"}
        drawing = FrozenStage(
            CODES,
            parts.vqmodel,
            partial(janus.encode_for_generation, model),
            json.dumps(settings, sort_keys=True, default=str),
            torch.int32,
        )
        return [seeing] * (self.tasks != (T2I.name,)) + [drawing] * (T2I.name in self.tasks)

    @torch.inference_mode()
    def answer(self, model: torch.nn.Module, processor: Any, image: Any, question: str, device: torch.device) -> str:
        """The answer to one question; where texts of images were learnt, an empty one asks for such a text.

        Raises:
            FedummError: with its image it is longer than the model reads.
        """
        prompts, writes = Prompts(processor), I2T.name in self.tasks
        words = asked(question, BARE if writes and question else self._prompt(processor))
        prompt = prompts.with_image(prompts.question(words))
        if len(prompt) + _ROOM > processor.context:
            raise FedummError(
                f"The question, its image and an answer take {len(prompt) + _ROOM:,} tokens, and the model reads "
                f"{processor.context:,} at most."
            )
        most = min(_LONGEST, processor.context - len(prompt))
        pixels = processor.image_processor(images=[image.convert("RGB")], return_tensors="pt").pixel_values
        features = self._image(model, {"task": VQA.name, "pixel_values": pixels}, device)
        ids, mask = pad_left([prompt])
        batch = {"prompt_ids": ids, "prompt_mask": mask, "max_a_len": most}
        return self._answers(model, batch, processor, features, [[]])[0]

    def _answers(
        self,
        model: torch.nn.Module,
        batch: Batch,
        processor: Any,
        image: torch.Tensor,
        references: Sequence[Sequence[str]],
    ) -> list[str]:
        """The answer to each question of ``batch``; one that is among its ``references`` is written as there."""
        speller, device = self.speller(processor), image.device
        read = (batch["prompt_ids"].to(device), batch["prompt_mask"].to(device), image)
        if self.answers.rank:
            ballots = ballots_for(speller, self.answers.candidates, batch, len(references))
            return speak(speller, ballots, rank_answers(model, *read, [own.ids for own in ballots]), references)
        said = generate_answers(model, *read, speller.end_id, batch["max_a_len"])
        return list(map(speller.say, said, references))

    def drawn_tokens(
        self, model: torch.nn.Module, processor: Any, captions: Sequence[str], guidance: float | None
    ) -> list[int]:
        """Prompt and image, both twice where guidance compares them with the same without the caption."""
        prompts, times = Prompts(processor), 1 if _guidance(model, guidance) == 1 else 2
        return [times * (len(prompts.caption(caption)) + prompts.image_tokens) for caption in captions]

    @torch.inference_mode()
    def draw(
        self,
        model: torch.nn.Module,
        processor: Any,
        captions: Sequence[str],
        seeds: Sequence[int],
        device: torch.device,
        *,
        guidance: float | None = None,
        temperature: float = 1.0,
    ) -> list[Image.Image]:
        """An image a caption, sampled token by token with classifier-free guidance.

        By default its strength is that of the checkpoint's ``generation_config.json``, or 5.
        """
        prompts = Prompts(processor)
        if any(not caption.strip() for caption in captions):
            raise FedummError("An empty caption says nothing to draw.")
        texts = [prompts.caption(caption) for caption in captions]
        longest = max(map(len, texts)) + prompts.image_tokens
        if longest > processor.context:
            raise FedummError(
                f"A caption and its image take {longest} tokens, and the model reads {processor.context} at most: "
                "shorten the caption."
            )
        ids, mask = pad_left(texts)
        without, _ = pad_left([prompts.unconditional(text) for text in texts])
        codes = generate_codes(
            model,
            (ids.to(device), mask.to(device)),
            without.to(device),
            prompts.image_tokens,
            uniform_numbers(seeds, prompts.image_tokens),
            _guidance(model, guidance),
            temperature,
        )
        return janus.to_images(janus.decode_codes(model, codes), processor.image_processor)

    def hf_dataset_name(self) -> str:
        """VQA v2 (Goyal et al., 2017), which has no captions."""
        if self.tasks != (VQA.name,):
            raise FedummError(
                "Say which captioned images to learn from: --dataset shapes, easy_vqa, a folder or a Hub id."
            )
        return "vqav2"

    def hf_train_split(self) -> str:
        """Split to train on."""
        return "train"

    def hf_eval_split(self) -> str:
        """Split to evaluate on."""
        return "validation"

    def keep_columns(self) -> list[str]:
        """Columns that the data set reads."""
        return ["image", *(column for task in self.tasks for column in TASKS[task].columns)]


def _guidance(model: torch.nn.Module, given: float | None) -> float:
    return float(janus.base_of(model).generation_config.guidance_scale or 5.0) if given is None else given
