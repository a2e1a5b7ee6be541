"""Attention to a frozen image, with its projections on the side of the few question tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import BlipForQuestionAnswering
from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

from fedumm.adapters.dropout import dropped_product
from fedumm.adapters.projection import Projection, projection_of


class QuerySideAttention(BlipTextSelfAttention):  # type: ignore[misc]
    """Cross-attention to constant tokens ``x``, of which there are many more than queries.

    The scores of a head are ``q (W x + s B A x)^T``. Read as ``(q W) x^T + s (q B) (A x)^T`` they cost
    a product with ``x`` for each query and head, instead of one for each output of ``W``; and likewise
    for the values. In BLIP 577 image tokens meet about ten question tokens. The same numbers to rounding;
    the bias of the keys, equal for all tokens, falls out of the softmax.

    Where it does not pay, or gradients must reach ``x``, the parent's way is taken.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See the parent. The second result, probabilities, is ``(batch, heads, queries, tokens)``."""
        x = encoder_hidden_states
        key, value = projection_of(self.key), projection_of(self.value)
        if x is None or key is None or value is None or not self._pays(hidden_states, x):
            return super().forward(  # type: ignore[no-any-return]
                hidden_states, attention_mask, x, encoder_attention_mask, past_key_values, **kwargs
            )
        if (key.folded or value.folded) and torch.is_autocast_enabled(x.device.type):
            # The products below would round the weights, and so most of what was folded into them away.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(
                    hidden_states.float(), attention_mask, x.float(), encoder_attention_mask, past_key_values, **kwargs
                )
        batch, queries, _ = hidden_states.shape
        heads, size = self.num_attention_heads, self.attention_head_size
        # (heads, batch * queries, size): one product a head serves the whole batch.
        query = self.query(hidden_states).view(batch * queries, heads, size).transpose(0, 1) / math.sqrt(size)
        scores = self._scores(query, x, key).view(batch, heads, queries, -1)
        if encoder_attention_mask is not None:
            scores = scores + encoder_attention_mask
        probabilities = scores.softmax(-1)
        context = self._context(self.dropout(probabilities), x, value)
        return context.reshape(batch, queries, heads * size), probabilities

    def _pays(self, hidden_states: torch.Tensor, x: torch.Tensor) -> bool:
        """Whether this way is faster: measured, with ``benchmarks/attention.py``, not derived.

        By count of products, two with ``x`` for each query and head (four with gradients) replace two
        for each output of the projections; at half as many the gain is certain.
        """
        queries, tokens = hidden_states.shape[1], x.shape[1]
        products = (2 if torch.is_grad_enabled() else 1) * queries * self.num_attention_heads
        return not x.requires_grad and tokens >= 4 * queries and 2 * products <= self.all_head_size

    def _split(self, matrix: torch.Tensor) -> torch.Tensor:
        """``(out, n)`` as ``(heads, out per head, n)``."""
        return matrix.view(self.num_attention_heads, self.attention_head_size, -1)

    def _scores(self, query: torch.Tensor, x: torch.Tensor, key: Projection) -> torch.Tensor:
        """``(batch, heads * queries, tokens)``, without the keys' bias."""
        if key.a is None or key.b is None or key.dropout is None or _mergeable(key, x):
            return self._by_batch(query @ self._split(key.merged()), x) @ x.mT
        low_rank = dropped_product(x, key.a, key.dropout)
        scores = self._by_batch(query @ self._split(key.weight), x) @ x.mT
        return scores.baddbmm(self._by_batch(query @ self._split(key.b), x), low_rank.mT, alpha=key.scaling)

    def _context(self, probabilities: torch.Tensor, x: torch.Tensor, value: Projection) -> torch.Tensor:
        """``(batch, queries, heads, size)``: the values, weighted by ``(batch, heads, queries, tokens)``."""
        weights = probabilities.flatten(1, 2)
        if value.a is None or value.b is None or value.dropout is None or _mergeable(value, x):
            context = self._by_head(weights @ x, probabilities) @ self._split(value.merged()).mT
        else:
            low_rank = dropped_product(x, value.a, value.dropout)
            context = self._by_head(weights @ x, probabilities) @ self._split(value.weight).mT
            change = self._by_head(weights @ low_rank, probabilities)
            context = context.baddbmm(change, self._split(value.b).mT, alpha=value.scaling)
        batch, heads, queries, _ = probabilities.shape
        result = context.view(heads, batch, queries, -1).permute(1, 2, 0, 3)
        if value.bias is not None:
            # Without dropout the weights sum to one.
            result = result + value.bias.view(heads, -1) * probabilities.sum(-1).transpose(1, 2)[..., None]
        return result

    def _by_batch(self, by_head: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """``(heads, batch * queries, n)`` as ``(batch, heads * queries, n)``."""
        heads, _, width = by_head.shape
        return by_head.view(heads, x.shape[0], -1, width).transpose(0, 1).reshape(x.shape[0], -1, width)

    def _by_head(self, by_batch: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        """The inverse: ``(batch, heads * queries, n)`` as ``(heads, batch * queries, n)``."""
        batch, heads, queries, _ = probabilities.shape
        return by_batch.view(batch, heads, queries, -1).transpose(0, 1).reshape(heads, batch * queries, -1)


def _mergeable(projection: Projection, x: torch.Tensor) -> bool:
    """Whether weight and update may be added up: not where rounding to bfloat16 would lose the update."""
    return not projection.drops and not torch.is_autocast_enabled(x.device.type)


def attend_from_the_query_side(model: BlipForQuestionAnswering) -> None:
    """Give the text encoder's attention to the image the class above; weights and their names stay."""
    for layer in model.text_encoder.encoder.layer:
        layer.crossattention.self.__class__ = QuerySideAttention
