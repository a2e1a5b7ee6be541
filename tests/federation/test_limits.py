"""Which norms of updates are believed, against the formula by brute force, and that no honest client is rejected."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedumm.adapters import spec_of
from fedumm.federation.protocol.messages import ClientUpdate
from fedumm.federation.server.outliers import OUTLIER, limits
from fedumm.federation.server.validation import Accepted, Expected

A = {"x.lora_A.weight": torch.zeros(16, 64)}


def accepted(client: str, steps: int, norm: float) -> Accepted:
    """An update of 1,024 values."""
    expected = Expected(1, spec_of(A), frozenset(A), A, 10, 5, {"vqa": 10}, steps, "float32", 1.0)
    return Accepted(ClientUpdate(client=client, round=1, steps=steps), expected, norm)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 100.0)), min_size=2, max_size=7))
def test_three_times_the_upper_median_of_what_the_others_suggest(clients: list[tuple[int, float]]) -> None:
    found = limits([accepted(str(k), steps, norm) for k, (steps, norm) in enumerate(clients)], 0.0, lr=1e-9)
    for k, (steps, _) in enumerate(clients):
        others = [norm if own > steps else norm * steps / own for j, (own, norm) in enumerate(clients) if j != k]
        assert found[str(k)] == pytest.approx(OUTLIER * sorted(others)[len(others) // 2])


def test_a_client_is_believed_what_its_steps_can_do_however_little_the_others_moved() -> None:
    """A alone, from B = 0: one step moves it by the weight decay only, two move it in earnest."""
    lr, decay = 1e-3, 1e-3 * 0.05 * 0.7
    moved = 0.9 * lr * math.sqrt(1024)
    round_ = [accepted("one", 1, decay), accepted("another", 1, decay), accepted("two", 2, moved)]
    found = limits(round_, 0.0, lr)
    assert OUTLIER * 2 * decay < moved <= found["two"] == pytest.approx(2 * lr * 32)
    assert limits([*round_, accepted("far", 2, 1e3)], 0.0, lr)["far"] < 1


def test_a_given_limit_holds_for_all() -> None:
    assert limits([accepted("a", 1, 1.0), accepted("b", 9, 1.0)], 0.5, lr=1.0) == {"a": 0.5, "b": 0.5}


def test_one_client_has_nothing_to_be_compared_with() -> None:
    assert limits([accepted("a", 1, 1.0)], 0.0, lr=1e-3) == {"a": math.inf}
