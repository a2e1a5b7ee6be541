"""Taking the adapter out of a model, and putting one in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from fedumm.adapters.state import AdapterState, check_state, spec_of


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _references(model: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """The adapter's own tensors, not copies."""
    if isinstance(model, PeftModel):
        # Left to itself, PEFT asks the Hub about the base model's vocabulary each time.
        state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
        return state
    return _trainable(model)


def adapter_of(model: torch.nn.Module) -> AdapterState:
    """A copy of the adapter in ``model``, on the CPU, sorted by name.

    A PEFT model's adapter is what PEFT saves; any other model's is its trainable parameters.
    """
    state = _references(model)
    return {name: state[name].detach().to("cpu", copy=True).contiguous() for name in sorted(state)}


@torch.no_grad()
def load_adapter(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put ``state`` in place of the adapter in ``model``.

    Raises:
        ValueError: names or shapes are not those of the model's adapter.
    """
    if problem := check_state(state, spec_of(_references(model))):
        raise ValueError(f"not an adapter of this model: {problem}")
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, dict(state))
        return
    for name, parameter in _trainable(model).items():
        parameter.copy_(state[name])
