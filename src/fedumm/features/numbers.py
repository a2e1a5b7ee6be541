"""The type in which features are kept, and what it does to them."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedumm.backends.feature_table import Block

_MOST = 127


def kept_as(choice: str, arithmetic: torch.dtype, module: torch.nn.Module) -> torch.dtype:
    """The type that ``--feature_dtype`` means for one stage.

    ``auto`` loses nothing that the arithmetic keeps: it is the type of the stage's weights if they are in 16 bits,
    bfloat16 where products are (``arithmetic``), and else float32.
    """
    if choice != "auto":
        kind: torch.dtype = getattr(torch, choice)
        return kind
    kinds = {tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()}
    if len(kinds) == 1 and (own := kinds.pop()) in (torch.bfloat16, torch.float16):
        return own
    return torch.bfloat16 if arithmetic == torch.bfloat16 else torch.float32


def eight_bits(block: Block) -> Block:
    """``block`` in int8: each channel (the last dimension) of each image by its largest magnitude.

    Of features with one dimension, an image has one scale.
    """
    stored = [block.parts(position)[0] for position in range(_images(block))]
    pairs = [_image_in_eight_bits(features.float()) for features in stored]
    values = [value for value, _ in pairs]
    whole = torch.cat(values) if block.lengths is not None else torch.stack(values)
    return replace(block, features=whole, scales=torch.stack([scale for _, scale in pairs]))


def _images(block: Block) -> int:
    return len(block.features if block.lengths is None else block.lengths)


def _image_in_eight_bits(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if features.ndim == 1:
        largest = features.abs().amax(keepdim=True)
    else:
        channels = features.flatten(0, -2)
        largest = channels.abs().amax(0) if len(channels) else torch.zeros(channels.shape[1])
    scale = largest / _MOST
    # Zero where a channel is; of the smallest numbers there are, rounding makes it too small or nothing.
    values = features / torch.where(scale > 0, scale, 1)
    return values.round().clamp(-_MOST, _MOST).to(torch.int8), scale


def finite(numbers: torch.Tensor) -> bool:
    """Whether every number is; in one pass, without a copy."""
    if not numbers.is_floating_point() or not numbers.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(numbers))).all())
