"""Epsilon against closed forms and brute force, its order in every argument, and noise that keeps to a target."""

from __future__ import annotations

import itertools
import math
import sys

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedumm.errors import FedummError
from fedumm.privacy.accountant import Accountant, Mode, noise_for

DELTA = 1e-5


def central(noise: float, sampling: float = 1.0, delta: float = DELTA) -> Accountant:
    return Accountant("central", noise, sampling, delta)


def gaussian_delta(sigma: float, epsilon: float) -> float:
    """Balle & Wang, 2018, equation 6 for sensitivity 1, in 50 digits: the terms cancel to 1e-15 and less."""
    with mpmath.workdps(50):
        s, e = mpmath.mpf(sigma), mpmath.mpf(epsilon)
        return float(mpmath.ncdf(1 / (2 * s) - e * s) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * s) - e * s))


def sampled_delta(sigma: float, q: float, epsilon: float) -> float:
    """Of one sampled round: where the mixture q N(1, s^2) + (1 - q) N(0, s^2) and N(0, s^2) are e^epsilon apart.

    The larger of both directions, each the mass beyond the one point where the ratio of densities is e^epsilon.
    """

    def mixture_above(x: float) -> float:
        return q * norm.sf((x - 1) / sigma) + (1 - q) * norm.sf(x / sigma)

    def point(ratio: float) -> float:  # of mixture to N(0, s^2)
        return 0.5 + sigma**2 * math.log((ratio - 1 + q) / q)

    x = point(math.exp(epsilon))
    removed = mixture_above(x) - math.exp(epsilon) * norm.sf(x / sigma)
    if math.exp(-epsilon) <= 1 - q:  # the ratio is nowhere as small
        return removed
    y = point(math.exp(-epsilon))
    return max(removed, norm.cdf(y / sigma) - math.exp(epsilon) * (1 - mixture_above(y)))


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize("rounds", [1, 7, 1000])
@pytest.mark.parametrize("noise", [0.5, 1.0, 5.0, 60.0])
def test_with_all_clients_it_is_the_closed_form_of_one_gaussian(noise: float, rounds: int, delta: float) -> None:
    """T rounds with sigma are one with sigma / sqrt(T)."""
    epsilon = central(noise, delta=delta).epsilon(rounds)
    assert gaussian_delta(noise / math.sqrt(rounds), epsilon) == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize(
    ("noise", "rounds", "epsilon"), [(1.0, 1, 4.377178), (4.0, 1, 0.926342), (10.0, 100, 4.377178)]
)
def test_worked_values(noise: float, rounds: int, epsilon: float) -> None:
    """Roots of equation 6 of Balle & Wang at delta 1e-5, by bisection in 40 digits."""
    assert central(noise).epsilon(rounds) == pytest.approx(epsilon, abs=6e-7)


@pytest.mark.parametrize("rounds", [1, 30])
@pytest.mark.parametrize("sampling", [0.1, 1.0])
def test_local_noise_counts_half_and_sampling_gains_nothing(rounds: int, sampling: float) -> None:
    epsilon = Accountant("local", 8.0, sampling, DELTA).epsilon(rounds)
    assert gaussian_delta(8.0 / 2 / math.sqrt(rounds), epsilon) == pytest.approx(DELTA, rel=1e-6)


@pytest.mark.parametrize(("noise", "q"), [(0.6, 0.1), (1.0, 0.01), (1.0, 0.5), (2.0, 0.9), (0.3, 0.2)])
def test_one_sampled_round_is_the_mass_beyond_a_point(noise: float, q: float) -> None:
    """An upper bound, and a close one."""
    epsilon = central(noise, q).epsilon(1)
    assert epsilon > 0
    assert 0.999 * DELTA < sampled_delta(noise, q, epsilon) <= DELTA


@pytest.mark.parametrize(("noise", "q"), [(1.0, 0.3), (2.0, 0.7)])
def test_two_sampled_rounds_are_the_integral_over_a_plane(noise: float, q: float) -> None:
    epsilon = central(noise, q).epsilon(2)
    x = np.linspace(-9 * noise, 1 + 9 * noise, 3001)
    without = norm.pdf(x, scale=noise)
    with_one = q * norm.pdf(x, loc=1, scale=noise) + (1 - q) * without
    area = (x[1] - x[0]) ** 2
    pairs = [(np.outer(with_one, with_one), np.outer(without, without))]
    pairs.append(pairs[0][::-1])
    deltas = [np.maximum(p - math.exp(epsilon) * q, 0).sum() * area for p, q in pairs]
    assert 0.998 * DELTA < max(deltas) <= 1.0005 * DELTA


def test_a_published_value_of_sampled_rounds() -> None:
    """Abadi et al., 2016 (arXiv 1607.00133), figure 2: q = 0.01, sigma = 4, 10,000 steps is 1.26 by moments.

    A tighter accountant says less; without its gain from sampling it would be above 100.
    """
    assert 0.9 < central(4.0, 0.01).epsilon(10_000) < 1.26


@pytest.mark.parametrize(
    ("noise", "q", "rounds"), [(1.0, 0.1, 100), (4.0, 0.01, 10_000), (2.0, 0.5, 50), (0.7, 0.2, 10)]
)
def test_it_is_below_what_renyi_accounting_says_and_not_far(noise: float, q: float, rounds: int) -> None:
    import dp_accounting

    event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
    renyi = dp_accounting.rdp.RdpAccountant().compose(dp_accounting.SelfComposedDpEvent(event, rounds))
    assert 0.75 * renyi.get_epsilon(DELTA) < central(noise, q).epsilon(rounds) < renyi.get_epsilon(DELTA)


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 10), (5.0, 100)])
def test_sampling_of_almost_all_is_about_all(noise: float, rounds: int) -> None:
    """Also: two ways of computing, that of sampled rounds and the closed form, say the same."""
    everyone = central(noise).epsilon(rounds)
    assert central(noise, 1 - 1e-9).epsilon(rounds) == pytest.approx(everyone, rel=1e-5)


@pytest.mark.parametrize(("grid", "more"), [(1e-3, True), (5e-5, False)])
def test_a_coarser_grid_of_losses_says_more_but_not_much(
    monkeypatch: pytest.MonkeyPatch, grid: float, more: bool
) -> None:
    usual = central(1.0, 0.05).epsilon(200)
    monkeypatch.setattr("fedumm.privacy.accountant._FINEST", grid)
    other = central(1.0, 0.05 + grid * 1e-10).epsilon(200)  # as good as the same q, and not in the cache
    assert (other > usual) == more
    assert other == pytest.approx(usual, rel=1e-4)


@pytest.mark.parametrize("q", [pytest.param(0.1, marks=pytest.mark.slow), 1.0])
def test_it_grows_with_rounds_and_sampling_and_falls_with_noise_and_delta(q: float) -> None:
    rounds = [central(1.0, q).epsilon(t) for t in (1, 2, 3, 10, 100, 3000)]
    noise = [central(s, q).epsilon(20) for s in (4.0, 2.0, 1.0, 0.5, 0.2, 0.05)]
    delta = [central(1.0, q, d).epsilon(20) for d in (1e-3, 1e-5, 1e-7, 1e-9)]
    for row in (rounds, noise, delta):
        assert all(a < b for a, b in itertools.pairwise(row)), row


def test_it_grows_with_sampling() -> None:
    row = [central(1.0, q).epsilon(20) for q in (0.001, 0.01, 0.1, 0.5, 0.99, 1.0)]
    assert all(a < b for a, b in itertools.pairwise(row)), row


@pytest.mark.parametrize("mode", ["central", "local"])
def test_no_round_costs_nothing_and_no_noise_everything(mode: Mode) -> None:
    assert Accountant(mode, 1.0, 0.5, DELTA).epsilon(0) == 0
    assert Accountant(mode, 0.0, 0.5, DELTA).epsilon(1) == math.inf


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("noise", "q", "rounds"), [(0.05, 0.2, 10_000), (0.01, 0.9, 10), (1.0, 0.5, 100_000)])
def test_hardly_any_noise_is_neither_slow_nor_out_of_memory(noise: float, q: float, rounds: int) -> None:
    """Nobody wants an epsilon of a thousand, but may have asked for it."""
    assert 1000 < central(noise, q).epsilon(rounds) <= central(noise).epsilon(rounds)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([0.3, 1.0, 8.0, 50.0]),
    st.sampled_from([1, 30, 2000]),
    st.sampled_from([("central", 1.0), ("central", 0.1), ("local", 1.0), ("local", 0.1)]),
    st.sampled_from([1e-5, 1e-8]),
)
def test_noise_for_a_target_is_enough_and_no_more(
    target: float, rounds: int, case: tuple[Mode, float], delta: float
) -> None:
    mode, sampling = case
    noise = noise_for(target, delta, rounds, mode, sampling)
    assert Accountant(mode, noise, sampling, delta).epsilon(rounds) <= target
    assert Accountant(mode, 0.998 * noise, sampling, delta).epsilon(rounds) > target


def test_a_missing_library_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(FedummError) as refusal:
        central(1.2345).epsilon(1)
    assert str(refusal.value) == ("Differential privacy needs the package dp-accounting: pip install 'fedumm[privacy]'")
