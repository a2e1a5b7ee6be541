"""Runs that were stopped, however that happened, and went on: the same bits and records as one that never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import JOB, federate, flags, prepare, records, results
from fedumm.federation.checkpoint import Checkpoint
from fedumm.federation.host import Host
from fedumm.federation.messages import Message, RoundTask
from fedumm.report.run_folder import create, read_records
from processes import processes_of, wait_for
from toy import lora_options, toy_config

CASES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {"aggregator": "fedadam"},
    "fedsa_lora": {"aggregator": "fedsa_lora", "clients_per_round": 1},
    "scaffold": {"scaffold": True, "wire": "int8"},
    "flora": {"aggregator": "flora", "wire_down": "int8"},
    "residuals": {"wire": "int8", "top_k": 0.3, "clients_per_round": 2},
}


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


class Stop:
    """Stops a run with Ctrl-C's exception.

    ``in_round``: when the hosts have answered that round's task. ``while_saving``: when everything of that round is
    written but the checkpoint.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, in_round: int = 0, while_saving: int = 0) -> None:
        handle, save = Host.handle, Checkpoint.save

        def handled(host: Host, message: Message) -> Message:
            answer = handle(host, message)
            if isinstance(message, RoundTask) and message.round == in_round:
                raise KeyboardInterrupt
            return answer

        def saved(checkpoint: Checkpoint, tensors: Any, facts: Any) -> None:
            if facts["round"] == while_saving:
                raise KeyboardInterrupt
            save(checkpoint, tensors, facts)

        self._patches = {(Host, "handle"): handled, (Checkpoint, "save"): saved}
        self._monkeypatch = monkeypatch

    def during(self, call: Callable[[], int]) -> None:
        with self._monkeypatch.context() as patch:
            for (owner, name), function in self._patches.items():
                patch.setattr(owner, name, function)
            assert call() == 130


@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_twice_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert federate(*flags(straight, **CASES[case])) == 0
    Stop(monkeypatch, in_round=2).during(lambda: federate(*flags(stopped, **CASES[case])))
    Stop(monkeypatch, while_saving=3).during(lambda: federate("--resume", stopped))
    assert [r["round"] for r in read_records(stopped) if r["event"] == "round"] == [1, 2, 3], "written but not saved"
    assert federate("--resume", stopped) == 0
    assert results(stopped) == results(straight)
    assert records(stopped) == records(straight)
    assert [r["round"] for r in read_records(stopped) if r["event"] == "resumed"] == [1, 2]


def killed_in_round_two(folder: Path, step_seconds: float, **options: Any) -> None:
    """A run whose process gets SIGKILL as soon as its first round is saved."""
    child = subprocess.Popen(
        [sys.executable, str(JOB), *flags(folder, **options)], cwd=folder.parent,
        env={**os.environ, "TOY_STEP_SECONDS": str(step_seconds)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with child:
        wait_for(lambda: (folder / "state" / "server.safetensors").exists() or child.poll() is not None, 120)
        child.send_signal(signal.SIGKILL)
        output, _ = child.communicate()
    assert child.returncode == -signal.SIGKILL, output.decode()
    wait_for(lambda: not processes_of(folder), 20)
    assert [r["round"] for r in read_records(folder) if r["event"] == "round"] == [1]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("runner", ["in_process", "simulator"])
def test_a_killed_run_goes_on(tmp_path: Path, runner: str) -> None:
    """With a method that keeps something at the server, in the backbone and at the clients."""
    options = {"aggregator": "fedex_lora", "wire": "int8"}
    own = {"in_process": runner == "in_process", "simulator": runner == "simulator"}
    if runner == "simulator":
        own["hosts"] = 2
    killed_in_round_two(tmp_path / "killed", 0.1, **options, **own)
    assert federate("--resume", tmp_path / "killed") == 0
    assert federate(*flags(tmp_path / "straight", **options)) == 0
    assert results(tmp_path / "killed") == results(tmp_path / "straight")
    assert records(tmp_path / "killed")[1:] == records(tmp_path / "straight")[1:], "all but the set-up of the hosts"


@pytest.mark.parametrize(
    "options",
    [{"clients_per_round": 1, "seed": 4, "lr": 0.05, "dirichlet_alpha": 0.1}, {"aggregator": "flora", "wire": "int8"}],
)
def test_a_finished_run_can_be_given_more_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    assert federate(*flags(tmp_path / "straight", num_rounds=4, **options)) == 0
    assert federate(*flags(tmp_path / "longer", num_rounds=2, **options)) == 0
    capsys.readouterr()
    assert federate("--resume", tmp_path / "longer") == 2
    assert capsys.readouterr().err == (
        f"job.py: {tmp_path / 'longer'} is finished after 2 rounds. For more, add a higher --num_rounds.\n"
    )
    assert federate("--resume", tmp_path / "longer", "--num_rounds", 4) == 0
    pairs = zip(results(tmp_path / "longer").items(), results(tmp_path / "straight").values(), strict=True)
    for (name, content), other in pairs:
        assert content == other or name.endswith("README.md"), "a card says of how many rounds, as was known"
    found, expected = (
        [{key: value for key, value in r.items() if key != "rounds"} for r in records(tmp_path / name)]
        for name in ("longer", "straight")
    )
    assert found == expected


def mistake(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one message of a command that fails before any work."""
    capsys.readouterr()
    assert federate(*argv) == 2
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error
    assert error.startswith("job.py: ")
    assert error.count("\n") == 1
    return error


def test_what_can_not_go_on_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--resume {tmp_path / 'no'}: there is no run" in mistake(capsys, "--resume", tmp_path / "no")
    (tmp_path / "empty").mkdir()
    assert "there is no run in that folder" in mistake(capsys, "--resume", tmp_path / "empty")
    config = toy_config(**lora_options())
    create(tmp_path / "young", config, "test").release()
    assert f"No round of {tmp_path / 'young'} was finished" in mistake(capsys, "--resume", tmp_path / "young")


@pytest.mark.parametrize(
    "given",
    [
        "--lr 0.1", "--aggregator svd", "--wire int8", "--seed 7", "--num_clients 5", "--hosts 2", "--threads 2",
        "--name other", "--min_clients 2", "--lora_r 2", "--overwrite", "--model_backend toy", "--config x.yaml",
    ],
)  # fmt: skip
def test_what_would_change_the_run_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    create(tmp_path / "run", toy_config(**lora_options()), "test").release()
    error = mistake(capsys, "--resume", tmp_path / "run", *given.split())
    assert error.startswith(f"job.py: {given.split()[0]} can't be changed when a run goes on")
