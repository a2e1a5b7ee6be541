"""``--plugin``: names that a file registers are good for every command, before its flags are checked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fedumm.cli.main import run
from fedumm.cli.new import write

PLUGIN = """
from datasets import Dataset
from PIL import Image
from fedumm.data import DataSplits, register_source
from fedumm.data.partition import Partitioner, register_partitioner
import numpy as np

def rows(count):
    return Dataset.from_dict({
        "question": ["what?"] * count, "multiple_choice_answer": ["a"] * count, "answers": [["a"]] * count,
        "image": [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(count)], "answer_type": ["other"] * count,
    })

@register_source("lines")
def lines(request):
    return DataSplits(rows(41), rows(5))

@register_partitioner("blocks")
class Blocks(Partitioner):
    def __init__(self, first):
        self.first = first

    @classmethod
    def from_config(cls, config, argument):
        return cls(int(argument))

    def owners(self, train, held, num_clients, rng):
        owner = np.ones(len(train), int)
        owner[: self.first] = 0
        return owner, np.zeros(len(held), int)
"""
SPLIT = ["--dataset", "lines", "--partition", "blocks:7", "--task", "vqa"]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    return "mine.py"


def test_a_source_and_a_partitioner_of_a_users_own_are_shown(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("partition", ["--plugin", plugin, *SPLIT], "fedumm partition") == 0
    out = capsys.readouterr().out
    assert "Split: blocks. Counted: training samples by answer_type" in " ".join(out.split())
    rows = [re.findall(r"[\w-]+", line) for line in out.splitlines() if "site-" in line]
    # Of the 4 rows that are held out, the second client, which has none by the file, is given one.
    assert rows == [["site-1", "7", "7", "3"], ["site-2", "30", "30", "1"]]
    assert Path("partition.png").stat().st_size


@pytest.mark.parametrize("command", ["federate", "partition"])
def test_without_the_file_the_name_is_unknown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    runner = ["--model_backend", "januspro", "--in_process"] if command == "federate" else []
    assert run(command, ["--dataset", "shapes", "--partition", "blocks:7", *runner], command) == 2
    error = capsys.readouterr().err
    assert "Unknown partitioner 'blocks'. Available: dirichlet, iid, task." in error
    assert "--plugin FILE" in error


@pytest.mark.parametrize("command", ["federate", "train", "download", "partition", "ask", "draw", "geneval", "schema"])
def test_every_command_takes_it(command: str, plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["--plugin", plugin, "--help"], f"fedumm {command}") == 0
    assert "--plugin" in capsys.readouterr().out


def test_a_bad_file_is_told_before_a_bad_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("federate", ["--num_clients", "x", "--plugin", str(tmp_path / "no.py")], "job.py") == 2
    assert "no.py: no such file." in capsys.readouterr().err


def test_the_schema_has_the_options_of_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, _ = write("aggregator", "nearby", tmp_path)
    assert run("schema", ["--plugin", str(plugin)], "fedumm schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["nearby_width"]["default"] == 3.0
    assert "nearby" in schema["properties"]["aggregator"]["enum"]
