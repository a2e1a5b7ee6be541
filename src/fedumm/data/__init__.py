"""Data sources, canonical columns and partitioning. Cheap to import: libraries load when data do."""

from fedumm.data.picture import read_image
from fedumm.data.request import DataRequest, DataSplits, Source
from fedumm.data.source import available_sources, load_data, register_source

__all__ = [
    "DataRequest",
    "DataSplits",
    "Source",
    "available_sources",
    "load_data",
    "read_image",
    "register_source",
]
