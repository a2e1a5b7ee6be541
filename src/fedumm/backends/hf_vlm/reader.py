"""A model at work on prompts and images: what it would say next, and what it says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fedumm.backends.hf_vlm.batch import Texts, pad_left, texts
from fedumm.backends.hf_vlm.vision import Vision
from fedumm.backends.ranking import likeliest
from fedumm.backends.spelling import Ids

Image = torch.Tensor | Mapping[str, Any] | list[Mapping[str, Any]]
"""The features of a row's image ``(tokens, width)``, or what the processor made of it.

Of several images: their features one after the other, what the processor made of all, or a list of what it made of
each."""


_WIDTHS = 16
"""Numbers that a layer holds of a token at a time, in widths of the model: an estimate for batches of candidates."""


class Reader:
    """Calls one model in one of two ways.

    With ``vision`` the images of a batch go in as features, and rows are padded on the left. Without it, each row goes
    in alone, with what the processor made of its image: slower, and right for whatever the model does with it.

    Args:
        model: without PEFT around it (LoRA layers may be in it).
        vision: how features are made; None: they can't be handed over.
        ends: tokens that end an answer.
        answer_types: what other integers a token of an answer has, by name.
        growing: names of what else there is for each token of a prompt ``(1, tokens, ...)``; an answer's tokens have
            what the prompt's last one has.
    """

    def __init__(
        self, model: Any, vision: Vision | None, ends: Sequence[int], answer_types: Mapping[str, int],
        growing: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.model, self.vision, self.growing = model, vision, growing
        self.ends, self.answer_types = frozenset(ends), answer_types
        inner = model.base_model.forward
        self.accepted = {**inspect.signature(model.forward).parameters, **inspect.signature(inner).parameters}
        """Arguments of ``forward``, the model's own and its inner one's."""
        inside = {id(module) for module in model.get_decoder().modules()}
        self._outside = [module for module in model.modules() if id(module) not in inside]

    def calm(self) -> None:
        """Put all but the language tower into evaluation mode: what an image looks like is a constant.

        A vision part may drop units at random, or count batches (BatchNorm), while it is in training mode.
        """
        for module in self._outside:
            module.training = False

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values that the language model keeps of a token, all layers together."""
        text = self.model.config.get_text_config()
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        numbers = 2 * text.num_hidden_layers * heads * width
        return int(numbers * self.model.get_input_embeddings().weight.element_size())

    @property
    def device(self) -> torch.device:
        """Where ids go in."""
        found: torch.device = self.model.get_input_embeddings().weight.device
        return found

    def features(self, images: Sequence[Image]) -> list[Image]:
        """The images' features, made now where they are not there; without ``vision``, images as they are."""
        if self.vision is None:
            return list(images)
        dtype = self.model.get_input_embeddings().weight.dtype
        encode = self.vision.encode

        def features_of(image: Image) -> torch.Tensor:
            if isinstance(image, torch.Tensor):
                return image.to(self.device, dtype, non_blocking=True)
            return torch.cat(list(map(encode, image))) if isinstance(image, list) else encode(image)

        return list(map(features_of, images))

    def inputs(self, some: Texts, images: Sequence[Image], extras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The arguments of the model's ``forward``; without ``vision``, of a single row."""
        some = some.to(self.device)
        own: dict[str, Any] = {name: value for name, value in some.types.items() if name in self.accepted}
        if self.vision is not None:
            own["mm_encoder_outputs"] = {
                "image": self.vision.outputs([f for f in images if isinstance(f, torch.Tensor)])
            }
            own |= {name: torch.cat([row[name] for row in extras]).to(self.device) for name in extras[0]}
        else:
            (image,) = images
            assert isinstance(image, Mapping)
            dtype = self.model.get_input_embeddings().weight.dtype
            for name, value in image.items():
                own[name] = _placed(value, self.device, dtype)
                if name in self.growing:
                    own[name] = _grown(own[name], some.ids.shape[1])
        return {"input_ids": some.ids, "attention_mask": some.mask, **own}

    def logits(
        self, some: Texts, images: Sequence[Image], extras: Sequence[Mapping[str, Any]], last: int
    ) -> torch.Tensor:
        """What would follow each of the last ``last`` tokens, ``(rows, last, vocabulary)`` float32.

        Args:
            images: an entry a row, from :meth:`features`.
            extras: the same of :func:`fedumm.backends.hf_vlm.prompts.extras`.
        """
        if self.vision is None and len(images) > 1:
            pairs = zip(images, extras, strict=True)
            rows = [self.logits(some.alone(row), [own], [extra], last) for row, (own, extra) in enumerate(pairs)]
            return torch.cat([F.pad(row, (0, 0, last - row.shape[1], 0)) for row in rows])
        inputs = self.inputs(some, images, extras)
        keep = {"logits_to_keep": last} if "logits_to_keep" in self.accepted else {}
        logits: torch.Tensor = self.model(**inputs, **keep, use_cache=False).logits
        return logits[:, -last:].float()

    def losses(
        self, some: Texts, images: Sequence[Image], extras: Sequence[Mapping[str, Any]], labels: torch.Tensor
    ) -> torch.Tensor:
        """The surprise of each label in nats, ``labels``' shape, float32; 0 where it is -100."""
        logits = self.logits(some, images, extras, labels.shape[1])
        return F.cross_entropy(logits.mT, labels.to(logits.device), ignore_index=-100, reduction="none")

    def generate(
        self, some: Texts, images: Sequence[Image], extras: Sequence[Mapping[str, Any]], most: int
    ) -> list[list[int]]:
        """Greedy answers of at most ``most`` tokens, without the one that ends them; keys and values are kept."""
        if self.vision is None and len(images) > 1:
            pairs = zip(images, extras, strict=True)
            return [
                answer
                for row, (own, extra) in enumerate(pairs)
                for answer in self.generate(some.alone(row), [own], [extra], most)
            ]
        inputs = self.inputs(some, images, extras)
        made = self.model.generate(**inputs, max_new_tokens=most)[:, some.ids.shape[1] :].tolist()
        return [_until(row, self.ends) for row in made]

    def rank(
        self,
        some: Texts,
        images: Sequence[Image],
        extras: Sequence[Mapping[str, Any]],
        candidates: Sequence[Sequence[Ids]],
    ) -> list[int]:
        """The place of the likeliest of each row's ``candidates``, ids that end with the end token.

        Each is read with the whole prompt before it: right for every model, and slow.
        """
        rows = [(some.alone(row), images[row], extras[row]) for row in range(len(images))]

        def first(chosen: Sequence[int]) -> torch.Tensor:
            own, pictures, facts = _together([rows[row] for row in chosen], [()] * len(chosen), self.answer_types)
            return self.logits(own, pictures, facts, 1)[:, 0].log_softmax(-1)

        def likelihoods(chosen: Sequence[int], answers: Sequence[Ids]) -> torch.Tensor:
            own, pictures, facts = _together([rows[row] for row in chosen], answers, self.answer_types)
            return -self.losses(own, pictures, facts, pad_left(answers, -100)).sum(1)

        # A layer's states, queries, keys, values and those between its two large products; and logits with softmax.
        read = some.ids.shape[1] * _WIDTHS * 4 * self.model.config.get_text_config().hidden_size
        said = 3 * 4 * self.model.get_output_embeddings().weight.shape[0]
        return likeliest(candidates, first, likelihoods, lambda tokens: read + tokens * said)


def _together(
    rows: Sequence[tuple[Texts, Image, Mapping[str, Any]]], answers: Sequence[Ids], answer_types: Mapping[str, int]
) -> tuple[Texts, list[Image], list[Mapping[str, Any]]]:
    """Rows with an answer after each, all but its last token."""
    ids, types = [], []
    for (own, _, _), answer in zip(rows, answers, strict=True):
        said = answer[:-1]
        ids.append([*own.ids[0].tolist(), *said])
        types.append({n: [*t[0].tolist(), *[answer_types[n]] * len(said)] for n, t in own.types.items()})
    return texts(ids, types), [image for _, image, _ in rows], [facts for _, _, facts in rows]


def _placed(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Tensors, alone or in lists, where the model is, numbers with fractions in its type."""
    if isinstance(value, list):
        return [_placed(own, device, dtype) for own in value]
    return value.to(device, dtype if value.is_floating_point() else None) if isinstance(value, torch.Tensor) else value


def _grown(value: torch.Tensor, length: int) -> torch.Tensor:
    """``(1, tokens, ...)`` as ``(1, length, ...)``, with the last token's part for those that follow."""
    more = length - value.shape[1]
    return torch.cat([value, value[:, -1:].expand(-1, more, *value.shape[2:])], 1) if more > 0 else value


def _until(row: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Up to the first token that ends an answer."""
    stop = next((place for place, token in enumerate(row) if token in ends), len(row))
    return list(row[:stop])
