"""The features of images: made by the model's own vision part, kept flat, and handed back in its own form.

``mm_encoder_outputs`` of ``transformers`` takes what ``get_image_features`` returns instead of pixels, in ``forward``
and ``generate``, and does the rest (positions, token types, deep features) as with pixels. ``inputs_embeds`` would not:
Qwen's models then lose their positions or their deeper features without an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
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
        pooled: whether the features themselves are in the output, and not only deeper ones.
        deep: other fields of the output, each with its levels ``(tokens, width)``: the number that a level comes with
            (of a layer of the language model), or None.
        fixed: other fields that are tensors and the same for all images.
    """

    kind: type[Any]
    width: int
    tokens: int
    pooled: bool = True
    deep: tuple[tuple[str, tuple[int | None, ...]], ...] = ()
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
        features, forms = [], list[Form]()
        for image in images:
            features.append(self.encode(image))
            assert self.form is not None
            forms.append(self.form)
        first, *others = (dict(form.fixed) for form in forms)
        fixed = {name: own for name, own in first.items() if all(_equal(own, other.get(name)) for other in others)}
        self._fixed = set(fixed)
        self.form = replace(forms[-1], fixed=tuple(fixed.items()))
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
        parts = [] if pooled is None else [_flat(pooled)]
        deep = {f.name: levels for f in fields(output) if f.name not in _NOT_CARRIED
                and (levels := _levels(getattr(output, f.name), parts[0].shape if parts else None))}  # fmt: skip
        parts += [own for levels in deep.values() for _, own in levels]
        if not parts:
            raise FedummError("get_image_features returns nothing that is known")
        self.form = Form(
            type(output), parts[0].shape[-1], pooled.shape[-2] if isinstance(pooled, torch.Tensor) else 0,
            pooled is not None, tuple((name, tuple(number for number, _ in levels)) for name, levels in deep.items()),
            tuple((f.name, own) for f in fields(output)
                  if f.name not in _NOT_CARRIED and (self._fixed is None or f.name in self._fixed)
                  and isinstance(own := getattr(output, f.name), torch.Tensor)),
        )  # fmt: skip
        return torch.cat(parts, -1)

    def outputs(self, features: Sequence[torch.Tensor]) -> Any:
        """The features of a batch's images, in order, as ``get_image_features`` would return them."""
        form = self.form
        assert form is not None, "nothing was encoded yet"
        parts = [own.split(form.width, -1) for own in features]
        levels: Iterator[Any] = iter(zip(*parts, strict=True))
        pooled: Any = next(levels) if form.pooled else None
        if form.tokens:
            pooled = torch.cat(pooled).view(-1, form.tokens, form.width)
        made = {"pooler_output": pooled, **dict(form.fixed)}
        for name, numbers in form.deep:
            made[name] = [next(levels) if number is None else (number, next(levels)) for number in numbers]
        required = {f.name: None for f in fields(form.kind) if f.default is MISSING}
        return form.kind(**{**required, **made})


def _equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one, other)


def _flat(pooled: Any) -> torch.Tensor:
    if isinstance(pooled, torch.Tensor):
        return pooled.reshape(-1, pooled.shape[-1])
    return torch.cat([own.reshape(-1, own.shape[-1]) for own in pooled])


def _levels(value: Any, shape: torch.Size | None) -> list[tuple[int | None, torch.Tensor]]:
    """The levels of deeper features, each with the number that it comes with and of the ``shape`` of the features
    themselves, or all of one if there are none."""
    if not isinstance(value, list | tuple) or not value:
        return []
    flat = []
    for own in value:
        numbered = isinstance(own, tuple) and len(own) == 2 and isinstance(own[0], int)
        number, level = own if numbered else (None, own)
        if not isinstance(level, torch.Tensor | list | tuple):
            return []
        flat.append((number, _flat(level)))
    shape = flat[0][1].shape if shape is None else shape
    return flat if all(own.shape == shape for _, own in flat) else []
