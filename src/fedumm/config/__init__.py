"""Every option of the two commands, once: name, type, default, bounds, help.

The command line (``fedumm.cli``), YAML files (``--config``) and the run folder's
``config.yaml`` are all read from and written to these dataclasses.
"""

from fedumm.config.central import CentralConfig
from fedumm.config.federate import WIRES, FederateConfig
from fedumm.config.fields import (
    AGGREGATION,
    DATA,
    EXECUTION,
    FEDERATION,
    GROUPS,
    MODEL,
    PRIVACY,
    TRAINING,
    WIRE,
    field_type,
    option,
)
from fedumm.config.io import (
    CODE,
    OF_ONE_RUN,
    REPEAT,
    AnyConfig,
    command_of,
    from_mapping,
    is_ours,
    read_yaml,
    write_yaml,
)
from fedumm.config.per_client import ByClient
from fedumm.config.run import RunConfig

__all__ = [
    "AGGREGATION",
    "CODE",
    "DATA",
    "EXECUTION",
    "FEDERATION",
    "GROUPS",
    "MODEL",
    "OF_ONE_RUN",
    "PRIVACY",
    "REPEAT",
    "TRAINING",
    "WIRE",
    "WIRES",
    "AnyConfig",
    "ByClient",
    "CentralConfig",
    "FederateConfig",
    "RunConfig",
    "command_of",
    "field_type",
    "from_mapping",
    "is_ours",
    "option",
    "read_yaml",
    "write_yaml",
]
