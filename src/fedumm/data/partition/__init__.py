"""Splitting one data set among simulated clients. :mod:`fedumm.data.partition.split` does the work."""

from fedumm.data.partition.base import Partitioner
from fedumm.data.partition.registry import PARTITIONERS, partitioner_for, register_partitioner

__all__ = ["PARTITIONERS", "Partitioner", "partitioner_for", "register_partitioner"]
