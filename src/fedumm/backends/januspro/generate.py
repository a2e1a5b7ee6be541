"""Answers and images, a token at a time."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from fedumm.backends.januspro.model import base_of, image_inputs, positions, question_states


@torch.inference_mode()
def generate_answers(
    model: torch.nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    image_embeds: torch.Tensor,
    eos_id: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """Greedy answers as token ids, without the end token.

    Args:
        input_ids: ``(batch, length)``: questions' prompts, padded on the left.
        attention_mask: ``(batch, length)``, 0 where padded.
        image_embeds: ``(batch, image tokens, width)``.
    """
    base = base_of(model)
    cache = DynamicCache(config=base.config.text_config)
    states = question_states(
        model, input_ids, image_embeds, attention_mask=attention_mask,
        position_ids=positions(attention_mask), **kept_in(cache, base.model),
    )  # fmt: skip
    answers: list[list[int]] = [[] for _ in input_ids]
    running, mask = [True] * len(answers), attention_mask
    for step in range(max_new_tokens):
        chosen = base.lm_head(states[:, -1]).argmax(-1)
        for row, token in enumerate(chosen.tolist()):
            running[row] = running[row] and token != eos_id
            if running[row]:
                answers[row].append(token)
        if step + 1 == max_new_tokens or not any(running):
            break
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        states = base.model.language_model(
            input_ids=chosen[:, None], attention_mask=mask, position_ids=positions(mask)[:, -1:],
            **kept_in(cache, base.model.language_model),
        ).last_hidden_state  # fmt: skip
    return answers


@torch.inference_mode()
def generate_codes(
    model: torch.nn.Module,
    conditional: tuple[torch.Tensor, torch.Tensor],
    unconditional: torch.Tensor,
    count: int,
    draws: torch.Tensor | None,
    guidance: float,
    temperature: float,
) -> torch.Tensor:
    """Image tokens ``(batch, count)``, int64.

    Logits are those of classifier-free guidance (Ho & Salimans, 2022), ``u + guidance * (c - u)``, with c
    given the caption and u without.

    Args:
        conditional: ids ``(batch, prompt)`` padded on the left, and their mask.
        unconditional: the same ids with the caption replaced by padding tokens.
        draws: ``(batch, count)``, uniform in [0, 1): the k-th token is where the distribution function passes
            ``draws[:, k]``. So an image depends on its own numbers, not on what shares its batch (to
            rounding). None: the likeliest token each time.
        guidance: 1 leaves guidance out, and saves half of the work.
        temperature: divides the logits.
    """
    base = base_of(model)
    ids, mask = conditional
    guided = guidance != 1
    if guided:
        ids, mask = torch.cat([ids, unconditional]), mask.repeat(2, 1)
    embeds = base.get_input_embeddings()(ids)
    cache, codes = DynamicCache(config=base.config.text_config), []
    for step in range(count):
        states = base.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions(mask)[:, -embeds.shape[1] :],
            **kept_in(cache, base.model.language_model),
        ).last_hidden_state  # fmt: skip
        logits = base.model.generation_head(states[:, -1]).float()
        if guided:
            with_caption, without = logits.chunk(2)
            logits = without + guidance * (with_caption - without)
        chosen = logits.argmax(-1) if draws is None else _draw(logits / temperature, draws[:, step])
        codes.append(chosen)
        fed = chosen.repeat(2) if guided else chosen
        embeds = image_inputs(model, ids[:, :0], fed[:, None])
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return torch.stack(codes, 1)


def kept_in(cache: DynamicCache, module: torch.nn.Module) -> dict[str, Any]:
    """Arguments that make ``module`` keep keys and values in ``cache``: called so since transformers 5.24, and
    ``past_key_values`` before."""
    name = "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def _draw(logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Sample from softmax(``logits``) by inversion; in float64, so that rare tokens keep their share."""
    passed = logits.double().softmax(-1).cumsum(-1)
    numbers = numbers.to(passed.device)[:, None] * passed[:, -1:]
    return torch.searchsorted(passed, numbers, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def uniform_numbers(seeds: Sequence[int], count: int) -> torch.Tensor:
    """``(len(seeds), count)`` float64 in [0, 1), each row from a generator of its own."""
    rows = [torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return torch.stack(rows)
