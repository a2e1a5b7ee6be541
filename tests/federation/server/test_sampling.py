"""Who trains in a round."""

from __future__ import annotations

from fedumm.federation.server.sampling import uniform_sampler


def test_the_sampler_draws_without_replacement_and_evenly() -> None:
    roster = [f"site-{i}" for i in range(1, 11)]
    sample = uniform_sampler(3, seed=5)
    drawn = [sample(n, roster) for n in range(1, 1001)]
    assert all(len(set(d)) == 3 and d == sorted(d, key=roster.index) for d in drawn)
    counts = [sum(name in d for d in drawn) for name in roster]
    assert all(240 < c < 360 for c in counts), "300 expected, standard deviation 14.5"
    assert drawn == [uniform_sampler(3, seed=5)(n, roster) for n in range(1, 1001)]
    assert uniform_sampler(0, seed=5)(1, roster) == roster
