"""The features of images: made by the model's own vision part, kept flat, and handed back in its own form.

``mm_encoder_outputs`` of ``transformers`` takes what ``get_image_features`` returns instead of pixels, in ``forward``
and ``generate``, and does the rest (positions, token types, deep features) as with pixels. ``inputs_embeds`` would not:
Qwen's models then lose their positions or their deeper features without an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch

from fedumm.errors import FedummError

_NOT_CARRIED = {"last_hidden_state", "pooler_output", "hidden_states", "attentions"}


@dataclass(frozen=True)
class Form:
    """The form of one model's image features.

    Attributes:
        kind: class of the output.
        width: of one token's features.
        tokens: how many tokens a tile has if all tiles come as one tensor ``(tiles, tokens, width)``; 0: a tuple with
            ``(tokens, width)`` for each image.
        deep: other fields of the output, each with how many levels of ``(tokens, width)`` it has.
        fixed: other fields that are tensors and the same for all images.
    """

    kind: type[Any]
    width: int
    tokens: int
    deep: tuple[tuple[str, int], ...] = ()
    fixed: tuple[tuple[str, torch.Tensor], ...] = ()


class Vision:
    """Image features of one model.

    Args:
        model: without PEFT around it (LoRA layers may be in it).

    Raises:
        FedummError: it has no ``get_image_features``.
    """

    def __init__(self, model: Any) -> None:
        inner = model.base_model
        owner = next((own for own in (inner, model) if hasattr(own, "get_image_features")), None)
        if owner is None:
            raise FedummError("it has no get_image_features")
        self._call = owner.get_image_features
        self._accepted = inspect.signature(self._call).parameters
        self._model = model
        self.form: Form | None = None
        self._fixed: set[str] | None = None

    def learn(self, images: Sequence[Mapping[str, Any]]) -> list[torch.Tensor]:
        """Each image's features (:meth:`encode`); from then on it is known what of the output is always alike."""
        features, forms = [], []
        for image in images:
            features.append(self.encode(image))
            forms.append(self.form)
        first, *others = (dict(form.fixed) for form in forms if form is not None)
        self._fixed = {name for name, own in first.items() if all(_equal(own, other.get(name)) for other in others)}
        self.encode(images[0])
        return features

    def encode(self, image: Mapping[str, Any]) -> torch.Tensor:
        """One image's features, ``(tokens, (1 + deep levels) * width)`` in the model's type.

        Args:
            image: what the processor made of it.
        """
        embedding = self._model.get_input_embeddings().weight
        given = {
            name: value.to(embedding.device, embedding.dtype if value.is_floating_point() else None)
            for name, value in image.items()
            if name in self._accepted and isinstance(value, torch.Tensor)
        }
        output = self._call(**given, return_dict=True)
        pooled = output.pooler_output
        flat = _flat(pooled)
        deep = {f.name: levels for f in fields(output) if f.name not in _NOT_CARRIED
                and (levels := _levels(getattr(output, f.name), flat.shape))}  # fmt: skip
        self.form = Form(
            type(output), flat.shape[-1], pooled.shape[-2] if isinstance(pooled, torch.Tensor) else 0,
            tuple((name, len(levels)) for name, levels in deep.items()),
            tuple((f.name, own) for f in fields(output)
                  if f.name not in _NOT_CARRIED and (self._fixed is None or f.name in self._fixed)
                  and isinstance(own := getattr(output, f.name), torch.Tensor)),
        )  # fmt: skip
        return torch.cat([flat, *(level for levels in deep.values() for level in levels)], -1)

    def outputs(self, features: Sequence[torch.Tensor]) -> Any:
        """The features of a batch's images, in order, as ``get_image_features`` would return them."""
        form = self.form
        assert form is not None, "nothing was encoded yet"
        parts = [own.split(form.width, -1) for own in features]
        pooled: Any = tuple(own[0] for own in parts)
        if form.tokens:
            pooled = torch.cat(pooled).view(-1, form.tokens, form.width)
        made, level = {"pooler_output": pooled, **dict(form.fixed)}, 1
        for name, count in form.deep:
            made[name] = [tuple(own[level + k] for own in parts) for k in range(count)]
            level += count
        required = {f.name: None for f in fields(form.kind) if f.default is MISSING}
        return form.kind(**{**required, **made})


def _equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one, other)


def _flat(pooled: Any) -> torch.Tensor:
    if isinstance(pooled, torch.Tensor):
        return pooled.reshape(-1, pooled.shape[-1])
    return torch.cat([own.reshape(-1, own.shape[-1]) for own in pooled])


def _levels(value: Any, shape: torch.Size) -> list[torch.Tensor]:
    """The levels of deeper features, each of the ``shape`` that the features themselves have."""
    if not isinstance(value, list | tuple) or not value:
        return []
    flat = [_flat(own) for own in value if isinstance(own, torch.Tensor | list | tuple)]
    return flat if len(flat) == len(value) and all(own.shape == shape for own in flat) else []
