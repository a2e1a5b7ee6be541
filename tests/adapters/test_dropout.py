"""The quick dropout of LoRA layers is dropout."""

from __future__ import annotations

import pytest
import torch

from fedumm.adapters.dropout import QuickDropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_drops_each_element_with_its_probability_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    count = 400_000
    out = QuickDropout(p)(torch.ones(4, count // 4))
    dropped = (out == 0).float().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / count) ** 0.5
    assert out[out != 0].unique().tolist() == [pytest.approx(1 / (1 - p), rel=1e-4)]
    # All four places of a 64-bit draw, and neighbours, are independent.
    flat = (out.flatten() == 0).float()
    for place in range(4):
        assert flat[place::4].mean().item() == pytest.approx(p, abs=0.01)
    assert (flat[1:] * flat[:-1]).mean().item() == pytest.approx(p * p, abs=0.01)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 13, requires_grad=True)
    out = QuickDropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(out, x * x.grad)
    assert set(x.grad.unique().tolist()) == {0.0, 2.0}


def test_does_nothing_in_evaluation_or_at_zero() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(QuickDropout(0.3).eval()(x), x)
    assert torch.equal(QuickDropout(0.0)(x), x)


def test_equal_seeds_drop_the_same() -> None:
    x = torch.randn(11, 17)
    torch.manual_seed(4)
    first = QuickDropout(0.2)(x)
    torch.manual_seed(4)
    assert torch.equal(QuickDropout(0.2)(x), first)
