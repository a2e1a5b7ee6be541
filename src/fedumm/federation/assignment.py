"""Which host serves which clients."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedumm.config import FederateConfig
from fedumm.training.threads import cores, fits_one_core

_GPU_DRIVERS = ("nvidiactl", "kfd", "dxg")  # NVIDIA, AMD, Windows' subsystem for Linux


def client_names(count: int) -> list[str]:
    """``site-1`` ... ``site-K``."""
    return [f"site-{i}" for i in range(1, count + 1)]


def assign(num_clients: int, hosts: int) -> dict[str, list[str]]:
    """Deal the clients out to ``host-1`` ... ``host-N`` in turn."""
    names = client_names(num_clients)
    return {f"host-{h + 1}": names[h::hosts] for h in range(hosts)}


def layout(config: FederateConfig) -> dict[str, list[str]]:
    """The hosts of a simulation, and whom each serves: a host for each client where these have data of their own."""
    if folders := config.client_folders:
        return {name: [name] for name in sorted(folders, key=natural)}
    return assign(config.num_clients, host_count(config))


def names_of(config: FederateConfig) -> list[str]:
    """The clients of a simulation, in order."""
    return sorted(config.client_folders, key=natural) or client_names(config.num_clients)


def data_owners(config: FederateConfig) -> list[str]:
    """The clients that have data of their own here, in order; of one data set for all the empty name."""
    return names_of(config) if config.client_data else [""]


def balanced(sizes: Mapping[str, int], hosts: Sequence[str]) -> dict[str, list[str]]:
    """Deal the clients out so that hosts have about as many samples: largest first, to the least loaded.

    Graham's rule (1969): the fullest host has at most 4/3 of what the best split would give it.

    Example:
        >>> balanced({"site-1": 5, "site-2": 9, "site-3": 3}, ["host-1", "host-2"])
        {'host-1': ['site-2'], 'host-2': ['site-1', 'site-3']}
    """
    load = dict.fromkeys(hosts, 0)
    result: dict[str, list[str]] = {host: [] for host in hosts}
    for client in sorted(sizes, key=lambda name: -sizes[name]):
        host = min(hosts, key=lambda name: (load[name], len(result[name])))
        load[host] += sizes[client]
        result[host].append(client)
    return {host: sorted(own, key=natural) for host, own in result.items()}


def natural(name: str) -> tuple[str, int, str]:
    """Sort key that puts site-2 before site-10."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0), name


def host_count(config: FederateConfig) -> int:
    """Simulated host processes: ``--hosts``, or one per GPU (of ``--device_map`` one for all), or on the CPU one.

    Models that fit one core (see :mod:`fedumm.training.threads`) get a host per core. Never more
    than clients.
    """
    if config.client_data:
        return 1 if config.in_process else config.num_clients
    if config.hosts or config.in_process or config.device_map:
        return config.hosts or 1
    return max(1, min(_places(config), config.num_clients))


def _places(config: FederateConfig) -> int:
    if config.gpu not in ("", "cpu"):
        return len(config.gpu.split(","))
    if config.gpu != "cpu" and (gpus := _gpus()):
        return gpus
    return cores() if fits_one_core(config) else 1


def _gpus() -> int:
    """GPUs that torch can use. Importing it takes seconds: not done where Linux has no driver of one."""
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in _GPU_DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()
