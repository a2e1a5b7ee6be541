"""FedProx and SCAFFOLD: the gradients they make, against the formulas; and SCAFFOLD's invariants over rounds."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedumm.training.gradient_correction import ControlVariates, Proximal

SIZE = 5


def parameters(seed: int) -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.nn.Parameter(torch.randn(SIZE, 3, generator=generator, dtype=torch.float64)) for name in ("a", "b")
    }


def quadratic(own: dict[str, torch.nn.Parameter], step: int) -> torch.Tensor:
    """A loss whose gradient differs from step to step."""
    return sum(((p * (1 + step) + 0.3) ** 2).sum() for p in own.values())  # type: ignore[return-value]


@given(st.floats(1e-3, 10.0))
def test_prox_adds_the_gradient_of_half_mu_times_the_squared_distance(mu: float) -> None:
    """The squared norm, summed over all parameters: not the norm, and not a mean."""
    own = parameters(0)
    hook = Proximal(own, mu)
    start = {name: p.detach().clone() for name, p in own.items()}
    with torch.no_grad():
        for p in own.values():
            p += 0.5
    quadratic(own, 0).backward()
    hook()
    found = {name: p.grad.clone() for name, p in own.items() if p.grad is not None}
    for p in own.values():
        p.grad = None
    penalty = sum(((p - start[name]) ** 2).sum() for name, p in own.items())
    (quadratic(own, 0) + mu / 2 * penalty).backward()
    for name, p in own.items():
        torch.testing.assert_close(found[name], p.grad)


def test_prox_leaves_alone_what_has_no_gradient() -> None:
    own = parameters(0)
    own["b"].requires_grad_(False)
    hook = Proximal(own, 1.0)
    quadratic(own, 0).backward()
    hook()
    assert own["b"].grad is None


def test_control_variates_are_the_papers_option_two_under_sgd() -> None:
    """``c_k+ = c_k - c + (x - y) / (K lr)`` after K steps ``y -= lr (g - c_k + c)``."""
    own, lr, steps = parameters(0), 0.01, 4
    start = {name: p.detach().clone() for name, p in own.items()}
    ours = {name: torch.randn(SIZE, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for name in own}
    before = {"a": torch.full((SIZE, 3), 0.2, dtype=torch.float64)}  # of b the client knows nothing yet: 0
    hook, optimizer = ControlVariates(own, ours, before), torch.optim.SGD(own.values(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        quadratic(own, step).backward()
        raw = {name: p.grad.clone() for name, p in own.items() if p.grad is not None}
        hook()
        for name, p in own.items():
            torch.testing.assert_close(p.grad, raw[name] - before.get(name, torch.zeros(())) + ours[name])
        optimizer.step()
    found = hook.mean_gradient()
    for name, p in own.items():
        expected = before.get(name, torch.zeros(())) - ours[name] + (start[name] - p.detach()) / (steps * lr)
        torch.testing.assert_close(found[name], expected)


def test_of_frozen_parameters_there_is_no_control_variate() -> None:
    own = parameters(0)
    own["b"].requires_grad_(False)
    hook = ControlVariates(own, {}, {})
    quadratic(own, 0).backward()
    hook()
    assert set(hook.mean_gradient()) == {"a"}
