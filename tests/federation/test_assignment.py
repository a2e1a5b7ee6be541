"""Which host serves which clients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedumm.federation.assignment import balanced, natural


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 8))
def test_balancing_loses_no_client_and_keeps_its_bound(sizes: list[int], hosts: int) -> None:
    clients = {f"site-{i}": size for i, size in enumerate(sizes, 1)}
    result = balanced(clients, [f"host-{h}" for h in range(1, hosts + 1)])
    assert sorted(c for own in result.values() for c in own) == sorted(clients)
    fullest = max(sum(clients[c] for c in own) for own in result.values())
    assert fullest <= sum(sizes) / hosts + (1 - 1 / hosts) * max(sizes) + 1e-9, "Graham's bound (1966)"


def test_names_sort_by_their_numbers() -> None:
    assert sorted(["site-10", "site-2", "hospital", "site-1"], key=natural) == [
        "hospital",
        "site-1",
        "site-2",
        "site-10",
    ]
