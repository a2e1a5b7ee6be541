"""The process that starts a simulation's hosts reads their number from the run's options, without its plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedumm.config import FederateConfig, write_yaml
from fedumm.federation.assignment import layout
from fedumm.federation.runners.flare.host_process import options_of_hosts
from fedumm.report.run_folder import CONFIG
from fedumm.run_options import from_mapping, to_mapping

RUN = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 5}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"hosts": 3},
        {"gpu": "cpu"},
        {"aggregator": "krum", "krum_f": 1},
        {"model_backend": "januspro", "dataset": "shapes", "task": "unified", "partition": "task:0.5"},
        {"model_backend": "hf_vlm", "model_name_or_path": "owner/large", "device_map": "auto"},
    ],
)
def test_as_many_hosts_as_the_server_expects(more: dict[str, Any], tmp_path: Path) -> None:
    config = from_mapping(FederateConfig, {**RUN, **more, "simulator": True})
    write_yaml(to_mapping(config), tmp_path / CONFIG, "fedumm federate")
    assert layout(options_of_hosts(tmp_path)) == layout(config)


def test_a_plugins_aggregator_need_not_be_known(tmp_path: Path) -> None:
    config = to_mapping(from_mapping(FederateConfig, {**RUN, "simulator": True}))
    write_yaml({**config, "aggregator": "mine", "strength_of_mine": 2.0}, tmp_path / CONFIG, "fedumm federate")
    assert len(layout(options_of_hosts(tmp_path))) >= 1
