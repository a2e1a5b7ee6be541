"""Random weights of any size, written tensor by tensor: no more than one file's worth is in memory."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fedumm.errors import FedummError
from fedumm.seeds import derive

SHARD_BYTES = 1 << 30
INDEX = "model.safetensors.index.json"


def write_weights(model: Any, folder: Path, dtype: torch.dtype, seed: int, shard_bytes: int = SHARD_BYTES) -> int:
    """Write weights for ``model``, whose tensors are on the meta device, as ``from_pretrained`` reads them.

    A number depends on ``seed``, the tensor's name and its shape: neither on the other tensors nor on the files' size.

    Returns:
        Bytes written.

    Raises:
        FedummError: ``model`` saves something else than parameters.
    """
    places: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(model, dtype, seed, shard_bytes)):
        file = f"model-{number + 1:05d}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        places |= dict.fromkeys(shard, file)
        total += sum(own.nbytes for own in shard.values())
    content = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return total


def _shards(model: Any, dtype: torch.dtype, seed: int, most: int) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    for name, own in random_weights(model, dtype, seed):
        if shard and sum(other.nbytes for other in shard.values()) + own.nbytes > most:
            yield shard
            shard = {}
        shard[name] = own
    yield shard


def random_weights(model: Any, dtype: torch.dtype, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of all parameters, tied ones once.

    Norms change nothing, biases are zero, layers keep the size of what goes through them (normal with a variance of
    one by their inputs), and so do tables and lone parameters by their width: nothing that an image passes on its way
    to the answer is zero, as few families start.
    """
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    if more := model.state_dict().keys() - {n for n, _ in model.named_parameters(remove_duplicate=False)}:
        raise FedummError(f"{type(model).__name__} saves buffers, which are not made here: {', '.join(sorted(more))}.")
    for name, parameter in parameters.items():
        owner, _, leaf = name.rpartition(".")
        module = modules[owner]
        value = torch.empty(parameter.shape, dtype=torch.float32)
        if leaf.endswith("bias"):
            value.zero_()
        elif "norm" in type(module).__name__.lower() and leaf == "weight":
            value.fill_(_neutral(module))
        else:
            layer = isinstance(module, torch.nn.Linear | torch.nn.modules.conv._ConvNd) and leaf == "weight"
            inputs = parameter[0].numel() if layer else parameter.shape[-1]
            generator = torch.Generator().manual_seed(derive(seed, name))
            value.normal_(0.0, inputs**-0.5, generator=generator)
        yield name, value.to(dtype)


def _neutral(norm: torch.nn.Module) -> float:
    """The weight with which a norm only normalises: few families add one to it."""
    own = copy.deepcopy(norm).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.zero_()
        width = next(own.parameters()).shape[0]
        passed = own(torch.linspace(-1, 1, 2 * width).view(2, width))
    return 0.0 if bool(passed.any()) else 1.0
