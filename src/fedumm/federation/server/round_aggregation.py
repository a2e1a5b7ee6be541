"""From a round's updates to the next global adapter, and what the hosts have to be told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedumm.adapters import AdapterState, Spec
from fedumm.adapters.state import check_state, part, under
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import BackboneDelta, ClientContribution
from fedumm.aggregation.error import aggregation_error
from fedumm.aggregation.export import merged
from fedumm.aggregation.low_rank import LowRankSum
from fedumm.config import FederateConfig
from fedumm.federation.protocol.backbone_delta import pack_backbone_delta, unpack_backbone_delta
from fedumm.federation.protocol.client_view import communicated_tensors
from fedumm.federation.protocol.messages import TensorPayload
from fedumm.federation.protocol.transfer import Downlink
from fedumm.federation.server.validation import Accepted
from fedumm.privacy.mechanism import noisy_mean
from fedumm.privacy.plan import DPPlan
from fedumm.secure_aggregation.fixed_point import count_of
from fedumm.seeds import derive

_HELD, _RESIDUAL, _AGGREGATOR, _CONTROL, _CONTROL_RESIDUAL = (
    "held/", "residual/", "aggregator/", "control/", "control_residual/",
)  # fmt: skip

_WEIGHTS: dict[str, Callable[[Accepted], float]] = {
    "samples": lambda accepted: accepted.update.num_samples,
    "equal": lambda accepted: 1.0,
    "steps": lambda accepted: accepted.update.steps,
}


Report = dict[str, float | None]
"""Numbers of the record ``round``: ``aggregation_error``, and the method's own."""


@dataclass(frozen=True)
class Broadcast:
    """What hosts have to be told before they do a round.

    Attributes:
        adapter: makes the global adapter of what they hold.
        base_round: the round whose result they must hold for it; -1: any, or none.
        change: what the backbone grows by; empty, or a safetensors image.
        control: SCAFFOLD's c, like ``adapter``.
    """

    adapter: TensorPayload
    base_round: int = -1
    change: bytes = b""
    control: TensorPayload | None = None


class RoundAggregation:
    """Aggregator, wire and privacy of one run, and the global adapter as the hosts hold it.

    Args:
        spec: shapes of the global adapter.
        adapter: the first one.
        scale: its alpha / rank.
        dp: None without differential privacy.
    """

    def __init__(
        self, config: FederateConfig, spec: Spec, adapter: AdapterState, scale: float, dp: DPPlan | None
    ) -> None:
        self.config, self.spec, self.scale, self.dp = config, spec, scale, dp
        self.aggregator = get_aggregator(config.aggregator).from_config(config)
        self._downlink = Downlink(config.down, self.aggregator.supports_deltas, spec, adapter)
        zeros = {name: torch.zeros_like(t) for name, t in adapter.items()} if config.scaffold else {}
        self._control_downlink = Downlink(config.down, True, spec, zeros)
        self._grown: dict[str, LowRankSum] = {}

    @property
    def adapter(self) -> AdapterState:
        """The global adapter."""
        return self._downlink.held

    @property
    def shares_all(self) -> bool:
        """Otherwise clients keep factors of their own."""
        return self.aggregator.communicated_factors == frozenset("AB")

    def factors(self, round_number: int) -> frozenset[str]:
        """LoRA factors that are trained in a round."""
        return frozenset(self.aggregator.trainable_factors(round_number))

    def names(self, round_number: int) -> frozenset[str]:
        """Tensors that are trained in a round and travel."""
        return frozenset(
            communicated_tensors(self.spec, self.factors(round_number) & self.aggregator.communicated_factors)
        )

    def masked_size(self, round_number: int) -> int:
        """Bytes of a masked update."""
        return 4 * count_of(sorted(self.names(round_number)), self.spec)

    def first_broadcast(self) -> Broadcast:
        """For hosts of a new run: everybody starts from the first adapter as it arrives."""
        return Broadcast(self._downlink.first())

    def whole_broadcast(self) -> Broadcast:
        """For hosts of which some may hold nothing but the changes of the backbone."""
        return Broadcast(
            self._downlink.whole(), control=self._control_downlink.whole() if self.config.scaffold else None
        )

    def empty_broadcast(self, base_round: int) -> Broadcast:
        """For hosts that hold the result of ``base_round``, which is the latest."""
        return Broadcast(self._downlink.nothing(), base_round)

    def aggregate(
        self, round_number: int, accepted: Sequence[Accepted], clients: int, moves: AdapterState | None = None
    ) -> tuple[Broadcast, Report]:
        """The end of a round, of a run with ``clients`` clients.

        Args:
            moves: where updates are masked, the mean of what they moved, in float64; they are not looked at then.

        Returns:
            What hosts that began the round have to be told of its result, and numbers for the records.

        Raises:
            ValueError: the aggregator can't use the updates.
        """
        begin = self.adapter
        self.aggregator.begin(begin, self.scale, derive(self.config.seed, "aggregate", round_number))
        for contribution in self._contributions(round_number, accepted, moves):
            self.aggregator.add(contribution)
        result = self.aggregator.finish()
        change = pack_backbone_delta(result.change, self.config.down)
        # As the hosts will read it.
        received = unpack_backbone_delta(change)
        self._grow(received)
        payload = self._downlink.send(result.adapter)
        hidden = self.dp is not None or moves is not None
        error = None if hidden else self._aggregation_error(begin, accepted, received)
        control = self._next_control(accepted, clients)
        return Broadcast(payload, round_number - 1, change, control), {"aggregation_error": error, **result.report}

    def _contributions(
        self, round_number: int, accepted: Sequence[Accepted], moves: AdapterState | None
    ) -> Iterator[ClientContribution]:
        if moves is not None:
            moved = {name: self.adapter[name].double() + move for name, move in moves.items()}
            adapter = {name: t.to(self.adapter[name].dtype) for name, t in moved.items()}
            yield ClientContribution("all", adapter, 1.0, self.scale)
            return
        if self.dp and self.dp.mode == "central":
            yield ClientContribution(
                "all", self._noisy_adapter(self.names(round_number), accepted, self.dp), 1.0, self.scale
            )
            return
        yield from self._client_contributions(accepted)

    def _client_contributions(self, accepted: Sequence[Accepted]) -> Iterator[ClientContribution]:
        weight = _WEIGHTS[self.config.weights]
        for one in accepted:
            client = one.update.client
            scale = self.scale if self.config.equal_ranks else self.config.scale_of(client)
            yield ClientContribution(client, one.adapter(), weight(one), scale)

    def _noisy_adapter(self, names: frozenset[str], accepted: Sequence[Accepted], dp: DPPlan) -> AdapterState:
        """The global adapter moved by the clipped, noisy mean of all updates: all that is ever used of them."""
        start = {name: self.adapter[name] for name in sorted(names)}
        updates = ({name: t - start[name] for name, t in one.adapter().items()} for one in accepted)
        move = noisy_mean(updates, dp.clip, dp.noise_multiplier, dp.expected, start)
        return {name: t + move[name] for name, t in start.items()}

    def _aggregation_error(
        self, begin: AdapterState, accepted: Sequence[Accepted], change: BackboneDelta
    ) -> float | None:
        """None where what clients keep to themselves is part of their updates."""
        if not self.shares_all:
            return None
        return aggregation_error(
            begin, self.scale, self._client_contributions(accepted), self.adapter, self.scale, change
        )

    def _next_control(self, accepted: Sequence[Accepted], clients: int) -> TensorPayload | None:
        """SCAFFOLD's c grows by the mean change of all clients' c_k, those included that did not take part."""
        if not self.config.scaffold:
            return None
        control = {name: t.clone() for name, t in self._control_downlink.held.items()}
        for one in accepted:
            for name, change in one.control().items():
                control[name] += change / clients
        return self._control_downlink.send(control)

    def _grow(self, change: BackboneDelta) -> None:
        for module, (left, right) in change.items():
            if module not in self._grown:
                self._grown[module] = LowRankSum(left.shape[0], right.shape[1])
            self._grown[module].add(left, right)

    def _check(self, state: Mapping[str, torch.Tensor]) -> None:
        wholes = [_HELD, *([_CONTROL] if self.config.scaffold else [])]
        for prefix in (_HELD, _RESIDUAL, _CONTROL, _CONTROL_RESIDUAL):
            own = part(state, prefix)
            spec = self.spec if prefix in wholes else {name: self.spec[name] for name in own if name in self.spec}
            if problem := check_state(own, spec):
                raise ValueError(problem.text)
        for key, tensor in part(state, _AGGREGATOR).items():
            own = {key.partition(".")[2]: tensor}
            if problem := check_state(own, self.spec, partial=True, any_dtype=True):
                raise ValueError(f"the aggregator's {key} does not fit the adapter: {problem}")

    def export(self, adapter_config: Mapping[str, Any]) -> tuple[AdapterState, dict[str, Any], float]:
        """The global adapter, and what the backbone grew by, as one adapter for the backbone as it was.

        Returns:
            The adapter, its PEFT configuration, and the share of its energy that ``export_rank`` cut.
        """
        if not self.aggregator.updates_base_model:
            return self.adapter, dict(adapter_config), 0.0
        state, rank, cut = merged(self._grown, self.adapter, self.scale, self.config.export_rank)
        plain = {"r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
        return state, {**adapter_config, **plain}, cut

    def state(self) -> AdapterState:
        """All that the next round depends on, but for the changes of the backbone."""
        return (
            under(_HELD, self._downlink.held) | under(_RESIDUAL, self._downlink.residual)
            | under(_AGGREGATOR, self.aggregator.state())
            | under(_CONTROL, self._control_downlink.held) | under(_CONTROL_RESIDUAL, self._control_downlink.residual)
        )  # fmt: skip

    def load(self, state: Mapping[str, torch.Tensor], changes: Sequence[bytes]) -> None:
        """Restore what :meth:`state` gave, and the changes of the backbone until then.

        Raises:
            ValueError: they are of another adapter or aggregator, or hold NaN or infinite values.
        """
        self._check(state)
        self._downlink.held, self._downlink.residual = part(state, _HELD), part(state, _RESIDUAL)
        self._control_downlink.held, self._control_downlink.residual = (
            part(state, _CONTROL),
            part(state, _CONTROL_RESIDUAL),
        )
        self.aggregator.load(part(state, _AGGREGATOR))
        for change in changes:
            self._grow(unpack_backbone_delta(change))
