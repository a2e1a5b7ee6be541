"""Aggregators: pure objects on adapters, knowing no network and no files. Importing this loads no torch."""

from fedumm.aggregation.registry import available_aggregators, get_aggregator, register_aggregator

__all__ = ["available_aggregators", "get_aggregator", "register_aggregator"]
