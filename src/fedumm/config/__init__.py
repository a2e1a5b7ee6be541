"""Every option of the two commands, once: name, type, default, bounds, help.

The command line (``fedumm.cli``), YAML files (``--config``) and the run folder's
``config.yaml`` are all read from and written to these dataclasses. What belongs to one method alone is in a dataclass
of its own (``Options`` of an aggregator's class): :mod:`fedumm.run_options` puts both into one mapping.
"""

from fedumm.config import validators
from fedumm.config.aggregator import AggregatorOptions
from fedumm.config.central import CentralConfig
from fedumm.config.federate import FederateConfig
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
    Options,
    option,
    option_fields,
    option_types,
)
from fedumm.config.io import (
    CODE,
    OF_ONE_RUN,
    REPEAT,
    AnyConfig,
    build,
    command_of,
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
    "AggregatorOptions",
    "AnyConfig",
    "ByClient",
    "CentralConfig",
    "FederateConfig",
    "Options",
    "RunConfig",
    "build",
    "command_of",
    "is_ours",
    "option",
    "option_fields",
    "option_types",
    "read_yaml",
    "validators",
    "write_yaml",
]
