"""What aggregators share that need each client's factors, and so hold a round's contributions until its end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain

from fedumm.adapters.factors import factor_of, modules_of, spec_at_rank
from fedumm.adapters.state import AdapterState, Spec, check_state, spec_of
from fedumm.aggregation.base import Aggregator, ClientContribution
from fedumm.aggregation.ideal import by_client, ideal_update, mean
from fedumm.aggregation.low_rank import LowRank
from fedumm.config import AggregatorOptions
from fedumm.lazy import torch


class BufferedAggregator(Aggregator):
    """Holds what is added, and takes it up sorted by client at the end.

    Memory: K adapters as they were sent, and one module's factors in float64. Contributions are not copied: their
    tensors must stay as they are until the round's end.
    """

    linear = False

    def __init__(self, options: AggregatorOptions | None = None) -> None:
        super().__init__(options)
        self.start: AdapterState = {}
        self.scale, self.seed = 1.0, 0
        self._held: dict[str, ClientContribution] = {}

    def begin(self, adapter: Mapping[str, torch.Tensor], scale: float, seed: int) -> None:
        """Start a round."""
        self.start, self.scale, self.seed, self._held = dict(adapter), scale, seed, {}

    def add(self, contribution: ClientContribution) -> None:
        """Hold one client's part.

        Raises:
            ValueError: a weight or scale that is not positive and finite, a second part of one client, a tensor that
                the adapter does not have or of a shape that it does not allow, NaN or an infinite value.
        """
        for problem in self._problems(contribution):
            raise ValueError(f"{contribution.client}: {problem}")
        self._held[contribution.client] = contribution

    def parts(self) -> list[ClientContribution]:
        """What was added, sorted by client.

        Raises:
            ValueError: nothing was added.
        """
        if not self._held:
            raise ValueError("no update to average")
        return by_client(self._held.values())

    def updates(self) -> Iterator[tuple[str, tuple[str, str], LowRank]]:
        """Each module that somebody sent, the names of its A and B, and its ideal update; one at a time."""
        parts = self.parts()
        for module, names in modules_of(self.start).items():
            if update := ideal_update(self.start, self.scale, parts, names):
                yield module, names, update

    def completed(self, factors: Mapping[str, torch.Tensor]) -> AdapterState:
        """An adapter of ``factors`` and the weighted means of plain tensors; the rest is as the round began."""
        parts, paired = self.parts(), set(chain.from_iterable(modules_of(self.start).values()))
        result: AdapterState = {}
        for name, tensor in self.start.items():
            new = factors.get(name) if name in paired else mean(parts, name)
            result[name] = tensor.clone() if new is None else new.to(tensor.dtype).contiguous()
        return result

    def _problems(self, contribution: ClientContribution) -> Iterator[str]:
        sent = contribution.adapter
        for what, value in (("weight", contribution.weight), ("scale", contribution.scale)):
            if not 0 < value < math.inf:
                yield f"{what} must be positive and finite, not {value}"
        if contribution.client in self._held:
            yield "added twice"
        if misfit := check_state(sent, self._spec_for(sent), partial=True, any_dtype=True):
            yield misfit.text
        for a, b in modules_of(sent).values():
            if sent[a].shape[0] != sent[b].shape[1]:
                yield f"{a} and {b} are of different ranks"

    def _spec_for(self, sent: Mapping[str, torch.Tensor]) -> Spec:
        """What a contribution may hold: the adapter's tensors, where ranks may differ each factor at its own."""
        spec = spec_of(self.start)
        for name in (sent.keys() & spec.keys()) if self.unequal_ranks else ():
            if factor := factor_of(name):
                spec |= spec_at_rank({name: spec[name]}, sent[name].shape[0 if factor == "A" else -1])
        return spec
