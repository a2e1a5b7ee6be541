"""A digest of a model's frozen weights: two sites with equal ones have the same model."""

from __future__ import annotations

import hashlib

import torch


def frozen_fingerprint(model: torch.nn.Module) -> str:
    """Of all weights that are not trained, by their names without what PEFT adds: 32 hexadecimal digits.

    LoRA's options do not change it. A type that weights are loaded in (``--weights_dtype``, 4 bits) does.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted((_plain(n), t) for n, t in model.state_dict().items() if n not in trained):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _plain(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", ".")
