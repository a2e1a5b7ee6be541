"""Taking the adapter out of a model, and putting one in."""

from __future__ import annotations

from collections.abc import Container, Mapping

import torch
from peft import PeftModel, get_peft_model_state_dict

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
        self._tensors = {name: own[name] for name in sorted(own)}
        self.spec = spec_of({name: tensor.detach() for name, tensor in self._tensors.items()})

    def get(self, only: Container[torch.Tensor] | None = None) -> AdapterState:
        """A copy of the adapter, or of the parameters ``only`` of it, on the CPU, sorted by name."""
        chosen = {name: t for name, t in self._tensors.items() if only is None or t in only}
        return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in chosen.items()}

    @torch.no_grad()
    def put(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put ``state`` in place of the adapter.

        Raises:
            ValueError: names or shapes are not those of the model's adapter.
        """
        if problem := check_state(state, self.spec):
            raise ValueError(f"not an adapter of this model: {problem}")
        for name, tensor in self._tensors.items():
            tensor.copy_(state[name])
