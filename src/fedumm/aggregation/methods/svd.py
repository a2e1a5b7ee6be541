"""The best adapter of one rank for the mean of the clients' products: the family of FlexLoRA, HLoRA and FLoRIST."""

from __future__ import annotations

import math

from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult
from fedumm.aggregation.buffered import BufferedAggregator
from fedumm.aggregation.initial import initial_a
from fedumm.aggregation.low_rank import balanced, decompose, energy, share
from fedumm.aggregation.registry import register_aggregator
from fedumm.lazy import torch


@register_aggregator("svd")
class Svd(BufferedAggregator):
    """Of each module's ``D = sum_k p_k s_k B_k A_k`` the nearest matrix of the adapter's rank R.

    FlexLoRA (Bai et al., 2024, https://arxiv.org/abs/2402.11505), by QR of the stacked factors and the decomposition
    of a core of at most sum_k r_k a side. The factors are ``B = U sqrt(S / s)`` and ``A = sqrt(S / s) V^T``: their
    first r columns and rows are the best of rank r, for a client of that rank. Where D has a lower rank than R, A
    goes on with rows as at the start of training and B with zeros, since a row and a column of zeros would never be
    trained again. A module counts those that sent a factor of it, plain tensors are averaged.

    Exact but for ``energy_cut``: the share of sum S^2 over all modules that does not fit into R. Memory: K adapters.
    """

    supports_deltas = False
    unequal_ranks = True

    def finish(self) -> AggregationResult:
        """The adapter, and ``energy_cut``; the base class says more."""
        factors: AdapterState = {}
        cut, whole = [], []
        for module, (a_name, b_name), update in self.updates():
            rank = self.start[a_name].shape[0]
            u, s, vt = decompose(*update)
            factors[b_name], factors[a_name] = self._at_full_rank(
                module, a_name, *balanced(u, s / self.scale, vt, rank)
            )
            cut.append(energy(s[rank:]))
            whole.append(energy(s))
        report = {"energy_cut": share(math.fsum(cut), math.fsum(whole))}
        return AggregationResult(self.completed(factors), report=report)

    def _at_full_rank(
        self, module: str, a_name: str, b: torch.Tensor, a: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rank = a.shape[0]
        unused = initial_a(self.start[a_name], self.seed, module)[rank:]
        return torch.nn.functional.pad(b, (0, unused.shape[0])), torch.cat([a, unused.double()])
