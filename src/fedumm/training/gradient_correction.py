"""FedProx and SCAFFOLD: gradients are corrected between the backward pass and the optimiser's step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from fedumm.adapters import AdapterState

GradientHook = Callable[[], None]
"""Called once an optimiser step, when all gradients are there."""


class Proximal:
    """FedProx (Li et al., 2020, https://arxiv.org/abs/1812.06127): ``mu / 2 * sum_i (w_i - w0_i)^2`` on the loss.

    The term's gradient ``mu (w - w0)`` is added; ``w0`` is where ``parameters`` are when this is made. Parameters
    without a gradient are left alone.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], mu: float) -> None:
        self._pairs = [(p, p.detach().clone()) for p in parameters.values()]
        self._mu = mu

    @torch.no_grad()
    def __call__(self) -> None:
        """Add the term's gradient."""
        for parameter, start in self._pairs:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self._mu)


class ControlVariates:
    """SCAFFOLD (Karimireddy et al., 2020, https://arxiv.org/abs/1910.06378) at one client.

    Each step's gradient g becomes ``g - c_k + c``. The client's next c_k is the mean of the raw g over its steps.
    With SGD that is the paper's option II, ``c_k - c + (w0 - w) / (steps * lr)``; AdamW moves by another rule than
    the gradient, and the paper's convergence proof does not hold for it.

    Args:
        ours: the server's c by parameter name; missing names are 0.
        own: the client's c_k likewise.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        ours: Mapping[str, torch.Tensor],
        own: Mapping[str, torch.Tensor],
    ) -> None:
        self._parameters, self._sums, self._steps = dict(parameters), dict[str, torch.Tensor](), 0
        self._correction = {
            name: (_of(ours, name, p) - _of(own, name, p)).to(p.device) for name, p in parameters.items()
        }

    @torch.no_grad()
    def __call__(self) -> None:
        """Count the raw gradient, and correct it."""
        self._steps += 1
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(parameter)
            self._sums[name] += parameter.grad
            parameter.grad += self._correction[name]

    def mean_gradient(self) -> AdapterState:
        """The client's next c_k, of the parameters that had gradients, on the CPU."""
        return {name: (total / self._steps).to("cpu").contiguous() for name, total in sorted(self._sums.items())}


def _of(state: Mapping[str, torch.Tensor], name: str, like: torch.Tensor) -> torch.Tensor:
    return state[name].to(like.dtype) if name in state else torch.zeros(like.shape, dtype=like.dtype)
