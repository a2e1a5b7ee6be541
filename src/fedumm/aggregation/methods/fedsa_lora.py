"""FedSA-LoRA (Guo et al., 2024, https://arxiv.org/abs/2410.01463)."""

from __future__ import annotations

from typing import ClassVar

from fedumm.adapters.factors import Factor
from fedumm.aggregation.methods.fedavg import FedAvg
from fedumm.aggregation.registry import register_aggregator


@register_aggregator("fedsa_lora")
class FedSALoRA(FedAvg):
    """A is trained by all and averaged; each client trains a B of its own, which never leaves it.

    A, the paper finds, learns what clients have in common, and B what is particular to each. In the result B
    keeps the value of the round's start, and a contribution that holds a B is a ``ValueError``. Half the traffic of
    FedAvg. Server memory: as FedAvg's, for half the tensors.
    """

    communicated_factors: ClassVar[frozenset[Factor]] = frozenset({"A"})
