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

from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message, RoundTask
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.report.run_folder import create, read_records
from support.commands import BACKEND, JOB, federate, flags, go_on, prepare, records, results
from support.processes import processes_of, wait_for
from support.toy import LORA_TOY, lora_options, toy_config

CASES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {"aggregator": "fedadam"},
    "fedsa_lora": {"aggregator": "fedsa_lora", "clients_per_round": 1},
    "scaffold": {"scaffold": True, "wire": "int8"},
    "flora": {"aggregator": "flora", "wire_down": "int8"},
    "residuals": {"wire": "int8", "top_k": 0.3, "clients_per_round": 2},
}

RUNNERS = ["in_process", pytest.param("simulator", marks=pytest.mark.slow)]
NAMES = ['"quoted" $HOME; ls', "plain", "with space", "it's", "--dash"]


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
    Stop(monkeypatch, while_saving=3).during(lambda: go_on(stopped))
    assert [r["round"] for r in read_records(stopped) if r["event"] == "round"] == [1, 2, 3], "written but not saved"
    assert go_on(stopped) == 0
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


def test_a_run_that_was_killed_while_it_saved_an_adapter_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two renames the best adapter is not in its place; and a half-written draft of the last one is there."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert federate(*flags(straight)) == 0
    Stop(monkeypatch, in_round=3).during(lambda: federate(*flags(killed)))
    os.rename(killed / "adapter" / "best", killed / "adapter" / ".best-old")
    for draft in (".best-7f2k", ".last-x91"):
        (killed / "adapter" / draft).mkdir()
        (killed / "adapter" / draft / "README.md").write_text("half")
    Stop(monkeypatch, in_round=3).during(lambda: go_on(killed))
    assert sorted(path.name for path in (killed / "adapter").iterdir()) == ["best", "last"]
    assert go_on(killed) == 0
    assert results(killed) == results(straight)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_killed_run_goes_on(tmp_path: Path, runner: str) -> None:
    """With a method that keeps something at the server, in the backbone and at the clients."""
    options = {"aggregator": "fedex_lora", "wire": "int8"}
    own = {"in_process": runner == "in_process", "simulator": runner == "simulator"}
    if runner == "simulator":
        own["hosts"] = 2
    killed_in_round_two(tmp_path / "killed", 0.1, **options, **own)
    assert go_on(tmp_path / "killed") == 0
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
    assert go_on(tmp_path / "longer") == 2
    assert capsys.readouterr().err == (
        f"job.py: {tmp_path / 'longer'} is finished after 2 rounds. For more, add a higher --num_rounds.\n"
    )
    assert go_on(tmp_path / "longer", "--num_rounds", 4) == 0
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
    assert f"No round of {tmp_path / 'young'} was finished" in mistake(capsys, "--resume", tmp_path / "young", *BACKEND)


@pytest.mark.parametrize(
    "given",
    [
        "--lr 0.1", "--aggregator svd", "--wire int8", "--seed 7", "--num_clients 5", "--hosts 2", "--threads 2",
        "--name other", "--min_clients 2", "--lora_r 2", "--overwrite", "--resume_if_exists", "--model_backend toy",
        "--config x.yaml",
    ],
)  # fmt: skip
def test_what_would_change_the_run_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    create(tmp_path / "run", toy_config(**lora_options()), "test").release()
    error = mistake(capsys, "--resume", tmp_path / "run", *given.split())
    assert error.startswith(f"job.py: {given.split()[0]} can't be changed when a run is resumed")


def test_a_path_is_a_path_and_a_name_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``./x`` and ``runs/x`` are two runs: going on with one leaves the other alone."""
    monkeypatch.chdir(tmp_path)
    for folder, seed in ((Path("x"), 1), (Path("runs/x"), 2)):
        named = flags(folder, seed=seed)
        named[named.index("--name") + 1] = "./x" if folder == Path("x") else "x"
        Stop(monkeypatch, in_round=2).during(lambda named=named: federate(*named))
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert go_on("./x") == 0
    assert [r["event"] for r in read_records(Path("x"))][-1] == "summary"
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before
    assert go_on("x") == 0
    assert "finished after 3 rounds" in mistake(capsys, "--resume", tmp_path / "runs" / "x", *BACKEND)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_that_is_refused_keeps_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runner: str
) -> None:
    Stop(monkeypatch, in_round=2).during(lambda: federate(*flags(tmp_path / "run")))
    state = tmp_path / "run" / "state" / "server.safetensors"
    # As if the data were others by now.
    tensors, facts = Checkpoint(state.parent).load() or ({}, {})
    Checkpoint(state.parent).save(tensors, facts | {"fingerprint": "of other data"})
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    capsys.readouterr()
    assert go_on(tmp_path / "run", "--num_rounds", 9, f"--{runner}") == 2
    error = capsys.readouterr().err
    assert "data are not those that this run began with" in error
    assert "resume with" not in error
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def advice(error: str) -> str:
    """The command that a stopped run ends with."""
    return error.strip().splitlines()[-1].partition("resume with: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_is_shown_works_when_pasted_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    named = [f"--name=./{name}" if part == str(Path("x")) else part for part in flags(Path("x"))]
    named.remove("--name")
    capsys.readouterr()
    Stop(monkeypatch, in_round=2).during(lambda: federate(*named))
    error = capsys.readouterr().err
    assert error.strip().count("\n") == 0
    done = subprocess.run(advice(error), shell=True, cwd=tmp_path / "there", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [r["event"] for r in read_records(tmp_path / "here" / name)][-1] == "summary"
    assert not list((tmp_path / "there").iterdir())


def test_start_or_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same line again and again, as a batch system does it: stopped before a round was finished, and after."""
    assert federate(*flags(tmp_path / "straight")) == 0
    line = [*flags(tmp_path / "again"), "--resume_if_exists"]
    Stop(monkeypatch, in_round=1).during(lambda: federate(*line))
    Stop(monkeypatch, while_saving=1).during(lambda: federate(*line))
    Stop(monkeypatch, in_round=2).during(lambda: federate(*line))
    assert [r["round"] for r in read_records(tmp_path / "again") if r["event"] == "round"] == [1]
    assert federate(*line) == 0
    assert results(tmp_path / "again") == results(tmp_path / "straight")
    assert records(tmp_path / "again") == records(tmp_path / "straight")
    before = results(tmp_path / "again")
    capsys.readouterr()
    assert federate(*line) == 0
    assert capsys.readouterr().out == f"The run in {tmp_path / 'again'} is finished.\n"
    assert results(tmp_path / "again") == before
    assert federate(*line, "--num_rounds", "4") == 0
    assert [r["round"] for r in read_records(tmp_path / "again") if r["event"] == "round"] == [1, 2, 3, 4]


@pytest.mark.parametrize("rounds", [0, 1])
def test_start_or_go_on_with_privacy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rounds: int
) -> None:
    """Noise at the server is drawn again for a round that nobody saw; a client's would be spent twice."""
    private = {"dp_noise_multiplier": 1.0, "client_weights": "equal", "aggregator": "ffa_lora"}
    for mode in ("central", "local"):
        line = [*flags(tmp_path / mode, dp=mode, **private), "--resume_if_exists"]
        Stop(monkeypatch, in_round=rounds + 1).during(lambda line=line: federate(*line))
        capsys.readouterr()
        assert federate(*line) == (0 if mode == "central" else 2)
    assert "With --dp local a run can't be resumed" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["--lr 0.5", "--seed 7", "--hosts 2", "--aggregator svd", "--max_train_samples 60"])
def test_start_or_go_on_with_other_options_is_refused_and_nothing_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    Stop(monkeypatch, in_round=2).during(lambda: federate(*flags(tmp_path / "run")))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    error = mistake(capsys, *flags(tmp_path / "run"), "--resume_if_exists", *other.split())
    assert f"began with {other.split()[0]} " in error
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_start_or_go_on_needs_a_name_and_contradicts_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = flags(tmp_path / "run")
    assert "--overwrite" in mistake(capsys, *line, "--resume_if_exists", "--overwrite")
    at = line.index("--name")
    assert "--name" in mistake(capsys, *line[:at], *line[at + 2 :], "--resume_if_exists")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("runner", RUNNERS)
def test_other_signals_end_it_like_ctrl_c(tmp_path: Path, runner: str, number: signal.Signals) -> None:
    own = {"in_process": runner == "in_process", "simulator": runner == "simulator"}
    line, temporary = flags(tmp_path / "run", **own), tmp_path / "tmp"
    temporary.mkdir()
    child = subprocess.Popen(
        [sys.executable, str(JOB), *line], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TOY_STEP_SECONDS": "0.1", "TMPDIR": str(temporary)},
    )  # fmt: skip
    with child:
        wait_for(lambda: (tmp_path / "run" / "state" / "server.safetensors").exists() or child.poll() is not None, 120)
        child.send_signal(number)
        _, error = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert error.strip().count("\n") == 0, error
    assert advice(error).endswith(f"federate --resume {tmp_path / 'run'} --plugin {LORA_TOY}")
    assert not processes_of(tmp_path / "run")
    assert not list(temporary.iterdir())
