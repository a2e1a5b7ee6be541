"""The adapter: everything of a model that is trained and exchanged, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

AdapterState = dict[str, torch.Tensor]
"""Parameter name to tensor. For a PEFT model the names are those of its saved files."""

Spec = dict[str, tuple[tuple[int, ...], str]]
"""Parameter name to shape and dtype name: what every update must look like."""


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapter_of(model: torch.nn.Module) -> AdapterState:
    """A copy of the adapter in ``model``, on the CPU, sorted by name.

    A PEFT model's adapter is what PEFT saves; any other model's is its trainable parameters.
    """
    # Left to itself, PEFT asks the Hub about the base model's vocabulary each time.
    peft = isinstance(model, PeftModel)
    state = get_peft_model_state_dict(model, save_embedding_layers=False) if peft else _trainable(model)
    return {name: state[name].detach().to("cpu", copy=True).contiguous() for name in sorted(state)}


@torch.no_grad()
def load_adapter(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put ``state`` in place of the adapter in ``model``.

    Raises:
        ValueError: names or shapes are not those of the model's adapter.
    """
    if problem := check_state(state, spec_of(adapter_of(model))):
        raise ValueError(f"not an adapter of this model: {problem}")
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, dict(state))
        return
    for name, parameter in _trainable(model).items():
        parameter.copy_(state[name])


def spec_of(state: Mapping[str, torch.Tensor]) -> Spec:
    """Names, shapes and dtypes of ``state``."""
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}


def check_state(state: Mapping[str, torch.Tensor], spec: Spec) -> str | None:
    """What is wrong with ``state`` as an adapter of shape ``spec``, or None.

    Names, shapes and dtypes must match, and every value must be finite.
    """
    if missing := sorted(spec.keys() - state.keys()):
        return f"{len(missing)} tensor(s) missing, among them {missing[0]}"
    if extra := sorted(state.keys() - spec.keys()):
        return f"{len(extra)} unknown tensor(s), among them {extra[0]}"
    for name, (shape, dtype) in spec.items():
        found = (tuple(state[name].shape), str(state[name].dtype).removeprefix("torch."))
        if found != (shape, dtype):
            return f"{name} is {found[1]}{list(found[0])}, expected {dtype}{list(shape)}"
        if not torch.isfinite(state[name]).all():
            return f"{name} holds NaN or infinite values"
    return None
