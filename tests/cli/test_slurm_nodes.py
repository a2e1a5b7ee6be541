"""``fedumm slurm --nodes``: the script of a job whose steps are a server and sites, and what is refused before."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from fedumm.cli.main import main
from support.needed import needed

RUN = ["--model_backend", "blip_vqa", "--dataset", "easy_vqa", "--num_clients", "4", "--name", "a"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_JOB_NODELIST", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)


def asks_and_words() -> tuple[dict[str, str], list[str]]:
    """What the script asks of the cluster, and the words of the command that it runs."""
    text = Path("a.sbatch").read_text()
    lines = text.splitlines()
    asks = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    command = text[text.index("python -u -m fedumm") :].partition(" &\n")[0]
    return asks, shlex.split(command.replace("\\\n", " "))


@pytest.mark.parametrize(
    ("own", "run", "threads"),
    [
        (["--gpus", "2"], [], "8"),
        (["--gpus", "2", "--cpus", "7"], [], "3"),
        (["--gpus", "2"], ["--model_name_or_path", "tiny"], "1"),
        (["--gpus", "0"], [], "4"),
        (["--gpus", "5"], ["--device_map", "auto"], "20"),
    ],
)
def test_the_job_has_nodes_and_each_site_the_threads_of_its_cores(own: list[str], run: list[str], threads: str) -> None:
    assert main(["slurm", "--nodes", "2", *own, "--", *RUN, *run]) == 0
    asks, words = asks_and_words()
    assert (asks["nodes"], asks["ntasks-per-node"]) == ("2", "1")
    assert asks.get("gres") == (None if own[1] == "0" else f"gpu:{own[1]}")
    assert words == ["python", "-u", "-m", "fedumm", "poc", "--slurm", *RUN, *run, "--threads", threads]
    subprocess.run([needed("shellcheck"), "--severity=warning", "a.sbatch"], check=True)


def test_threads_that_are_given_stay() -> None:
    assert main(["slurm", "--nodes", "4", "--", *RUN, "--threads", "5"]) == 0
    assert asks_and_words()[1][-2:] == ["--threads", "5"]


@pytest.mark.parametrize(
    ("own", "run", "told"),
    [
        (["--nodes", "5"], [], "--num_clients 4"),
        (["--nodes", "-1"], [], "--nodes"),
        (["--nodes", "2"], [], "--gpus 2"),
        (["--nodes", "4", "--gpus", "2"], [], "--gpus 1"),
        (["--nodes", "1", "--gpus", "0", "--cpus", "3"], [], "--cpus 3"),
        (["--nodes", "4"], ["--gpu", "cpu"], "--gpus 0"),
        (["--nodes", "4"], ["--gpu", "1"], "leave it out"),
        (["--nodes", "4"], ["--simulator"], "--simulator is another way"),
        (["--nodes", "4"], ["--in_process"], "--in_process is another way"),
        (["--nodes", "4"], ["--hosts", "4"], "--hosts"),
        (["--nodes", "4"], ["--partition", "own"], "--client_data"),
        (["--nodes", "4"], ["--overwrite"], "--overwrite"),
        (["--nodes", "4"], ["--lr", "fast"], "--lr"),
    ],
)
def test_what_can_not_run_is_not_written(
    own: list[str], run: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["slurm", *own, "--", *RUN, *run]) == 2
    assert told in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (RUN, "fedumm slurm --nodes"),
        (RUN[:-2], "--name"),
        ([*RUN, "--workspace", "kits"], "--workspace"),
        ([*RUN, "--dry_run"], "--dry_run"),
    ],
)
def test_steps_are_for_a_job(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["poc", "--slurm", *argv]) == 2
    assert told in capsys.readouterr().err
    assert not list(Path().iterdir())
