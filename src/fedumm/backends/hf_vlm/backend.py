"""The backend ``hf_vlm``: the protocol's methods for any model of ``AutoModelForImageTextToText``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from fedumm.adapters.lora import with_lora
from fedumm.backends.answers import PLAIN, AnswerOptions
from fedumm.backends.hf_vlm.anatomy import Anatomy, Rest, kinds_of, tower_name
from fedumm.backends.hf_vlm.batch import Item, collate, texts
from fedumm.backends.hf_vlm.dataset import FEATURES, VlmDataset, packed
from fedumm.backends.hf_vlm.load import DEFAULT_MODEL, load_model, load_prompts, place, settle
from fedumm.backends.hf_vlm.probe import Facts, check_gradients, probe
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompt, Prompts, blank, extras
from fedumm.backends.hf_vlm.reader import Reader
from fedumm.backends.hf_vlm.several import Several, probe_several
from fedumm.backends.prompting import BARE, asked, checkpoint_prompt, default_prompt
from fedumm.backends.protocol import FrozenStage, SampleScore, scored
from fedumm.backends.ranking import ballots_for, speak
from fedumm.backends.spelling import Speller, speller_of
from fedumm.backends.weights import DEFAULT_WEIGHTS, WeightOptions, count_parameters, loading_arguments, placed
from fedumm.config.columns import further_images
from fedumm.errors import FedummError
from fedumm.metrics import vqa_score
from fedumm.metrics.registry import AnswerMetric
from fedumm.tasks import I2T, T2I, TASKS, VQA

_VERSION = 2
"""Of what is made of a picture and kept: raised when that changes."""

PLAIN_PROMPT = "Question: {question} Short answer:"
"""What a model without a chat template is asked (Dai et al., 2023, https://arxiv.org/abs/2305.06500)."""

_MAX_ANSWER = 512
"""Most tokens of an answer to a single question."""
Batch = dict[str, Any]


@dataclass
class VlmProcessor:
    """What goes with one model.

    Attributes:
        prompts: of its processor.
        model: of ``transformers``, with LoRA in it but without PEFT around it; None: not loaded.
        facts: what was found by trying; None: not loaded.
        prompt: what the checkpoint says that its model is to be asked; empty if it says nothing.
        context: most tokens that it reads; None: no limit is known.
        several: how it reads several images; None: it was not tried yet.
        sees_alike: whether images' features stay as they are while the adapter is trained.
        notes: what there is to tell the user.
    """

    prompts: Prompts
    model: Any = None
    facts: Facts | None = None
    prompt: str = ""
    context: int | None = None
    several: Several | None = None
    sees_alike: bool = True
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> Facts:
        """The facts of a model that is loaded."""
        assert self.facts is not None, "the model is not loaded"
        return self.facts


@dataclass(frozen=True)
class HfVlmBackend:
    """Any image-text model of ``transformers`` with LoRA (Hu et al., 2021) on its language model.

    Args:
        tasks: what to learn: ``vqa`` or ``i2t``.
        lora_targets: ``attention``, ``all`` or a regular expression for whole names.
        weights: how they are loaded.
        prompt: words around a question; empty: what suits the model.
        metric: score of an answer.
        answers: what is trained on, and how an answer is chosen and written.
    """

    tasks: tuple[str, ...] = (VQA.name,)
    lora_targets: str = "attention"
    weights: WeightOptions = DEFAULT_WEIGHTS
    prompt: str = ""
    metric: AnswerMetric = vqa_score
    answers: AnswerOptions = PLAIN

    name = "hf_vlm"
    loss_is_sample_mean = True
    reads_several_images = True
    default_model = DEFAULT_MODEL

    def for_tasks(self, tasks: Sequence[str], lora_targets: str) -> HfVlmBackend:
        """The same for another task or other layers."""
        if T2I.name in tasks:
            raise FedummError("The backend 'hf_vlm' can answer (--task vqa) and describe (i2t), but draws no images.")
        return replace(self, tasks=tuple(tasks), lora_targets=lora_targets)

    def for_metric(self, metric: AnswerMetric) -> HfVlmBackend:
        """The same with another score of answers."""
        return replace(self, metric=metric)

    def for_answers(self, options: AnswerOptions) -> HfVlmBackend:
        """The same with other answers to train on or to choose from."""
        return replace(self, answers=options)

    def for_weights(self, options: WeightOptions) -> HfVlmBackend:
        """The same with weights loaded in another way."""
        return replace(self, weights=options)

    def for_prompt(self, prompt: str) -> HfVlmBackend:
        """The same with other words around a question."""
        return replace(self, prompt=prompt)

    def load_processor(self, model_name_or_path: str) -> VlmProcessor:
        """The model's processor, without the model."""
        return VlmProcessor(load_prompts(model_name_or_path))

    def speller(self, processor: VlmProcessor) -> Speller:
        """An answer is what the chat template puts into the assistant's turn; of questions only their text counts."""
        prompts = processor.prompts
        return speller_of(
            prompts.tokenizer, prompts.lead, prompts.end_id, self.answers.known, False, prompts.ending, prompts.reserved
        )

    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[torch.nn.Module, VlmProcessor]:
        """A PEFT model around the model, and what goes with it, some of which is found out by trying."""
        prompts, where = load_prompts(model_name_or_path), place(model_name_or_path)
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
        arguments = loading_arguments(
            self.weights, device, lambda: count_parameters(lambda: AutoModelForImageTextToText.from_config(config)),
            _not_in_4bit(config) if self.weights.load_in_4bit else (),
        )  # fmt: skip
        base = placed(load_model(model_name_or_path, **arguments), device, self.weights).eval()
        anatomy = Anatomy(base)
        chosen = anatomy.chosen(self.lora_targets)
        ends = settle(base, prompts)
        random = torch.get_rng_state()
        facts = probe(base, prompts, ends)
        torch.set_rng_state(random)
        model = with_lora(base, lora_r, lora_alpha, lora_dropout, anatomy.expression(chosen))
        model = placed(model, device, self.weights).eval()
        outside = anatomy.outside(chosen)
        notes = [*facts.notes, f"LoRA on {len(chosen)} layers: {', '.join(kinds_of(chosen))}."]
        notes += check_gradients(facts, prompts, model)
        if outside:
            notes.append("Image features are not kept: there is LoRA outside of the language model.")
        model.fedumm_reader = facts.reader
        text = base.config.get_text_config()
        processor = VlmProcessor(
            prompts, base, facts, checkpoint_prompt(base.config), getattr(text, "max_position_embeddings", None),
            sees_alike=not outside,
        )  # fmt: skip
        processor.notes = (*notes, *self.warnings(processor))
        return model, processor

    def _prompt(self, processor: VlmProcessor) -> str:
        own = processor.prompt if processor.prompt or processor.prompts.has_template else PLAIN_PROMPT
        return processor.prompts.check(self.prompt or default_prompt(self.tasks, own), "--prompt")

    def findings(self, processor: VlmProcessor) -> list[str]:
        """Which layers have LoRA, and what the model can't do."""
        return list(processor.notes)

    def warnings(self, processor: VlmProcessor) -> list[str]:
        """That the model's files have no chat template, such as a copy that lost it."""
        if processor.prompts.has_template:
            return []
        whole = asked("QUESTION", self._prompt(processor))
        return [f"No chat template in the model's files: after its picture, it reads {whole!r}."]

    def build_dataset(self, hf_ds: Any, processor: VlmProcessor, max_q_len: int, max_a_len: int) -> VlmDataset:
        """Tokenise all questions and answers; where a row has several images, try how the model reads them."""
        several = _several(processor) if further_images(hf_ds.column_names) else None
        return VlmDataset(
            hf_ds, self.tasks[0], processor.prompts, processor.known, self.speller(processor), self._prompt(processor),
            max_q_len, max_a_len, processor.context, train_all=self.answers.train_all, several=several,
        )  # fmt: skip

    def collate_fn(self, batch: list[Item]) -> Batch:
        """See :func:`fedumm.backends.hf_vlm.batch.collate`."""
        return collate(batch)

    def train_step(self, model: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
        """Mean over samples of the mean negative log-likelihood (nats) of an answer's tokens."""
        reader = reader_of(model)
        if model.training:
            reader.calm()
        images, given = reader.features(batch["images"]), batch["extras"]
        if "owner" in batch:
            owner = batch["owner"].tolist()
            images, given = [images[own] for own in owner], [given[own] for own in owner]
        labels = batch["labels"].to(reader.device)
        losses = reader.losses(batch["inputs"], images, given, labels)
        means = losses.sum(1) / (labels != -100).sum(1)
        if "owner" in batch:
            means = means * batch["shares"].to(means.device)
        loss: torch.Tensor = means.sum() / len(batch["images"])
        return loss

    @torch.inference_mode()
    def _answers(
        self, model: torch.nn.Module, batch: Batch, processor: VlmProcessor, references: Sequence[Sequence[str]]
    ) -> list[str]:
        """The answer to each question of ``batch``; one that is among its ``references`` is written as there."""
        speller, reader = self.speller(processor), reader_of(model)
        read = (batch["prompts"], reader.features(batch["images"]), batch["extras"])
        if self.answers.rank:
            ballots = ballots_for(speller, self.answers.candidates, batch, len(references))
            places = reader.rank(*read, [own.ids for own in ballots])
            return speak(speller, ballots, places, references)
        said = reader.generate(*read, batch["max_a_len"])
        return list(map(speller.say, said, references))

    def score_batch(
        self, model: torch.nn.Module, batch: Batch, processor: VlmProcessor, device: torch.device
    ) -> list[SampleScore]:
        """Score (0..1) of each answer, greedy or ranked, and its answer type."""
        answers = self._answers(model, batch, processor, batch["references"])
        return list(map(partial(scored, self.metric), answers, batch["references"], batch["type"]))

    def evaluate(self, model: torch.nn.Module, dataloader: Any, processor: VlmProcessor, device: torch.device) -> float:
        """Mean score (0..1) of the answers."""
        batches = (self.score_batch(model, batch, processor, device) for batch in dataloader)
        scores = [sample.score for batch in batches for sample in batch]
        return sum(scores) / len(scores)

    def token_bytes(self, model: torch.nn.Module) -> int:
        """Bytes of keys and values that the language model keeps of a token, all layers together."""
        return reader_of(model).token_bytes

    def frozen_stages(self, model: torch.nn.Module, processor: VlmProcessor) -> list[FrozenStage]:
        """The vision part, where its features are handed over, and stay as they are."""
        facts, prompts = processor.known, processor.prompts
        if not (facts.features and facts.composed and processor.sees_alike):
            return []
        config, embeddings = processor.model.config, processor.model.get_input_embeddings().weight
        settings = {
            "version": _VERSION,
            "processor": type(prompts.processor).__name__,
            "images": prompts.processor.image_processor.to_dict(),
            "config": {name: own for name, own in config.to_dict().items() if name != "text_config"},
            # Of few models a picture's features are embeddings of its tokens.
            "embeddings": float(embeddings.detach().double().sum()),
            "prompt": prompts.encode([blank()], QUESTION).ids,
        }
        return [
            FrozenStage(
                FEATURES, Rest(processor.model, tower_name(processor.model)), partial(_encode, facts, prompts),
                json.dumps(settings, sort_keys=True, default=str), one_by_one=True,
            )
        ]  # fmt: skip

    def answer(
        self, model: torch.nn.Module, processor: VlmProcessor, image: Any, question: str, device: torch.device
    ) -> str:
        """The answer to one question about an image, or about each of a list of images.

        Where texts of images were learnt, an empty question asks for such a text.

        Raises:
            FedummError: with its image it is longer than the model reads, or it holds one of its special tokens.
        """
        prompts, writes = processor.prompts, I2T.name in self.tasks
        prompt = BARE if writes and question else self._prompt(processor)
        text = asked(prompts.check(question, "A question"), prompt)
        images = image if isinstance(image, list) else [image]
        if len(images) > 1:
            _several(processor)
        made = prompts.encode([own.convert("RGB") for own in images], text)
        room = _MAX_ANSWER if processor.context is None else processor.context - len(made.ids)
        if room < 1:
            raise FedummError(
                f"The question and its image take {len(made.ids):,} tokens, and the model reads {processor.context:,} "
                "at most, with the answer."
            )
        batch = {
            "prompts": texts([made.ids], [made.types]),
            "images": [made.image],
            "extras": [extras(made, processor.known.reader.accepted)],
            "max_a_len": min(room, _MAX_ANSWER),
        }
        return self._answers(model, batch, processor, [[]])[0]

    def hf_dataset_name(self) -> str:
        """VQA v2 (Goyal et al., 2017), which has no texts of images."""
        if I2T.name in self.tasks:
            raise FedummError("Say which images with texts to learn from: --dataset, a folder, a file or a Hub id.")
        return "vqav2"

    def hf_train_split(self) -> str:
        """Split to train on."""
        return "train"

    def hf_eval_split(self) -> str:
        """Split to evaluate on."""
        return "validation"

    def keep_columns(self) -> list[str]:
        """Columns that the data set reads."""
        return ["image", *TASKS[self.tasks[0]].columns]


def _several(processor: VlmProcessor) -> Several:
    """How the model reads several images, tried once."""
    if processor.several is None:
        processor.several = probe_several(processor.known, processor.prompts)
        if processor.known.composed and not processor.several.composed:
            note = "Several images: features are not kept, since this model reads images together otherwise than alone."
            processor.notes = (*processor.notes, note)
    return processor.several


def reader_of(model: torch.nn.Module) -> Reader:
    """The reader that :meth:`HfVlmBackend.build_model_and_processor` made for ``model``."""
    reader: Reader = model.fedumm_reader  # type: ignore[assignment]
    return reader


@torch.no_grad()
def _encode(facts: Facts, prompts: Prompts, made: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
    vision = facts.reader.vision
    assert vision is not None, "this model takes no features"
    return vision.encode(made.image), packed(prompts, facts, made)


def _not_in_4bit(config: Any) -> list[str]:
    """All linear layers outside of the language tower: small, or what rounding would tell on most."""
    with torch.device("meta"):
        anatomy = Anatomy(AutoModelForImageTextToText.from_config(config))
    head = anatomy.model.get_output_embeddings()
    own = [name for name, module in anatomy.model.named_modules() if module is head]
    return [*anatomy.outside(anatomy.layers), *own]
