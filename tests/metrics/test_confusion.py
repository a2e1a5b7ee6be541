"""The table of answers holds every pair once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fedumm.metrics.confusion import OTHER, confusion

ANSWERS = st.sampled_from(["yes", "Yes.", "no", "red", "two", "2", "a", "the", "other", ""])


@given(st.lists(st.tuples(ANSWERS, ANSWERS), max_size=30), st.integers(1, 4))
def test_every_pair_is_counted_once(pairs: list[tuple[str, str]], most: int) -> None:
    table = confusion(pairs, most)
    assert sum(map(sum, table.counts)) == len(pairs)
    assert len(set(table.labels)) == len(table.labels) <= most + 1
    rows = [sum(row) for label, row in zip(table.labels, table.counts, strict=True) if label != OTHER]
    assert rows == sorted(rows, reverse=True), "the most frequent first"
    assert all(rows), "each was right at least once"


def test_answers_are_compared_as_they_are_scored() -> None:
    pairs = [("yes", "Yes."), ("two", "2"), ("two", "cow"), ("a", "the"), ("no", "yes")]
    table = confusion(pairs)
    found = {
        (right, said): count
        for right, row in zip(table.labels, table.counts, strict=True)
        for said, count in zip(table.labels, row, strict=True)
        if count
    }
    expected = Counter([("yes", "yes"), ("2", "2"), ("2", OTHER), ("a", OTHER), ("no", "yes")])
    assert found == expected
