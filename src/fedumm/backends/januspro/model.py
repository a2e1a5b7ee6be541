"""Janus's parts, called one by one: understanding tower, language model, image tokens.

The library's ``forward`` has a loss for text only, and computes the vocabulary's logits at every
position. Calling the parts gives both losses, and logits only where something is to be said.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from PIL import Image
from transformers import JanusForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fedumm.backends.januspro.logits import cross_entropies
from fedumm.precision import full_float32

_ATTENTION = "q_proj|k_proj|v_proj"
_LANGUAGE = r".*\blanguage_model\..*\.({})"
_GENERATION = r"|.*\bgeneration_aligner\.(fc1|hidden_layers\.\d+)|.*\bgeneration_head\.(proj_out|vision_head)"


def lora_targets(wide: bool, draws: bool) -> str:
    """Which layers get LoRA, as a pattern on their full names (the vision tower has a ``q_proj`` too).

    On Janus-Pro-1B, query, key and value of the language model at rank 16 are 4,718,592 parameters.

    Args:
        wide: not only query, key and value, but all layers of the language model, and, if the model is
            to be trained to draw (``draws``), the generation aligner and head.
    """
    if not wide:
        return _LANGUAGE.format(_ATTENTION)
    return _LANGUAGE.format(f"{_ATTENTION}|o_proj|gate_proj|up_proj|down_proj") + (_GENERATION if draws else "")


def base_of(model: torch.nn.Module) -> JanusForConditionalGeneration:
    """The Janus model itself, with or without PEFT around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@torch.no_grad()
def encode_for_understanding(model: torch.nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """Frozen tower and aligner: ``(batch, 3, side, side)`` -> ``(batch, image tokens, width)``."""
    janus = base_of(model).model
    pixels = pixel_values.to(janus.aligner.fc1.weight.dtype)
    features: torch.Tensor = janus.get_image_features(pixels, return_dict=True).pooler_output
    return features


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def encode_for_generation(model: torch.nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """Frozen VQ-VAE: ``(batch, 3, side, side)`` -> codes ``(batch, image tokens)``, row by row, int32.

    In float32 throughout, whatever the rest of the model is in: these are what is to be learnt.

    The nearest code is the one of the smallest angle: Janus normalises both sides to unit length (van den
    Oord et al., 2017, with Yu et al., 2021), which the library's ``encode`` leaves out.
    """
    vq = base_of(model).model.vqmodel
    with full_float32(pixel_values.device):
        latents = vq.quant_conv(vq.encoder(pixel_values.float()))
        codebook = F.normalize(vq.quantize.embedding.weight, dim=-1)
        # The length of a latent does not change which code is nearest.
        nearest = torch.einsum("bdhw,nd->bhwn", latents, codebook).argmax(-1)
    return nearest.flatten(1).to(torch.int32)


@torch.no_grad()
def decode_codes(model: torch.nn.Module, codes: torch.Tensor) -> torch.Tensor:
    """Frozen VQ-VAE: codes ``(batch, image tokens)`` -> pixels ``(batch, 3, side, side)``, float32, about -1..1."""
    with full_float32(codes.device):
        pixels: torch.Tensor = base_of(model).model.vqmodel.decode(codes.long())
    return pixels


def codebook_size(model: torch.nn.Module) -> int:
    """How many codes there are."""
    return int(base_of(model).config.vq_config.num_embeddings)


def token_bytes(model: torch.nn.Module) -> int:
    """Bytes of keys and values that the language model keeps of a token, all layers together."""
    base = base_of(model)
    text = base.config.text_config
    numbers: int = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    return numbers * base.get_input_embeddings().weight.element_size()  # type: ignore[no-any-return]


def to_images(pixels: torch.Tensor, processor: Any) -> list[Image.Image]:
    """Undo the image processor's normalisation: ``(batch, 3, height, width)`` -> RGB images."""
    mean, std = (
        torch.tensor(v, device=pixels.device)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    levels = ((pixels * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(one.permute(1, 2, 0).cpu().numpy()) for one in levels]


def question_states(
    model: torch.nn.Module, input_ids: torch.Tensor, image_embeds: torch.Tensor, **options: Any
) -> torch.Tensor:
    """Last hidden states ``(batch, length, width)``.

    Args:
        input_ids: ``(batch, length)``, with placeholders for the image's tokens.
        image_embeds: ``(batch, image tokens, width)``, from :func:`encode_for_understanding`.
    """
    features = BaseModelOutputWithPooling(pooler_output=image_embeds)
    output = base_of(model).model(input_ids=input_ids, mm_encoder_outputs={"image": features}, **options)
    states: torch.Tensor = output.last_hidden_state
    return states


def answer_loss(
    model: torch.nn.Module,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    image_embeds: torch.Tensor,
    owner: torch.Tensor | None = None,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative log-likelihood of the answers in nats a token: mean over an answer's tokens, then over samples.

    Args:
        input_ids: ``(answers, length)``: prompt and answer, padded on the right.
        labels: ``(answers, length)``: what follows each position where an answer's token does, else -100.
        image_embeds: ``(batch, image tokens, width)``.
        owner: ``(answers,)``: the sample that each answer belongs to; None: one answer a sample.
        shares: ``(answers,)``: what each weighs; those of one sample add up to 1.

    Padding on the right needs no mask: no token attends to what follows it.
    """
    seen = image_embeds if owner is None else image_embeds[owner]
    states = question_states(model, input_ids, seen, use_cache=False)
    said = labels != -100
    base = base_of(model)
    losses = cross_entropies(base.lm_head, states[said], labels[said], base.config.text_config.vocab_size)
    lengths = said.sum(1)
    means = losses / lengths.repeat_interleave(lengths)
    if shares is not None:
        means = means * shares.repeat_interleave(lengths)
    return means.sum() / len(image_embeds)


def image_inputs(model: torch.nn.Module, input_ids: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """A caption's prompt and image tokens as embeddings ``(batch, prompt + tokens, width)``."""
    base = base_of(model)
    prompt = base.get_input_embeddings()(input_ids)
    return torch.cat([prompt, base.prepare_embeddings_for_image_generation(codes).to(prompt.dtype)], 1)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Place of each token in its own text, ``(batch, length)`` int64: what is masked on the left does not count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def image_losses(
    model: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, codes: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each image's codes in nats a code, ``(batch,)``.

    Args:
        input_ids: ``(batch, prompt)``: prompts that end with the begin-of-image token, padded on the left.
        attention_mask: ``(batch, prompt)``, 0 where padded.
        codes: ``(batch, image tokens)`` int64.

    The begin-of-image token predicts code 0, and each code the next one.
    """
    base = base_of(model)
    embeds = image_inputs(model, input_ids, codes[:, :-1])
    mask = F.pad(attention_mask, (0, codes.shape[1] - 1), value=1)
    states = base.model.language_model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions(mask), use_cache=False
    ).last_hidden_state
    states = states[:, -codes.shape[1] :]
    return cross_entropies(base.model.generation_head, states, codes, codebook_size(model)).mean(1)
