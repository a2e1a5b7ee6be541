"""The likeliest of given answers. The question and its image are read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from transformers import DynamicCache

from fedumm.backends.januspro.generate import kept_in
from fedumm.backends.januspro.model import base_of, positions, question_states, token_bytes
from fedumm.backends.ranking import likeliest
from fedumm.backends.spelling import Ids
from fedumm.backends.tensors import pad


@torch.inference_mode()
def rank_answers(
    model: torch.nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    image_embeds: torch.Tensor,
    candidates: Sequence[Sequence[Ids]],
) -> list[int]:
    """The place of the likeliest of each sample's ``candidates``, ids that end with the end token (float32).

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
    begin = base.lm_head(states[:, -1]).float().log_softmax(-1)

    def likelihoods(rows: Sequence[int], answers: Sequence[Ids]) -> torch.Tensor:
        labels = pad(answers, -100).to(input_ids.device)
        logits = begin[rows][:, None]
        if labels.shape[1] > 1:
            read = labels[:, :-1].clamp(min=0)
            mask = torch.cat([attention_mask[rows], torch.ones_like(read)], 1)
            after = base.model.language_model(
                input_ids=read, attention_mask=mask, position_ids=positions(mask)[:, -read.shape[1] :],
                **kept_in(_of_rows(cache, rows, base.config.text_config), base.model.language_model),
            ).last_hidden_state  # fmt: skip
            logits = torch.cat([logits, base.lm_head(after).float()], 1)
        return -F.cross_entropy(logits.mT, labels, ignore_index=-100, reduction="none").sum(1)

    kept = input_ids.shape[1] * token_bytes(model)
    # Logits, their softmax and what that is made of.
    logits_bytes = 3 * 4 * base.config.text_config.vocab_size
    return likeliest(candidates, lambda rows: begin[rows], likelihoods, lambda tokens: kept + tokens * logits_bytes)


def _of_rows(cache: DynamicCache, rows: Sequence[int], config: object) -> DynamicCache:
    """A copy of what ``cache`` holds of some samples."""
    some = DynamicCache(config=config)
    for layer, held in enumerate(cache.layers):
        some.update(held.keys[rows], held.values[rows], layer)
    return some
