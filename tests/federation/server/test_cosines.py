"""The cosine between a client's update and the others', in ``metrics.jsonl``: right, and only where it may be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.federation.protocol.transfer import unpack_update
from fedumm.report.run_folder import read_records
from support.toy import Driven, lora_options, toy_config

CLIENTS = {"host-1": ["site-1", "site-2", "site-3"]}


def told(run: Driven) -> dict[tuple[int, str], Any]:
    return {(r["round"], r["client"]): r["cosine"] for r in read_records(run.folder) if r["event"] == "client"}


def test_it_is_that_of_float64_between_each_update_and_the_sum_of_the_others_directions(tmp_path: Path) -> None:
    config = toy_config(**lora_options())
    run = Driven(tmp_path / "run", CLIENTS, config)
    # The first round of the same run has the adapter that the second one starts from.
    first = Driven(tmp_path / "first", CLIENTS, toy_config(**lora_options(num_rounds=1))).server.aggregation
    start, spec = first.adapter, first.spec
    task, updates = run.rounds[1]
    assert task.round == 2
    rows = {}
    for client, update in updates.items():
        state = unpack_update(start, update.adapter, config.up, config.top_k, spec)
        rows[client] = torch.cat([(t.double() - start[n].double()).flatten() for n, t in sorted(state.items())])
    for client, own in rows.items():
        rest = sum(row / row.norm() for name, row in rows.items() if name != client)
        assert isinstance(rest, torch.Tensor)
        assert told(run)[2, client] == pytest.approx(float(own @ rest / (own.norm() * rest.norm())), abs=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"dp": "central", "dp_noise_multiplier": 1.0},
        {"dp": "local", "dp_noise_multiplier": 1.0},
        {"lora_r": "4,site-1=2", "aggregator": "svd"},
    ],
    ids=["central", "local", "ranks"],
)
def test_it_is_not_told_with_noise_or_without_common_directions(options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    run = Driven(tmp_path / "run", CLIENTS, toy_config(**lora_options(**{"num_rounds": 1, **options})))
    cosines = told(run)
    assert len(cosines) == 3
    assert set(cosines.values()) == {None}
