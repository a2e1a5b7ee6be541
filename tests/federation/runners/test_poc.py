"""``fedumm poc``: a real server and sites from start to end, the bits of a run in process, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import DatasetDict, disable_progress_bars

from fedumm.cli.main import main
from fedumm.data import DataRequest, load_data
from fedumm.federation.runners.flare.outgoing_log import FILE as LOG
from fedumm.report.run_folder import read_config, read_records
from support.federation import export, processes_in
from support.own_folders import CLIENTS, MODEL, own_folders
from support.processes import wait_for

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--num_clients=2", "--threads=1", "--lr=0.001",
    "--max_train_samples=120", "--max_eval_samples=30",
]  # fmt: skip


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    """``fedumm poc`` in ``folder``, with its startup kits in ``kits``."""
    command = [sys.executable, "-m", "fedumm", "poc", *OPTIONS, "--workspace=kits", "--name=poc", *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_gives_the_same_bits_as_in_process(tmp_path: Path) -> None:
    """On a folder of this machine, whose name no job could hold."""
    disable_progress_bars()
    folder = tmp_path / "my röntgen"
    whole = load_data("easy_vqa", DataRequest(columns=("image", "question", "answers"), max_train_samples=120))
    DatasetDict({"train": whole.train, "validation": whole.eval.select(range(30))}).save_to_disk(str(folder))
    rounds = (f"--dataset={folder}", "--num_rounds=2")
    with started(tmp_path, *rounds) as process:
        out, error = process.communicate()
    assert process.returncode == 0, error
    assert error == ""
    export(tmp_path, *OPTIONS, *rounds, "--in_process", "--name=here")
    poc, here = tmp_path / "runs" / "poc", tmp_path / "runs" / "here"
    for which in ("best", "last"):
        file = Path("adapter") / which / "adapter_model.safetensors"
        assert (poc / file).read_bytes() == (here / file).read_bytes()
    assert [r["event"] for r in read_records(poc)] == [r["event"] for r in read_records(here)]
    assert all(f" {number}/2 " in out for number in (1, 2))
    assert out.rstrip().endswith("FINISHED:COMPLETED")
    assert read_config(poc).dataset == str(folder)
    assert {path.name for path in here.iterdir()} - {"steps"} <= {path.name for path in poc.iterdir()}
    logs = ("server.log", "site-1.log", "site-2.log", "site-1-training.log", "site-2-training.log")
    assert {path.name for path in (poc / "logs").iterdir()} == {*logs}
    assert "round 2/2: 2 of 2 clients used" in (poc / "logs" / "server.log").read_text()
    assert not processes_in(tmp_path / "kits")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("more", [[], ["--secure_aggregation"]], ids=["plain", "masked"])
def test_sites_with_folders_of_their_own_give_the_same_bits_as_in_process(tmp_path: Path, more: list[str]) -> None:
    own_folders(tmp_path)
    options = [*MODEL, "--client_data=sites.yaml", "--num_rounds=2", *more]
    command = [sys.executable, "-m", "fedumm", "poc", *options, "--workspace=kits", "--name=poc"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    export(tmp_path, *options, "--in_process", "--name=here")
    for which in ("best", "last"):
        file = Path("runs/{}/adapter") / which / "adapter_model.safetensors"
        one, other = ((tmp_path / str(file).format(run)).read_bytes() for run in ("poc", "here"))
        assert one == other
    for site in CLIENTS if more else ():
        # Its own log of what left it: in both rounds a certificate, and a signature of 2048 bits.
        (log,) = (tmp_path / "kits").rglob(f"{site}/{LOG}")
        sent = [line for line in map(json.loads, log.read_text().splitlines()) if line["kind"] == "MaskKeys"]
        sizes = [[part["bytes"] for part in line["content"]["signatures"][site]] for line in sent]
        assert [(own > 500, signature) for own, signature in sizes] == [(True, 256)] * 2
    for run in ("poc", "here"):
        assert [r["clients"] for r in read_records(tmp_path / "runs" / run) if r["event"] == "round"] == [3, 3]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_however_it_ends_no_process_is_left(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "--dataset=easy_vqa", "--num_rounds=500") as process:
        assert process.stdout
        assert process.stderr
        assert any(" 1/500 " in line for line in process.stdout)
        # Server and sites, their processes for the job, and the two in which is trained.
        assert len(processes_in(tmp_path / "kits")) >= 8
        process.send_signal(number)
        process.wait(60)
        wait_for(lambda: not processes_in(tmp_path / "kits"), 20)
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number
            assert process.stderr.read() == (
                "\nStopped, with all of its processes. The same command starts from the beginning.\n"
            )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--simulator", "--simulator is another way to run"),
        ("--in_process", "--in_process is another way to run"),
        ("--export_dir=x", "--export_dir is another way to run"),
        ("--hosts=2", "every site has a process of its own"),
        ("--partition=own", "say where they lie, with --client_data"),
        ("--resume_if_exists", "are for --simulator and --in_process"),
        ("--plugin=x.py", "no such file"),
        ("--workspace=full", "is not empty"),
        ("--num_clients=0", "num_clients"),
        ("--dataset=nothing_like_it", "nothing_like_it"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert main(["poc", *OPTIONS, "--dataset=easy_vqa", "--name=poc", flag]) == 2
    out, error = capsys.readouterr()
    assert message in error
    assert error.startswith("fedumm poc: ")
    assert "Traceback" not in out + error
    assert not os.path.lexists("runs/poc")
