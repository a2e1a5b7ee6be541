"""A round of clients with LoRA adapters, and what it comes to by dense matrices in numpy's float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from fedumm.adapters import AdapterState
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import AggregationResult, ClientContribution

RANK, SCALE = 4, 1.5
# (out, in): wide, tall, narrower than the rank, and with A and B of one shape.
SHAPES = {"wide": (7, 20), "tall": (12, 9), "narrow": (5, 3), "same": (4, 4)}
Dense = dict[str, np.ndarray]


def adapter(seed: int, rank: int = RANK, dtype: torch.dtype = torch.float32) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    state = {"head.bias": torch.randn(6, generator=generator).to(dtype)}
    for module, (out, into) in SHAPES.items():
        state[f"{module}.lora_A.weight"] = torch.randn(rank, into, generator=generator).to(dtype)
        state[f"{module}.lora_B.weight"] = torch.randn(out, rank, generator=generator).to(dtype)
    return state


def clients(
    ranks: Sequence[int], weights: Sequence[float], alphas: Sequence[float], dtype: torch.dtype = torch.float32
) -> list[ClientContribution]:
    """Clients site-1, site-2, ... with adapters from seeds 1, 2, ..."""
    cases = enumerate(zip(ranks, weights, alphas, strict=True), start=1)
    return [ClientContribution(f"site-{k}", adapter(k, r, dtype), w, alpha / r) for k, (r, w, alpha) in cases]


def without(contribution: ClientContribution, *endings: str) -> ClientContribution:
    """It, but for the tensors whose names end so."""
    kept = {name: t for name, t in contribution.adapter.items() if not name.endswith(endings)}
    return ClientContribution(contribution.client, kept, contribution.weight, contribution.scale)


def aggregate(
    name: str,
    begin: Mapping[str, torch.Tensor],
    parts: Iterable[ClientContribution],
    scale: float = SCALE,
    seed: int = 0,
) -> AggregationResult:
    method = get_aggregator(name)()
    method.begin(begin, scale, seed)
    for part in parts:
        method.add(part)
    return method.finish()


def array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.double().numpy())


def product(state: Mapping[str, torch.Tensor], module: str, scale: float) -> np.ndarray:
    return scale * array(state[f"{module}.lora_B.weight"]) @ array(state[f"{module}.lora_A.weight"])


def dense_mean(parts: Sequence[ClientContribution], modules: Iterable[str] = SHAPES) -> Dense:
    """``sum_k p_k s_k B_k A_k`` of clients that sent everything."""
    total = sum(part.weight for part in parts)
    return {m: sum(p.weight / total * product(p.adapter, m, p.scale) for p in parts) for m in modules}


def delivered(delivery: AggregationResult, scale: float = SCALE) -> Dense:
    """What is added to the frozen weights by the time the next round starts."""
    result = {module: product(delivery.adapter, module, scale) for module in SHAPES}
    for module, (left, right) in delivery.change.items():
        result[module] = result[module] + array(left) @ array(right)
    return result


def distance(found: Dense, expected: Dense) -> float:
    """Relative, over all modules."""
    missed = sum(float(((found[m] - expected[m]) ** 2).sum()) for m in expected)
    return float(np.sqrt(missed / sum(float((expected[m] ** 2).sum()) for m in expected)))


def best_of_rank(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray((u[:, :rank] * s[:rank]) @ vt[:rank])


def same_bits(first: AggregationResult, second: AggregationResult) -> bool:
    pairs = [(t, second.adapter[name]) for name, t in first.adapter.items()]
    pairs += [(t, u) for m, pair in first.change.items() for t, u in zip(pair, second.change[m], strict=True)]
    return first.report == second.report and all(torch.equal(t, u) for t, u in pairs)
