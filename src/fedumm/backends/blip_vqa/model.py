"""BLIP's three stages, called one by one.

``BlipForQuestionAnswering.forward`` and ``.generate`` tie the stages together in
ways that training must not rely on: both let the decoder attend to padded question
tokens, and ``forward`` feeds labels, -100 included, to the decoder. Calling the
stages gives one path for training and generation, and lets the frozen vision tower's
output be computed ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from peft import PeftModel
from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessorPil, BlipProcessor
from transformers.utils import logging

from fedumm.adapters.lora import with_lora
from fedumm.backends.blip_vqa.attention import attend_from_the_query_side, encode_one_token, evaluating
from fedumm.backends.loading import explained
from fedumm.backends.ranking import likeliest
from fedumm.backends.spelling import Ids
from fedumm.backends.tensors import pad
from fedumm.backends.weights import DEFAULT_WEIGHTS, WeightOptions, count_parameters, loading_arguments
from fedumm.checkpoints import resolve_checkpoint
from fedumm.data.hub_access import check_reachable
from fedumm.errors import FedummError
from fedumm.libraries import TESTED

DEFAULT_MODEL = "Salesforce/blip-vqa-base"
_WHAT = "a BLIP VQA model"
_CPU = torch.device("cpu")
_NOT_IN_4BIT = ("vision_model", "text_decoder.cls")
"""The frozen tower, whose features are computed once, and the head."""
LORA_TARGETS = r".*\btext_(encoder|decoder)\..*\.(query|key|value)"


def load_pretrained(
    model_name_or_path: str, device: torch.device = _CPU, options: WeightOptions = DEFAULT_WEIGHTS
) -> tuple[BlipForQuestionAnswering, BlipProcessor]:
    """Model and processor from ``tiny``, a folder or the Hub; the default is blip-vqa-base.

    Raises:
        FedummError: no such folder, no such repository, the Hub is out of reach, or not a BLIP VQA model.
    """
    logging.disable_progress_bar()  # one for a file that loads in a second; downloads keep theirs
    processor = load_processor(model_name_or_path)
    with explained(where := _place(model_name_or_path), _WHAT):
        arguments = loading_arguments(options, device, lambda: _parameters(where), _NOT_IN_4BIT)
        model = BlipForQuestionAnswering.from_pretrained(where, **arguments)
    # The tokenizer of the published checkpoint does not know the decoder's start token.
    processor.decoder_start_token_id = model.decoder_start_token_id
    mask_cross_attention(model)
    if arguments.keys() == {"dtype"} and arguments["dtype"] == torch.float32:
        # Its products take weights as they are, and LoRA's are float32.
        attend_from_the_query_side(model)
    return model, processor


def _parameters(where: str) -> int:
    config = BlipConfig.from_pretrained(where)
    return count_parameters(lambda: BlipForQuestionAnswering(config))


def load_processor(model_name_or_path: str) -> BlipProcessor:
    """Tokenizer and image processor alone.

    Raises:
        FedummError: as :func:`load_pretrained`.
    """
    where = _place(model_name_or_path)
    if not Path(where).is_dir():
        check_reachable("model", where)
    with explained(where, _WHAT):
        processor = BlipProcessor.from_pretrained(where)
        # The same pixels on every machine, whether or not torchvision is there.
        processor.image_processor = BlipImageProcessorPil.from_pretrained(where)
    return processor


def _place(model_name_or_path: str) -> str:
    return resolve_checkpoint("blip_vqa", model_name_or_path or DEFAULT_MODEL)


def mask_cross_attention(model: BlipForQuestionAnswering) -> None:
    """Make cross-attention heed its mask.

    ``transformers`` (seen in 5.20 to 5.24) hands the mask of padded question tokens to BLIP's cross-attention
    as ``attention_mask``, which that looks for under ``encoder_attention_mask``: the answer then
    depends on how far its question was padded. BLIP itself masks.

    Raises:
        FedummError: it still depends on it: ``transformers`` does that in another way by now.
    """

    def rename(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if kwargs.get("encoder_hidden_states") is not None and kwargs.get("encoder_attention_mask") is None:
            kwargs["encoder_attention_mask"] = kwargs.get("attention_mask")
        return args, kwargs

    for name, module in model.named_modules():
        if name.endswith(".crossattention.self"):
            module.register_forward_pre_hook(rename, with_kwargs=True)
    if not _heeds_padding(model):
        raise FedummError(
            f"BLIP's answers depend on how their questions are padded with transformers {transformers.__version__}: "
            f"take the version that this was tested with, pip install transformers=={TESTED['transformers']}"
        )


@torch.no_grad()
def _heeds_padding(model: BlipForQuestionAnswering) -> bool:
    """Whether the decoder says the same of one question token, padded or not."""
    state = encode_one_token(model)
    start, mask = (torch.tensor([row], device=state.device) for row in ([1], [1, 0]))
    with evaluating(model):
        alone = decoder_logits(model, start, state, mask[:, :1])
        padded = decoder_logits(model, start, torch.cat([state, 100 * state], 1), mask)
    rounding = 1e-3 if alone.dtype == torch.float32 else 0.1
    return torch.allclose(alone, padded, rtol=rounding, atol=rounding)


def add_lora(model: BlipForQuestionAnswering, r: int, alpha: int, dropout: float) -> PeftModel:
    """LoRA (Hu et al., 2021) on query, key and value of every attention in both text stacks.

    The rest is frozen. On blip-vqa-base, rank 16 trains 3,538,944 of 364,769,084 parameters.
    """
    return with_lora(model, r, alpha, dropout, LORA_TARGETS)


def base_of(model: torch.nn.Module) -> BlipForQuestionAnswering:
    """The BLIP model itself, with or without PEFT around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@torch.no_grad()
def encode_images(model: torch.nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """Frozen vision tower: ``(batch, 3, side, side)`` -> ``(batch, tokens, width)``.

    Always in evaluation mode: its output is a constant of the image.
    """
    tower = base_of(model).vision_model.eval()
    pixels = pixel_values.to(next(tower.parameters()).dtype)
    features: torch.Tensor = tower(pixel_values=pixels).last_hidden_state
    return features


def encode_question(
    model: torch.nn.Module, image_embeds: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor:
    """Question tokens in the light of the image: ``(batch, question tokens, width)``."""
    encoder = base_of(model).text_encoder
    states: torch.Tensor = encoder(
        input_ids=input_ids, attention_mask=attention_mask, encoder_hidden_states=image_embeds
    ).last_hidden_state
    return states


def decoder_logits(
    model: torch.nn.Module,
    decoder_input_ids: torch.Tensor,
    question: torch.Tensor,
    attention_mask: torch.Tensor,
    last: int = 0,
) -> torch.Tensor:
    """``(batch, n, vocabulary)``: what follows each prefix of ``decoder_input_ids``, given the question.

    Args:
        last: only the longest so many prefixes; 0: all.
    """
    logits: torch.Tensor = (
        base_of(model)
        .text_decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=question,
            encoder_attention_mask=attention_mask,
            use_cache=False,
            logits_to_keep=last,
        )
        .logits
    )
    return logits


def answer_loss(
    model: torch.nn.Module,
    image_embeds: torch.Tensor,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    decoder_input_ids: torch.Tensor,
    labels: torch.Tensor,
    owner: torch.Tensor | None = None,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative log-likelihood of the answers in nats, summed over tokens, averaged over samples.

    Args:
        decoder_input_ids: ``(answers, n)``: the decoder's start token, then the answer.
        labels: ``(answers, n)``: the answer, its end token, then -100. ``labels[:, i]`` is what
            follows ``decoder_input_ids[:, : i + 1]``, so nothing is shifted here.
        owner: ``(answers,)``: the sample that each answer belongs to, which is read once; None: one answer a sample.
        shares: ``(answers,)``: what each weighs; those of one sample add up to 1.

    The sum over tokens is BLIP's own VQA loss; averaging it over samples makes the gradient of a
    batch the weighted mean of the gradients of its parts.
    """
    question = encode_question(model, image_embeds, input_ids, attention_mask)
    if owner is not None:
        question, attention_mask = question[owner], attention_mask[owner]
    logits = decoder_logits(model, decoder_input_ids, question, attention_mask)
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=-100,
        reduction="sum" if shares is None else "none",
        label_smoothing=base_of(model).config.text_config.label_smoothing,
    )
    total = losses if shares is None else (losses.view(labels.shape).sum(1) * shares).sum()
    return total / input_ids.shape[0]


@torch.inference_mode()
def generate_answers(
    model: torch.nn.Module,
    image_embeds: torch.Tensor,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    max_new_tokens: int,
) -> torch.Tensor:
    """Greedy answers as token ids ``(batch, at most 1 + max_new_tokens)``, start token first.

    An answer ends with the end token, followed by padding. Answers are two or three tokens long,
    for which running the decoder over the whole prefix is cheaper than keeping keys and values.
    """
    base = base_of(model)
    text = base.config.text_config
    question = encode_question(model, image_embeds, input_ids, attention_mask)
    tokens = torch.full_like(input_ids[:, :1], base.decoder_start_token_id)
    ended = torch.zeros_like(tokens[:, 0], dtype=torch.bool)
    for _ in range(max_new_tokens):
        logits = decoder_logits(model, tokens, question, attention_mask, last=1)
        chosen = logits[:, -1].argmax(-1).masked_fill(ended, text.pad_token_id)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        ended |= chosen == text.sep_token_id
        if ended.all():
            break
    return tokens


@torch.inference_mode()
def rank_answers(
    model: torch.nn.Module,
    image_embeds: torch.Tensor,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    candidates: Sequence[Sequence[Ids]],
) -> list[int]:
    """The place of the likeliest of each sample's ``candidates``, ids that end with the end token (float32)."""
    question = encode_question(model, image_embeds, input_ids, attention_mask)
    start: int = base_of(model).decoder_start_token_id

    def first(rows: Sequence[int]) -> torch.Tensor:
        starts = torch.full((len(rows), 1), start, device=question.device)
        return decoder_logits(model, starts, question[rows], attention_mask[rows])[:, 0].float().log_softmax(-1)

    def likelihoods(rows: Sequence[int], answers: Sequence[Ids]) -> torch.Tensor:
        inputs = pad([[start, *answer[:-1]] for answer in answers], 0).to(question.device)
        labels = pad(answers, -100).to(question.device)
        logits = decoder_logits(model, inputs, question[rows], attention_mask[rows])
        return -F.cross_entropy(logits.mT.float(), labels, ignore_index=-100, reduction="none").sum(1)

    # Logits, their softmax and what that is made of.
    token_bytes = 3 * 4 * base_of(model).config.text_config.vocab_size
    return likeliest(candidates, first, likelihoods, lambda tokens: tokens * token_bytes)
