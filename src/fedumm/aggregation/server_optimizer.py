"""What FedAvgM, FedAdagrad, FedAdam and FedYogi share: the clients' mean change is a gradient for the server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult, Aggregator, ClientContribution
from fedumm.aggregation.validation import check_contribution
from fedumm.aggregation.weighted_mean import WeightedMean
from fedumm.config import AGGREGATION, AggregatorOptions, option, validators
from fedumm.lazy import torch

Moments: TypeAlias = "dict[str, torch.Tensor]"
"""Name of a moment ("m", "v") to its value for one tensor."""


class ServerOptimizer(Aggregator):
    """A step of the server along the pseudo-gradient ``Delta_t = sum_k p_k (x_k - x_t)``.

    It is taken for every tensor apart, over the clients that sent it; ``x_t`` is the adapter that the round began
    with. Computed in float64; the result is rounded to the tensor's dtype, moments to float32. A tensor that nobody
    sent keeps its value and its moments. The server holds the adapter, its moments and exact sums, whatever the
    number of clients.
    """

    default_lr: ClassVar[float]

    @dataclass(frozen=True, kw_only=True)
    class Options(AggregatorOptions):
        """``server_lr``: of 0 the method's :attr:`default_lr`. ``server_momentum``: beta_1."""

        server_lr: float = option(
            AGGREGATION, "The server's learning rate (0: the method's)", 0.0, validators.non_negative
        )
        server_momentum: float = option(AGGREGATION, "Momentum (beta 1)", 0.9, validators.probability)

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.lr = self.options.server_lr or self.default_lr
        self._moments: dict[str, Moments] = {}

    def begin(self, adapter: Mapping[str, torch.Tensor], scale: float, seed: int) -> None:
        """Keep the moments, forget the sums."""
        self._start = {name: tensor.clone() for name, tensor in adapter.items()}
        self._before = self._moments
        self._mean = WeightedMean()

    def add(self, contribution: ClientContribution) -> None:
        """Add the client's change to the sums."""
        check_contribution(contribution, self._start)
        change = {name: t.double() - self._start[name].double() for name, t in contribution.adapter.items()}
        self._mean.add(change, contribution.weight)

    def finish(self) -> AggregationResult:
        """One step; calling it again gives the same step, not another."""
        deltas = self._mean.result()
        adapter: AdapterState = {name: tensor.clone() for name, tensor in self._start.items()}
        self._moments = dict(self._before)
        for name, delta in deltas.items():
            before = {moment: value.double() for moment, value in self._of(name, delta).items()}
            step, after = self.step(delta, before)
            adapter[name] = (adapter[name].double() + step).to(adapter[name].dtype)
            self._moments[name] = {moment: value.float() for moment, value in after.items()}
        return AggregationResult(adapter)

    def _of(self, name: str, like: torch.Tensor) -> Moments:
        return self._before.get(name) or {m: torch.full_like(like, value) for m, value in self.initial().items()}

    def state(self) -> AdapterState:
        """The moments in float32: ``MOMENT.TENSOR`` to a value of the tensor's shape."""
        return {f"{m}.{name}": value for name, own in self._moments.items() for m, value in own.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with these moments."""
        moments: dict[str, Moments] = {}
        for key, value in state.items():
            moment, _, name = key.partition(".")
            moments.setdefault(name, {})[moment] = value
        if any(own.keys() != self.initial().keys() for own in moments.values()):
            raise ValueError(f"this state is not of {self.name}")
        self._moments = moments

    def initial(self) -> dict[str, float]:
        """The moments that there are, and their values before the first step."""
        return {"m": 0.0}

    @abstractmethod
    def step(self, delta: torch.Tensor, moments: Moments) -> tuple[torch.Tensor, Moments]:
        """What is added to a tensor whose pseudo-gradient is ``delta``, and its new moments; all in float64."""


class AdaptiveOptimizer(ServerOptimizer):
    """Algorithm 2 of Reddi et al. (2021, https://arxiv.org/abs/2003.00295); a method is its rule for v.

    ``m_t = beta_1 m_{t-1} + (1 - beta_1) Delta_t`` and ``x_{t+1} = x_t + lr m_t / (sqrt(v_t) + tau)`` for each
    entry, from ``m = 0`` and ``v = tau^2``. As in the paper, no bias is corrected: the first steps are short.

    A step moves no entry by much more than ``lr``. The default, 1e-3, is what AdamW moves it at a client in 10 to 20
    steps of LoRA's usual learning rates of 5e-5 to 1e-4, so a round of the server's is like one of a client's.
    """

    default_lr: ClassVar[float] = 1e-3

    @dataclass(frozen=True, kw_only=True)
    class Options(ServerOptimizer.Options):
        """``server_tau``: adaptivity; changes far below it are scaled alike."""

        server_tau: float = option(AGGREGATION, "Adaptivity (tau)", 1e-3, validators.positive)

    options: Options

    def initial(self) -> dict[str, float]:
        """``m = 0``, ``v = tau^2``."""
        return {"m": 0.0, "v": self.options.server_tau**2}

    def step(self, delta: torch.Tensor, moments: Moments) -> tuple[torch.Tensor, Moments]:
        """``lr m / (sqrt(v) + tau)``."""
        beta, tau = self.options.server_momentum, self.options.server_tau
        m = beta * moments["m"] + (1 - beta) * delta
        v = self.second_moment(moments["v"], delta**2)
        return self.lr * m / (v.sqrt() + tau), {"m": m, "v": v}

    @abstractmethod
    def second_moment(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """``v_t`` from ``v_{t-1}`` and ``Delta_t^2``."""


class DecayingOptimizer(AdaptiveOptimizer):
    """An :class:`AdaptiveOptimizer` whose v forgets at a rate of ``1 - beta_2``."""

    @dataclass(frozen=True, kw_only=True)
    class Options(AdaptiveOptimizer.Options):
        """``server_beta2``: the decay of v."""

        server_beta2: float = option(AGGREGATION, "Decay of the second moment (beta 2)", 0.99, validators.probability)

    options: Options
