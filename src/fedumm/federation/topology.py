"""Which host serves which clients."""

from __future__ import annotations

from fedumm.config import FederateConfig
from fedumm.errors import FedummError


def client_names(count: int) -> list[str]:
    """``site-1`` ... ``site-K``."""
    return [f"site-{i}" for i in range(1, count + 1)]


def assign(num_clients: int, hosts: int) -> dict[str, list[str]]:
    """Deal the clients out to ``host-1`` ... ``host-N`` in turn."""
    names = client_names(num_clients)
    return {f"host-{h + 1}": names[h::hosts] for h in range(hosts)}


def host_count(config: FederateConfig) -> int:
    """``--hosts``, or one per GPU (at most one per client), or 1 on the CPU.

    Raises:
        FedummError: more hosts than clients.
    """
    if config.hosts > config.num_clients:
        raise FedummError(f"--hosts {config.hosts} is more than --num_clients {config.num_clients}.")
    if config.hosts:
        return config.hosts
    if config.gpu == "cpu":
        return 1
    if config.gpu:
        return min(len(config.gpu.split(",")), config.num_clients)
    import torch

    return max(1, min(torch.cuda.device_count(), config.num_clients))
