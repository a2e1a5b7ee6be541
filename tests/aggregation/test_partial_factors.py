"""Methods that train or share one factor: which, in which round, and what becomes of the other."""

from __future__ import annotations

import pytest
import torch

from fedumm.aggregation.base import ClientContribution
from fedumm.aggregation.methods.fedsa_lora import FedSALoRA
from fedumm.aggregation.methods.ffa_lora import FFALoRA
from fedumm.aggregation.methods.rolora import RoLoRA

A, B, BIAS = "0.lora_A.weight", "0.lora_B.weight", "head.bias"
START = {A: torch.tensor([[1.0, 2.0, 3.0]]), B: torch.tensor([[4.0], [5.0]]), BIAS: torch.tensor([6.0])}


def test_ffa_lora_trains_b_in_every_round() -> None:
    assert {FFALoRA().trainable_factors(number) for number in range(1, 7)} == {frozenset("B")}
    assert FFALoRA.communicated_factors == frozenset("AB")


def test_rolora_trains_b_first_and_then_takes_turns() -> None:
    assert ["".join(RoLoRA().trainable_factors(number)) for number in range(1, 7)] == ["B", "A", "B", "A", "B", "A"]


def test_fedsa_lora_trains_both_and_shares_a() -> None:
    assert (FedSALoRA().trainable_factors(1), FedSALoRA.communicated_factors) == (frozenset("AB"), frozenset("A"))


@pytest.mark.parametrize("method", [FFALoRA, RoLoRA])
@pytest.mark.parametrize(("trained", "kept"), [(A, B), (B, A)])
def test_the_factor_that_nobody_trained_stays(method: type[FFALoRA | RoLoRA], trained: str, kept: str) -> None:
    """(3 * 2x + 1 * -2x) / 4 = x."""
    aggregator = method()
    aggregator.begin(START, scale=2.0, seed=0)
    aggregator.add(ClientContribution("site-1", {trained: 2 * START[trained], BIAS: torch.tensor([1.0])}, 3))
    aggregator.add(ClientContribution("site-2", {trained: -2 * START[trained], BIAS: torch.tensor([5.0])}, 1))
    adapter = aggregator.finish().adapter
    assert torch.equal(adapter[trained], START[trained])
    assert torch.equal(adapter[kept], START[kept])
    assert adapter[BIAS].tolist() == [2.0]


def test_fedsa_lora_delivers_the_mean_of_a_and_the_b_that_there_was() -> None:
    aggregator = FedSALoRA()
    aggregator.begin(START, scale=2.0, seed=0)
    aggregator.add(ClientContribution("site-1", {A: torch.tensor([[3.0, 6.0, 9.0]])}, 1))
    aggregator.add(ClientContribution("site-2", {A: torch.tensor([[0.0, 3.0, 3.0]])}, 2))
    adapter = aggregator.finish().adapter
    assert adapter[A].tolist() == [[1.0, 4.0, 5.0]]
    assert torch.equal(adapter[B], START[B])


def test_fedsa_lora_refuses_a_b_which_should_never_have_left_its_client() -> None:
    aggregator = FedSALoRA()
    aggregator.begin(START, scale=2.0, seed=0)
    aggregator.add(ClientContribution("site-1", {A: torch.ones(1, 3)}, 1))
    with pytest.raises(ValueError, match=r"0\.lora_B\.weight was not to be sent"):
        aggregator.add(ClientContribution("site-2", {A: torch.zeros(1, 3), B: torch.ones(2, 1)}, 1))
    assert aggregator.finish().adapter[A].tolist() == [[1.0, 1.0, 1.0]]
