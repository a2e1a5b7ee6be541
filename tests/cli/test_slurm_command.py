"""``fedumm slurm``: the script that it writes, what it asks of the cluster and of the run, and what it refuses."""

from __future__ import annotations

import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from fedumm.cli.main import main
from support.needed import needed
from support.toy import LORA_TOY

RUN = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_clients", "4"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def slurm(own: list[str], run: list[str], name: str = "a") -> int:
    return main(["slurm", *own, "--", *RUN, "--name", name, *run])


def written(own: list[str], run: list[str], name: str = "a") -> tuple[dict[str, str], list[str]]:
    """What the script asks of the cluster, and the arguments that the run is given."""
    assert slurm(own, run, name) == 0
    (script,) = Path().glob("*.sbatch")
    lines = script.read_text().splitlines()
    asks = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    first = next(n for n, line in enumerate(lines) if line.startswith("python -u -m fedumm federate"))
    last = next(n for n, line in enumerate(lines) if n >= first and line.endswith(" &"))
    command = "\n".join(lines[first : last + 1]).removesuffix(" &").replace("\\\n", " ")
    return asks, shlex.split(command)[5:]


def test_the_run_is_the_one_that_was_given_and_resumes() -> None:
    asks, words = written(
        ["--gpus", "2", "--time", "8:00:00", "--partition", "long", "--mem", "100G"], ["--lr", "1e-3"]
    )
    assert words == [*RUN, "--name", "a", "--lr", "1e-3", "--simulator", "--resume_if_exists", "--hosts", "2"]
    expected = {
        "gres": "gpu:2", "time": "8:00:00", "partition": "long", "mem": "100G", "cpus-per-task": "16", "nodes": "1",
        "signal": "B:USR1@120", "requeue": "", "open-mode": "append", "output": "logs/%x-%j.out",
    }  # fmt: skip
    assert asks == asks | expected
    assert "account" not in asks


@pytest.mark.parametrize(
    ("own", "run", "hosts"),
    [
        ([], [], ["--hosts", "1"]),
        (["--gpus", "4"], ["--hosts", "4"], []),
        (["--gpus", "0"], [], []),
        (["--gpus", "2"], ["--device_map", "auto"], []),
        ([], ["--in_process"], []),
    ],
)
def test_each_gpu_has_a_host(own: list[str], run: list[str], hosts: list[str]) -> None:
    asks, words = written(own, run)
    runner = [] if "--in_process" in run else ["--simulator"]
    assert words[len(RUN) + 2 + len(run) :] == [*runner, "--resume_if_exists", *hosts]
    assert asks.get("gres") == {"0": None}.get((own or ["", "1"])[1], f"gpu:{(own or ['', '1'])[1]}")


@pytest.mark.parametrize(
    ("own", "run", "told"),
    [
        (["--gpus", "5"], [], "--num_clients 4"),
        (["--gpus", "3"], ["--hosts", "2"], "--hosts 2"),
        (["--gpus", "2"], ["--in_process"], "--in_process"),
        (["--gpus", "1"], ["--gpu", "cpu"], "--gpus 0"),
        (["--gpus", "-1"], [], "--gpus"),
        (["--time", "4"], [], "--time"),
        (["--time", "soon"], [], "--time"),
        (["--partition", "a\n#SBATCH --uid=0"], [], "--partition"),
        (["--mem", "8 G"], [], "--mem"),
        (["--out", "nowhere/a.sbatch"], [], "--out"),
        ([], ["--num_rounds", "0"], "--num_rounds"),
        ([], ["--num_roundz", "1"], "--num_rounds"),
        ([], ["--wire", "int7"], "int7"),
        ([], ["--export_dir", "jobs"], "--export_dir"),
        ([], ["--overwrite"], "--overwrite"),
        ([], ["--dry_run"], "--dry_run"),
    ],
)
def test_what_can_not_run_is_not_written(
    own: list[str], run: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slurm(own, run) == 2
    assert told in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("argv", [[], ["--gpus", "2"], ["--"]])
def test_a_run_must_be_said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slurm", *argv]) == 2
    assert "after --" in capsys.readouterr().err
    assert main(["slurm", "--", *RUN]) == 2
    assert "--name" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["5", "5:00", "0:05:00", "1-0", "1-0:30", "2-00:00:00"])
def test_times_are_those_of_slurm(time: str) -> None:
    assert written(["--time", time], [])[0]["time"] == time


def test_a_script_that_is_there_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert slurm([], []) == 0
    before = Path("a.sbatch").read_text()
    assert slurm([], ["--seed", "7"]) == 2
    assert "--replace" in capsys.readouterr().err
    assert Path("a.sbatch").read_text() == before
    assert slurm(["--replace"], ["--seed", "7"]) == 0
    assert "--seed 7" in Path("a.sbatch").read_text()


def test_it_is_a_sound_script_whatever_the_names_are(capsys: pytest.CaptureFixture[str]) -> None:
    name, answers = './it\'s "a" run; $HOME @WHAT@', "two words\nand lines.txt"
    Path(answers).write_text("yes\nno\n")
    _, words = written([], ["--answers", answers, "--answer_mode", "rank"], name)
    assert name in words
    assert answers in words
    (script,) = Path().glob("*.sbatch")
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run([needed("shellcheck"), "--severity=warning", script], check=True)
    told = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(told) == ["sbatch", str(script)]


def test_the_file_of_a_plugin_and_of_options_are_read_as_the_run_reads_them() -> None:
    Path("run.yaml").write_text("model_backend: lora_toy\nnum_clients: 2\nname: of-the-file\n")
    argv = ["slurm", "--gpus", "2", "--", "--config", "run.yaml", "--plugin", str(LORA_TOY)]
    assert main(argv) == 0
    assert "--hosts 2" in Path("of-the-file.sbatch").read_text()


def test_with_local_privacy_it_says_that_a_stopped_run_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert slurm([], ["--dp", "local", "--dp_noise_multiplier", "1"]) == 0
    assert "can't go on where it was stopped" in capsys.readouterr().out
