"""The options that only one aggregator has."""

from __future__ import annotations

from dataclasses import dataclass

from fedumm.config.fields import Options


@dataclass(frozen=True, kw_only=True)
class AggregatorOptions(Options):
    """Base of what an aggregator's class calls ``Options``; by itself, no options.

    Each field is a flag of the command line and a line of ``config.yaml``, by its own name.

    Example:
        >>> from fedumm.config import AGGREGATION, AggregatorOptions, option, validators
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Options(AggregatorOptions):
        ...     trim_ratio: float = option(AGGREGATION, "Share cut off at each end", 0.2, validators.below_half)
        >>> Options().trim_ratio
        0.2
    """

    def check(self, clients: int) -> None:
        """Whether the options make sense in rounds of ``clients``.

        Raises:
            FedummError: they do not.
        """
