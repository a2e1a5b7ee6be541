"""A frozen model with an exchangeable adapter, loaded once per host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from fedumm.adapters import AdapterState
from fedumm.adapters.model import adapter_of, load_adapter
from fedumm.backends import get_backend
from fedumm.backends.protocol import Backend
from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.training.seeds import derive


@dataclass
class Backbone:
    """Backend, model with LoRA layers, processor and device."""

    backend: Backend
    model: torch.nn.Module
    processor: Any
    device: torch.device

    @property
    def trainable(self) -> int:
        """Parameters in the adapter."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def total(self) -> int:
        """All parameters, the adapter's included; tied ones count once."""
        return sum(p.numel() for p in self.model.parameters())

    def adapter(self) -> AdapterState:
        """A copy of the adapter."""
        return adapter_of(self.model)

    def put(self, state: AdapterState) -> None:
        """Replace the adapter."""
        load_adapter(self.model, state)

    def adapter_config(self) -> dict[str, Any]:
        """PEFT's configuration of the adapter as JSON values; empty for a model without PEFT."""
        configs = getattr(self.model, "peft_config", None)
        if not configs:
            return {}
        config = configs["default"].to_dict() | {"inference_mode": True}
        # Through JSON: enumerations become strings, sets (of target modules) lists.
        plain: dict[str, Any] = json.loads(json.dumps(config, default=sorted))
        return plain


def pick_device(gpu: str, host: int = 0) -> torch.device:
    """The device of host number ``host``: one of the GPUs in ``gpu`` in turn, or the CPU.

    Raises:
        FedummError: a GPU was asked for that is not there.
    """
    there = torch.cuda.device_count()
    if gpu == "cpu" or (not gpu and not there):
        return torch.device("cpu")
    wanted = gpu.split(",") if gpu else [str(i) for i in range(there)]
    if not all(w.strip().isdigit() and int(w) < there for w in wanted):
        raise FedummError(f"--gpu {gpu}: this machine has {there} usable GPU(s). Use --gpu cpu to run without.")
    return torch.device("cuda", int(wanted[host % len(wanted)]))


def load_backbone(config: RunConfig, device: torch.device) -> Backbone:
    """Load the model with a freshly initialised adapter; equal seeds give equal adapters."""
    backend = get_backend(config.model_backend)
    torch.manual_seed(derive(config.seed, "adapter"))
    model, processor = backend.build_model_and_processor(
        config.model_name_or_path, config.lora_r, config.lora_alpha, config.lora_dropout, device
    )
    model.eval()
    backbone = Backbone(backend, model, processor, device)
    if not backbone.trainable:
        raise FedummError(f"The backend {config.model_backend!r} built a model with no trainable parameter.")
    exchanged = sum(t.numel() for t in backbone.adapter().values())
    if exchanged != backbone.trainable:
        raise FedummError(
            f"The backend {config.model_backend!r} trains {backbone.trainable:,} parameters, but its adapter holds "
            f"{exchanged:,}: what is trained outside LoRA layers must be named in PEFT's modules_to_save."
        )
    return backbone
