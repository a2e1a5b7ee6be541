"""What differential privacy means for a run by its options, and the combinations that would break it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, cast

from fedumm.errors import FedummError
from fedumm.privacy.accountant import SMALLEST_DELTA, Accountant, Mode, library, noise_for

if TYPE_CHECKING:
    from fedumm.config import FederateConfig


@dataclass(frozen=True)
class DPPlan:
    """How a run is made private.

    ``clip`` is the L2 norm C of an update, ``noise_multiplier`` sigma: the noise has standard deviation ``std`` on
    the server's sum (``central``) or on each client's update (``local``). ``sampling`` is the probability q with
    which each client takes part in a round where that counts (``central``), else 1; ``expected`` is the number n = q K
    of clients that the sum is divided by.
    """

    mode: Mode
    clip: float
    noise_multiplier: float
    delta: float
    sampling: float
    expected: float

    @property
    def std(self) -> float:
        """Standard deviation of the noise."""
        return self.noise_multiplier * self.clip

    @property
    def accountant(self) -> Accountant:
        """Says epsilon after so many rounds."""
        return Accountant(self.mode, self.noise_multiplier, self.sampling, self.delta)

    def epsilon(self, rounds: int) -> float:
        """What ``rounds`` rounds have cost."""
        return self.accountant.epsilon(rounds)

    def noise_on_mean(self, values: int) -> dict[str, float]:
        """About how long (``norm``) the noise on a round's mean update of ``values`` numbers is, and how long
        (``clip``) that update can be without it."""
        clients = self.expected if self.mode == "central" else math.sqrt(self.expected)
        return {"norm": self.std * math.sqrt(values) / clients, "clip": self.clip}


def plan_for(config: FederateConfig, linear: bool) -> DPPlan | None:
    """The plan of a run whose aggregator is ``linear`` (see :class:`fedumm.aggregation.base.Aggregator`), or None.

    Raises:
        FedummError: the options contradict each other or break the guarantee, or dp-accounting is not installed.
    """
    if problem := _contradiction(config) or (_breach(config, linear) if config.dp != "off" else None):
        raise FedummError(problem)
    if config.dp == "off":
        return None
    library()
    mode = cast(Mode, config.dp)
    sampling = _sampling(config)
    noise = config.dp_noise_multiplier or noise_for(
        config.dp_epsilon, config.dp_delta, config.num_rounds, mode, sampling
    )
    expected = float(config.clients_per_round or config.num_clients)
    return DPPlan(mode, config.dp_clip, noise, config.dp_delta, sampling, expected)


def _sampling(config: FederateConfig) -> float:
    if config.dp == "local" or not config.clients_per_round:
        return 1.0
    return config.clients_per_round / config.num_clients


def _contradiction(config: FederateConfig) -> str | None:
    """What is wrong with the options of privacy among themselves."""
    if config.dp == "off":
        given = [f.name for f in fields(config) if f.name.startswith("dp_") and getattr(config, f.name) != f.default]
        return f"--{given[0]} needs --dp central or --dp local." if given else None
    if not config.dp_epsilon and not config.dp_noise_multiplier:
        return f"--dp {config.dp} needs a goal: add --dp_epsilon (the noise follows) or --dp_noise_multiplier."
    if config.dp_epsilon and config.dp_noise_multiplier:
        return "--dp_epsilon and --dp_noise_multiplier determine each other: give one of them."
    return None


def _breach(config: FederateConfig, linear: bool) -> str | None:
    """What would break the guarantee, and what to do."""
    if config.scaffold:
        return "--scaffold sends control variates, which --dp does not cover: leave it out."
    if config.weights != "equal":
        what = "tells how much data a client has" if config.dp == "local" else "lets a client count for more"
        return f"--client_weights {config.client_weights} {what}: leave it out, or say equal."
    if config.dp == "local":  # what the server does with noisy updates reveals no more
        return None
    if not linear:
        return (
            f"--aggregator {config.aggregator} is no plain mean, so that noise can't be fitted to one client's part: "
            "use --aggregator ffa_lora or fedavg, or --dp local."
        )
    for name in ("max_update_norm", "over_norm", "min_clients"):
        if getattr(config, name) != next(f.default for f in fields(config) if f.name == name):
            return f"--{name} means nothing with --dp central: every update is clipped, and a round has whom it has."
    if config.export_dir and _sampling(config) < 1:
        return "--clients_per_round gains privacy only while nobody knows who takes part, and sites do: leave it out."
    if config.dp_delta >= 1 / config.num_clients:
        return (
            f"--dp_delta {config.dp_delta:g} promises nothing: use less than 1 / --num_clients = "
            f"{1 / config.num_clients:g}."
        )
    if _sampling(config) < 1 and config.dp_delta < SMALLEST_DELTA:
        return f"--dp_delta {config.dp_delta:g} is too small to account for sampling: use {SMALLEST_DELTA:g} or more."
    return None
