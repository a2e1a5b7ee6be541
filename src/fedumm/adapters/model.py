"""Taking the adapter out of a model, and putting one in."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer

from fedumm.adapters.factors import factor_of, modules_of
from fedumm.adapters.folding import FoldedLinear, fold, product_rows, widen
from fedumm.adapters.state import AdapterState, check_state, spec_of
from fedumm.errors import FedummError


class AdapterSlot:
    """The place of the adapter in a model: takes it out, and puts another one in.

    A PEFT model's adapter is what PEFT saves; any other model's is its trainable parameters. The
    model must stay on its device.

    Raises:
        FedummError: PEFT would save other tensors than the model's own parameters.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        own = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if isinstance(model, PeftModel):
            # Left to itself, PEFT asks the Hub about the base model's vocabulary each time.
            saved = get_peft_model_state_dict(model, save_embedding_layers=False)
            places = {(p.data_ptr(), p.shape): p for p in model.parameters()}
            strange = [name for name, tensor in saved.items() if (tensor.data_ptr(), tensor.shape) not in places]
            if strange:
                raise FedummError(f"PEFT saves {strange[0]} with the adapter, which is none of the model's parameters.")
            own = {name: places[tensor.data_ptr(), tensor.shape] for name, tensor in saved.items()}
        self.parameters = {name: own[name] for name in sorted(own)}
        """By their names in the adapter."""
        self.spec = spec_of({name: tensor.detach() for name, tensor in self.parameters.items()})
        self._model = model
        self._layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]

    def get(self, only: Container[torch.Tensor] | None = None) -> AdapterState:
        """A copy of the adapter, or of the parameters ``only`` of it, on the CPU, sorted by name."""
        chosen = {name: t for name, t in self.parameters.items() if only is None or t in only}
        return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in chosen.items()}

    @torch.no_grad()
    def put(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put ``state`` in place of the adapter.

        Raises:
            ValueError: names or shapes are not those of the model's adapter.
        """
        if problem := check_state(state, self.spec):
            raise ValueError(f"not an adapter of this model: {problem}")
        for name, tensor in self.parameters.items():
            tensor.copy_(state[name])

    def set_scale(self, scale: float) -> None:
        """Multiply each B A with ``scale`` (alpha / rank)."""
        for layer in self._layers:
            layer.scaling = dict.fromkeys(layer.scaling, scale)

    @contextmanager
    def training_only(self, factors: Container[str]) -> Iterator[None]:
        """Other factors of LoRA get no gradient."""
        held = [p for name, p in self.parameters.items() if (kind := factor_of(name)) and kind not in factors]
        for parameter in held:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in held:
                parameter.requires_grad_(True)

    def widen(self) -> None:
        """Make LoRA's linear layers ready to grow: float32 (:class:`fedumm.adapters.folding.FoldedLinear`).

        Before the first change, so that memory, speed and rounding are the same in all rounds.
        """
        for layer in self._layers:
            base = layer.get_base_layer()
            if type(base) is torch.nn.Linear:
                widen(base)

    def fold(self, change: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Add ``left @ right`` (``(out, q)`` and ``(q, in)``) to the frozen weight of each module, from now on float32.

        Returns:
            Frobenius norm, over all modules, of what is lost of it: see :func:`fedumm.adapters.folding.fold`.

        Raises:
            FedummError: such a module is no linear layer with LoRA.
            ValueError: the shapes do not fit.
        """
        lost = [0.0]
        for name, (left, right) in change.items():
            layer = self._model.get_submodule(name)
            base = layer.get_base_layer() if isinstance(layer, LoraLinear) else None
            if not isinstance(base, torch.nn.Linear) or type(base) not in (torch.nn.Linear, FoldedLinear):
                raise FedummError(f"the backbone can't be changed: {name} is no linear layer with plain weights.")
            lost.append(fold(base, left, right))
        return math.hypot(*lost)

    @torch.no_grad()
    def delivered_norm(self, change: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Frobenius norm, over all LoRA layers, of ``change + s B A`` with the adapter that is in now; in float64."""
        squares = []
        for module, names in modules_of(self.parameters).items():
            a, b = (self.parameters[name] for name in names)
            layer = self._model.get_submodule(module)
            assert isinstance(layer, LoraLayer)
            (scale,) = {*layer.scaling.values()}
            left, right = scale * b.double(), a.double()
            if module in change:
                more, below = (t.to(left) for t in change[module])
                left, right = torch.cat([left, more], 1), torch.cat([right, below])
            squares += [float(rows.square().sum()) for rows in product_rows(left, right)]
        return math.sqrt(math.fsum(squares))
