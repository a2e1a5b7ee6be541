"""Splitting one data set among simulated clients."""

from fedumm.data.partition.split import ClientShare, Partition, split_rows

__all__ = ["ClientShare", "Partition", "split_rows"]
