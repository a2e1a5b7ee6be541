"""Attention to a frozen image, with its projections on the side of the few question tokens."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import BlipForQuestionAnswering

from fedumm.adapters.dropout import dropped_product
from fedumm.adapters.projection import Projection, projection_of

_IMAGE_ATTENTION = re.compile(r"text_encoder\.encoder\.layer\.\d+\.crossattention\.self")
"""Full names of the modules, which published weights carry too."""

_READ = {"attention_mask", "encoder_hidden_states", "encoder_attention_mask"}
"""Arguments that the way below knows. With anything else the library's way is taken."""


class QuerySideAttention(torch.nn.Module):
    """Cross-attention to constant tokens ``x``, of which there are many more than queries.

    The scores of a head are ``q (W x + s B A x)^T``. Read as ``(q W) x^T + s (q B) (A x)^T`` they cost
    a product with ``x`` for each query and head, instead of one for each output of ``W``; and likewise
    for the values. In BLIP 577 image tokens meet about ten question tokens. The same numbers to rounding;
    the bias of the keys, equal for all tokens, falls out of the softmax.

    Comes before the library's class of attention, which has ``query``, ``key``, ``value`` and ``dropout``. Where it
    does not pay, gradients must reach ``x``, or an argument is not known, the library's way is taken.

    Attributes:
        heads: of the attention.
    """

    heads: int
    query: torch.nn.Module
    key: torch.nn.Module
    value: torch.nn.Module
    dropout: torch.nn.Module

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """See the library's class. The second result, probabilities, is ``(batch, heads, queries, tokens)``."""
        x, mask = kwargs.get("encoder_hidden_states"), kwargs.get("encoder_attention_mask")
        known = not args and all(value is None or name in _READ for name, value in kwargs.items())
        key, value = projection_of(self.key), projection_of(self.value)
        if x is None or key is None or value is None or not known or not self._pays(hidden_states, x):
            return super().forward(hidden_states, *args, **kwargs)
        if (key.folded or value.folded) and torch.is_autocast_enabled(x.device.type):
            # The products below would round the weights, and so most of what was folded into them away.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(hidden_states.float(), **{**kwargs, "encoder_hidden_states": x.float()})
        batch, queries, _ = hidden_states.shape
        # (heads, batch * queries, size): one product a head serves the whole batch.
        query = self.query(hidden_states).view(batch * queries, self.heads, -1).transpose(0, 1)
        query = query / math.sqrt(query.shape[-1])
        scores = self._scores(query, x, key).view(batch, self.heads, queries, -1)
        if mask is not None:
            scores = scores + mask
        probabilities = scores.softmax(-1)
        context = self._context(self.dropout(probabilities), x, value)
        return context.reshape(batch, queries, -1), probabilities

    def _pays(self, hidden_states: torch.Tensor, x: torch.Tensor) -> bool:
        """Whether this way is faster: measured, with ``benchmarks/attention.py``, not derived.

        By count of products, two with ``x`` for each query and head (four with gradients) replace two
        for each output of the projections; at half as many the gain is certain.
        """
        queries, tokens = hidden_states.shape[1], x.shape[1]
        products = (2 if torch.is_grad_enabled() else 1) * queries * self.heads
        return not x.requires_grad and tokens >= 4 * queries and 2 * products <= hidden_states.shape[2]

    def _split(self, matrix: torch.Tensor) -> torch.Tensor:
        """``(out, n)`` as ``(heads, out per head, n)``."""
        return matrix.view(self.heads, matrix.shape[0] // self.heads, -1)

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


def in_front_of(library: type) -> Any:
    """The class above in front of the library's class of attention."""
    return type(f"QuerySide{library.__name__}", (QuerySideAttention, library), {})


def attend_from_the_query_side(model: BlipForQuestionAnswering) -> None:
    """Give the text encoder's attention to the image the class above; weights and their names stay.

    The library may change how it calls its attention. So both ways are tried on one token: if they do not agree, its
    way stays, and a warning says that this is slower.
    """
    found = [module for name, module in model.named_modules() if _IMAGE_ATTENTION.fullmatch(name)]
    kinds, expected = [type(module) for module in found], encode_one_token(model)
    ours = {kind: in_front_of(kind) for kind in set(kinds)}
    for module, kind in zip(found, kinds, strict=True):
        module.heads, module.__class__ = model.config.text_config.num_attention_heads, ours[kind]
    try:
        torch.testing.assert_close(encode_one_token(model), expected, rtol=1e-3, atol=1e-3)
    except Exception as problem:
        for module, kind in zip(found, kinds, strict=True):
            module.__class__ = kind
        why = str(problem).strip().split("\n")[0]
        warnings.warn(f"BLIP attends to images as transformers does, which is slower: {why}", stacklevel=2)


@torch.no_grad()
def encode_one_token(model: BlipForQuestionAnswering) -> torch.Tensor:
    """What the text encoder makes of one token in the light of eight made-up tokens of an image, ``(1, 1, width)``."""
    weight = model.get_input_embeddings().weight
    ids = torch.tensor([[1]], device=weight.device)
    image = torch.randn(1, 8, model.config.vision_config.hidden_size, generator=torch.Generator().manual_seed(0))
    with evaluating(model):
        states: torch.Tensor = model.text_encoder(
            input_ids=ids, attention_mask=torch.ones_like(ids), encoder_hidden_states=image.to(weight)
        ).last_hidden_state
    return states


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No dropout for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
