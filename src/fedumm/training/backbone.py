"""A frozen model with an exchangeable adapter, loaded once per host."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel

from fedumm.adapters import AdapterState
from fedumm.adapters.factors import padded
from fedumm.adapters.model import AdapterSlot
from fedumm.backends.protocol import Backend, TellsFindings
from fedumm.backends.registry import backend_for
from fedumm.backends.weights import parameter_count
from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.seeds import derive
from fedumm.training.device import autocast, moved, pick_dtype


def _print(text: str) -> None:
    print(text, file=sys.stderr)


@dataclass
class Backbone:
    """Backend, model with LoRA layers, processor and device.

    ``dtype`` is that of the arithmetic (``torch.autocast``); weights stay as they are. ``say`` is given lines for
    the user; ``limits`` holds the most samples at a time, by kind of work, for which memory has not run out, and
    ``fitted`` the bytes of the largest batch that a training step took.
    """

    backend: Backend
    model: torch.nn.Module
    processor: Any
    device: torch.device
    dtype: torch.dtype = torch.float32
    compiled: bool = False
    say: Callable[[str], None] = _print
    limits: dict[str, int] = field(default_factory=dict)
    fitted: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slot = AdapterSlot(self.model)
        step = self.backend.train_step
        self._step = torch.compile(step, dynamic=True) if self.compiled else step

    def train_step(self, batch: Any) -> torch.Tensor:
        """The backend's loss of ``batch``, not yet differentiated."""
        with self.autocast():
            loss: torch.Tensor = self._step(self.model, moved(batch, self.device), self.device)
        return loss

    def autocast(self) -> torch.autocast:
        """Matrix products in ``dtype``."""
        return autocast(self.device, self.dtype)

    @property
    def trainable(self) -> int:
        """Parameters in the adapter."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def total(self) -> int:
        """All parameters, the adapter's included; tied ones count once."""
        return sum(map(parameter_count, self.model.parameters()))

    def adapter(self) -> AdapterState:
        """A copy of the adapter."""
        return self.slot.get()

    def put(self, state: AdapterState) -> None:
        """Replace the adapter."""
        self.slot.put(state)

    def widen(self) -> None:
        """Make the frozen weights ready to grow; see :meth:`fedumm.adapters.model.AdapterSlot.widen`."""
        # In TF32, which some containers for GPUs turn on, products would round them again.
        torch.set_float32_matmul_precision("highest")
        self.slot.widen()

    def fold(self, change: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Let the frozen weights grow; see :meth:`fedumm.adapters.model.AdapterSlot.fold`.

        Returns:
            Frobenius norm of what the products of this run (in ``dtype``) lose of it.
        """
        with self.autocast():
            return self.slot.fold(change)

    def put_at_rank(self, state: AdapterState, scale: float | None) -> None:
        """Replace the adapter by one of this or a lower rank, and multiply its B A with ``scale`` (None: as it is).

        A lower rank is padded with zeros. They get no gradient, so an adapter of the lower rank is trained.
        """
        self.slot.put(padded(state, self.slot.spec))
        if scale is not None:
            self.slot.set_scale(scale)

    def trained(self, optimizer: torch.optim.Optimizer) -> AdapterState:
        """A copy of what ``optimizer`` has moved of the adapter: of weights that got no gradient it has no state."""
        return self.slot.get(optimizer.state)

    def findings(self) -> list[str]:
        """What the backend found out about the model; empty if it does not tell."""
        return self.backend.findings(self.processor) if isinstance(self.backend, TellsFindings) else []

    def warnings(self) -> list[str]:
        """Those of the findings that make answers worse."""
        return self.backend.warnings(self.processor) if isinstance(self.backend, TellsFindings) else []

    def adapter_config(self) -> dict[str, Any]:
        """PEFT's configuration of the adapter as JSON values; empty for a model without PEFT."""
        configs = getattr(self.model, "peft_config", None)
        if not configs:
            return {}
        config = configs["default"].to_dict() | {"inference_mode": True}
        # Through JSON: enumerations become strings, sets (of target modules) lists.
        plain: dict[str, Any] = json.loads(json.dumps(config, default=sorted))
        return plain


def checkpoint_gradients(model: torch.nn.Module, backend: str) -> None:
    """Activation checkpointing (Chen et al., 2016); dropout repeats its random numbers.

    Raises:
        FedummError: the model can't do that.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise FedummError(f"--gradient_checkpointing: the model of the backend {backend!r} can't do that.")
    # Its name since transformers 5.23, and the one before.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable()
    # Makes embeddings want gradients, for a kind of checkpointing that is not used here.
    base.disable_input_require_grads()


def load_backbone(
    config: RunConfig,
    device: torch.device,
    candidates: Sequence[str] = (),
    references: Sequence[Sequence[str]] = (),
) -> Backbone:
    """Load the model with a freshly initialised adapter; equal seeds give equal adapters.

    Args:
        candidates: answers to rank where ``config`` names no file of them.
        references: see :func:`fedumm.training.data.references`.
    """
    backend = backend_for(config, candidates, references)
    torch.manual_seed(derive(config.seed, "adapter"))
    model, processor = backend.build_model_and_processor(
        config.model_name_or_path, config.rank, config.alpha, config.lora_dropout, device
    )
    model.eval()
    if config.gradient_checkpointing:
        checkpoint_gradients(model, config.model_backend)
    if config.compile and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl"))):
        raise FedummError("--compile needs a C++ compiler, and there is none (CXX, c++, g++, clang++).")
    dtype = pick_dtype(config.precision, device, model)
    backbone = Backbone(backend, model, processor, device, dtype, config.compile)
    if not backbone.trainable:
        raise FedummError(f"The backend {config.model_backend!r} built a model with no trainable parameter.")
    exchanged = sum(t.numel() for t in backbone.adapter().values())
    if exchanged != backbone.trainable:
        raise FedummError(
            f"The backend {config.model_backend!r} trains {backbone.trainable:,} parameters, but its adapter holds "
            f"{exchanged:,}: what is trained outside LoRA layers must be named in PEFT's modules_to_save."
        )
    return backbone
