"""Rows held out in one place: whole images, never trained on, those that a single client would hold out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedumm.data.partition.iid import Iid
from fedumm.data.partition.split import hold_out, split_rows
from fedumm.errors import FedummError


@given(st.integers(2, 60), st.integers(2, 12), st.floats(0.01, 0.9), st.integers(0, 9))
def test_what_is_held_out_in_one_place_is_what_a_single_client_holds_out(
    rows: int, images: int, share: float, seed: int
) -> None:
    names = [f"image {row % min(rows, images)}" for row in range(rows)]
    own = hold_out(names, rows, seed=seed, holdout=share)
    labels = ["all"] * rows
    alone = split_rows(labels, names, ["site-1"], Iid(), seed=seed, holdout=share).shares["site-1"]
    assert own.train.tolist() == alone.train.tolist()
    assert own.heldout.tolist() == alone.heldout.tolist()
    assert sorted([*own.train, *own.heldout]) == list(range(rows))
    assert {names[row] for row in own.train}.isdisjoint({names[row] for row in own.heldout})


def test_nothing_is_held_out_unless_asked_and_never_all() -> None:
    assert hold_out(None, 5, seed=1, holdout=0.0).train.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(FedummError, match="--holdout"):
        hold_out(["a"] * 5, 5, seed=1, holdout=0.5)
