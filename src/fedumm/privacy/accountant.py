"""Epsilon of a run, and the noise that keeps to one; computed by Google's dp-accounting.

The figures hold for the Gaussian mechanism on updates clipped to L2 norm C, noise of standard deviation sigma C.
"""

from __future__ import annotations

import functools
import importlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedumm.errors import FedummError

Mode = Literal["central", "local"]

SMALLEST_DELTA = 1e-9
"""Below it the Fourier transforms in the accounting of sampled rounds lose more to rounding than to be safe."""

_FINEST, _POINTS = 1e-4, 3e5  # grid of privacy losses: finest step, and about how many points at most


def library(module: str = "dp_accounting") -> Any:
    """``dp_accounting``, an optional dependency, or a module of it.

    Raises:
        FedummError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise FedummError(
            "Differential privacy needs the package dp-accounting: pip install 'fedumm[privacy]'"
        ) from None


@dataclass(frozen=True)
class Accountant:
    """(epsilon, delta) of a run whose noise has standard deviation ``noise_multiplier`` times the clipping norm.

    ``central``: the server adds the noise to the sum of the clipped updates, of which each client sends one with
    probability ``sampling``, independently (Poisson sampling) and in secret; federations are neighbours if one has
    one client more (DP-FedAvg, McMahan et al., 2018, https://arxiv.org/abs/1710.06963).

    ``local``: each client adds the noise to its own update. Neighbours are any two data sets of that client, whose
    clipped updates are up to twice the norm apart: what counts is half the multiplier. ``sampling`` gains nothing,
    as who sent an update is known.

    Example:
        >>> round(Accountant("central", noise_multiplier=5.0, sampling=1.0, delta=1e-5).epsilon(rounds=100), 2)
        10.0
    """

    mode: Mode
    noise_multiplier: float
    sampling: float
    delta: float

    def epsilon(self, rounds: int) -> float:
        """Epsilon of the adapters of ``rounds`` rounds (``local``: in which the client took part) together.

        Infinite without noise. The closed form is exact to 1e-12; with sampling it is an upper bound, 0.1 % above the
        true one at most in ordinary runs. Takes tenths of a second, and nothing when asked again.
        """
        if rounds == 0:
            return 0.0
        if self.noise_multiplier == 0:
            return math.inf
        if self.mode == "local":
            return _gaussian(self.noise_multiplier / 2, rounds, self.delta)
        if self.sampling == 1:
            return _gaussian(self.noise_multiplier, rounds, self.delta)
        return _sampled_gaussian(self.noise_multiplier, self.sampling, rounds, self.delta)


def noise_for(epsilon: float, delta: float, rounds: int, mode: Mode, sampling: float) -> float:
    """The smallest noise multiplier, to 0.1 %, that keeps to ``epsilon`` after ``rounds``; never too small.

    See :class:`Accountant`. A few seconds at most.
    """
    from scipy import optimize  # half a second that a run without privacy need not wait

    def excess(log_noise: float) -> float:
        return Accountant(mode, math.exp(log_noise), sampling, delta).epsilon(rounds) - epsilon

    # What is enough without sampling, which only gains: but for rounding, which may want a little more.
    high = math.log(library().get_sigma_gaussian(epsilon, delta) * math.sqrt(rounds) * (2 if mode == "local" else 1))
    while excess(high) > 0:
        high += 3e-4
    low = high - 0.5
    while excess(low) <= 0:
        high, low = low, low - 0.5
    noise = optimize.brentq(excess, low, high, xtol=3e-4)
    while excess(noise) > 0:  # the root is met from either side
        noise += 3e-4
    return math.exp(noise)


@functools.lru_cache(maxsize=1024)
def _gaussian(noise: float, rounds: int, delta: float) -> float:
    """Rounds without sampling are one with less noise; its epsilon by Balle & Wang, 2018, arXiv 1805.06530."""
    return float(library().get_epsilon_gaussian(noise / math.sqrt(rounds), delta))


@functools.lru_cache(maxsize=1024)
def _sampled_gaussian(noise: float, sampling: float, rounds: int, delta: float) -> float:
    """By privacy loss distributions, pessimistic (Doroshenko et al., 2022, https://arxiv.org/abs/2207.04380)."""
    step = _one_round(noise, sampling, _grid(noise, sampling, rounds))
    return float(step.self_compose(rounds).get_epsilon_for_delta(delta))


@functools.lru_cache(maxsize=8)
def _one_round(noise: float, sampling: float, interval: float) -> Any:
    distributions = library("dp_accounting.pld.privacy_loss_distribution")
    return distributions.from_gaussian_mechanism(
        noise, sampling_prob=sampling, value_discretization_interval=interval, use_connect_dots=True
    )


def _grid(noise: float, sampling: float, rounds: int) -> float:
    """Step of the grid of losses: coarser, in powers of two, where losses are so large that it would fill the memory.

    They reach to about the sum of the rounds' means, which the convexity of the KL divergence and log(1 + chi^2) bound,
    and the largest loss of one round.
    """
    energy = noise**-2
    chi = float(np.logaddexp(math.log1p(-(sampling**2)), energy + 2 * math.log(sampling)))
    reach = rounds * min(sampling / 2 * energy, chi) + energy / 2 + 10 / noise
    return float(_FINEST * 2 ** max(0, math.ceil(math.log2(reach / _POINTS / _FINEST))))
