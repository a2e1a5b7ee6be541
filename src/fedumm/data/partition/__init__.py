"""Splitting one data set among simulated clients."""

from fedumm.data.partition.split import RARE, ClientShare, Partition, split_rows

__all__ = ["RARE", "ClientShare", "Partition", "split_rows"]
