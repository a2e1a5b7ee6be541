#!/usr/bin/env python
"""What it costs to hide updates in their sum, for a client and for the server.

    python benchmarks/secure_sum.py

Updates of 3.5 million values in rounds of 4, 10 and 20 clients, of which none or a tenth (one at least) is lost after
all had agreed on masks. "Client" is one client's own work in a round: keys, shares, masks, and its part in taking them
off. "Server" is all of the server's work, the sum included; "plain sum" is the exact mean of the same updates as it is
made without masks. Times are the medians of three rounds in this process, on one thread. "Up" is what a client sends,
keys and shares included.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from common import Table, main
from fedumm.aggregation.weighted_mean import WeightedMean
from fedumm.config import FederateConfig
from fedumm.federation.client.masking import Masking
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask, TensorPayload
from fedumm.federation.server.masked_round import MaskedRound

VALUES, ROWS = 3_500_000, 100
SPEC = {"weight": ((VALUES // 1000, 1000), "float32")}
REPEATS = 3


class Timed:
    """Seconds, of several calls together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, do: Callable[..., Any], *given: Any) -> Any:
        start = time.perf_counter()
        result = do(*given)
        self.seconds += time.perf_counter() - start
        return result


def one_round(count: int, lost: int, folder: Path) -> tuple[float, float, float, int]:
    """Seconds of one client and of the server, of the plain sum, and bytes of one client."""
    config = FederateConfig(
        model_backend="blip_vqa", dataset="easy_vqa", num_clients=count, secure_aggregation=True, in_process=True
    )
    clients = [f"site-{n}" for n in range(1, count + 1)]
    moves = {name: {"weight": 1e-3 * torch.randn(SPEC["weight"][0])} for name in clients}
    task = RoundTask(round=1, train=True, adapter=TensorPayload("values", b""), assignments={c: [c] for c in clients})
    client, server = Timed(), Timed()
    hosts = {name: Masking(name, config, folder / name) for name in clients}
    timed: dict[str, Callable[..., Any]] = {name: lambda do, *given: do(*given) for name in clients}
    timed[clients[0]] = client
    masked = server(MaskedRound, config, task, dict.fromkeys(clients, ROWS), SPEC, ["weight"])
    request = server(masked.keys_request)
    server(masked.take_keys, {name: timed[name](own.keys, request) for name, own in hosts.items()})
    shares = server(masked.shares_request)
    told = {name: timed[name](own.shares, shares) for name, own in hosts.items()}
    server(masked.take_shares, told)
    task = server(masked.task)
    updates = []
    for name in clients[: count - lost]:
        timed[name](hosts[name].check_task, task, {name: ROWS})
        payload = timed[name](hosts[name].payload, name, moves[name], ["weight"], SPEC)
        updates.append(ClientUpdate(client=name, round=1, adapter=payload))
    requests = server(masked.unmask_requests, updates)
    answers = {u.client: timed[u.client](hosts[u.client].unmask, requests[u.client]) for u in updates}
    server(masked.take_unmasking, answers)
    assert not masked.problem, masked.problem
    plain = Timed()
    mean = WeightedMean()
    for update in updates:
        plain(mean.add, moves[update.client], float(ROWS))
    exact = plain(mean.result)["weight"]
    assert float((masked.moves["weight"] - exact).abs().max()) <= count * 2.0**-28
    size = len(updates[0].adapter) + sum(map(len, told[clients[0]].shares[clients[0]].values())) + 64 + 66 * count
    return client.seconds, server.seconds, plain.seconds, size


def run() -> list[Table]:
    torch.set_num_threads(1)
    rows = []
    for count in (4, 10, 20):
        for lost in (0, max(1, count // 10)):
            with tempfile.TemporaryDirectory() as folder:
                rounds = [one_round(count, lost, Path(folder) / f"{n}") for n in range(REPEATS)]
            client, server, plain = (median(own[i] for own in rounds) for i in range(3))
            rows.append(
                [
                    str(count), str(lost), f"{client:.2f}", f"{server:.2f}", f"{plain:.2f}", f"{server / plain:.2f}",
                    f"{rounds[0][3] / 1e6:.3f}", f"{rounds[0][3] / (4 * VALUES):.4f}",
                ]
            )  # fmt: skip
    columns = ["clients", "lost", "client s", "server s", "plain sum s", "server, x", "up MB", "up, x of float32"]
    return [Table("A round of masked updates, 3.5 million values", columns, rows)]


if __name__ == "__main__":
    main("secure_sum", __doc__, run)
