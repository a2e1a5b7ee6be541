"""FedEx-LoRA (Singhal et al., 2024, https://arxiv.org/abs/2410.09432): factor means, and what they miss."""

from __future__ import annotations

from fedumm.aggregation.base import AggregationResult, BackboneDelta
from fedumm.aggregation.buffered import BufferedAggregator
from fedumm.aggregation.ideal import mean
from fedumm.aggregation.low_rank import LowRank, balanced, decompose, product_norm, rank_within, rounding, stack
from fedumm.aggregation.registry import register_aggregator
from fedumm.lazy import torch


def _within(update: LowRank, loss: float, dtype: torch.dtype) -> LowRank | None:
    """``update`` at the lowest rank that errs by at most ``loss``, in ``dtype``; None: that is rank 0."""
    u, s, vt = decompose(*update)
    rank = rank_within(s, loss)
    left, right = balanced(u, s, vt, rank)
    return (left.to(dtype).contiguous(), right.to(dtype).contiguous()) if rank else None


@register_aggregator("fedex_lora")
class FedExLoRA(BufferedAggregator):
    """The weighted means of A and of B, and ``W0 += sum_k p_k s_k B_k A_k - s mean(B) mean(A)``: exact.

    The means are averaged by tensor over those that sent it, rounded to the adapter's dtype, and the residual is
    against them as rounded. Means that are not rounded leave ``sum_k p_k s (B_k - mean(B)) (A_k - mean(A))`` of
    rank (K - 1) r, and rounding adds up to 2 r of no weight: the residual goes out at the lowest rank that errs by
    less than float32 does (2^-23 of the ideal update). Equal ranks; scales may differ. Memory: K adapters.
    """

    updates_base_model = True

    def finish(self) -> AggregationResult:
        """The means, and the residual of modules that have one; the base class says more."""
        means = {name: mean(self.parts(), name) for name in self.start}
        adapter = self.completed({name: tensor for name, tensor in means.items() if tensor is not None})
        change: BackboneDelta = {}
        for module, (a_name, b_name), update in self.updates():
            dtype = adapter[b_name].dtype
            residual = stack([(1.0, *update), (-self.scale, adapter[b_name], adapter[a_name])])
            if kept := _within(residual, rounding(dtype) * product_norm(*update), dtype):
                change[module] = kept
        return AggregationResult(adapter, change)
