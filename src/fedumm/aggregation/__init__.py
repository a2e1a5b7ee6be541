"""Aggregators: pure objects on adapters, knowing no network and no files."""

from fedumm.aggregation.fedavg import FedAvg

__all__ = ["FedAvg"]
