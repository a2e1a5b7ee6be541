"""A run gives back its folder, its rounds and its best round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedumm.errors import FedummError
from fedumm.federation.runners.in_process import run_in_process
from fedumm.federation.runners.result import RunResult
from fedumm.report.run_folder import RunFolder
from support.toy import toy_config


def test_a_run_gives_back_what_its_folder_holds(tmp_path: Path) -> None:
    config = toy_config(hosts=1, num_clients=2)
    (tmp_path / "run").mkdir()
    result = run_in_process(config, RunFolder(tmp_path / "run", config), lambda *_: None)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result.folder == tmp_path / "run"
    assert [record["round"] for record in result.rounds] == [1, 2]
    assert list(result.rounds) == [line for line in lines if line["event"] == "round"]
    assert result.best_round == next(line["best"]["round"] for line in lines if line["event"] == "summary")
    assert RunResult.read(result.folder) == result


def test_a_run_that_is_not_finished_has_no_result(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"event": "round", "round": 1}\n')
    with pytest.raises(FedummError, match="not finished"):
        RunResult.read(tmp_path)
