"""``--use_env_script``: hosts run in their backend's environment, or the reason is told before any work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import fedumm
from fedumm.cli.main import run
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.environment import LAUNCHERS, check_environment, python_command
from fedumm.report.run_folder import read_records
from support.toy import toy_config

ROOT = Path(__file__).parents[3]
LOWEST = ROOT / ".venv-lowest"
BLIP = [
    "--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_rounds", "1",
    "--max_train_samples", "60", "--max_eval_samples", "20", "--threads", "1", "--lr", "0.001", "--simulator",
]  # fmt: skip


def federate(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "job.py"), *BLIP, "--name", str(folder), *more],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "last" / "adapter_model.safetensors").read_bytes()


def versions(folder: Path) -> dict[str, str]:
    (setup,) = (r for r in read_records(folder) if r["event"] == "setup")
    found: dict[str, str] = setup["hosts"]["host-1"]["versions"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_environment_by_path_gives_the_same_bits(tmp_path: Path) -> None:
    for name, more in (("plain", []), ("launched", ["--use_env_script"])):
        done = federate(tmp_path / name, *more, FEDUMM_ENV_BLIP=sys.prefix)
        assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "launched") == weights(tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not (LOWEST / "bin" / "python").exists(), reason="make test-lowest makes the other environment")
def test_another_environment_has_other_versions(tmp_path: Path) -> None:
    done = federate(tmp_path / "run", "--use_env_script", FEDUMM_ENV_BLIP=str(LOWEST))
    assert done.returncode == 0, done.stderr
    assert versions(tmp_path / "run")["transformers"] == "5.20.0"
    assert list(read_records(tmp_path / "run"))[-1]["event"] == "summary"


def test_a_missing_environment_is_one_line_before_any_work(tmp_path: Path) -> None:
    done = federate(tmp_path / "run", "--use_env_script", FEDUMM_ENV_BLIP=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"no environment {tmp_path / 'nowhere'}" in done.stderr
    assert "FEDUMM_ENV_BLIP" in done.stderr
    assert not (tmp_path / "run").exists()


def own_launcher(monkeypatch: pytest.MonkeyPatch, folder: Path, lines: str) -> None:
    script = folder / "own launcher.sh"
    script.write_text(lines)
    monkeypatch.setenv("FEDUMM_LAUNCHER", str(script))


def test_a_launcher_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy_config(in_process=False, simulator=True, use_env_script=True)
    with pytest.raises(FedummError, match=r"launchers for blip_vqa and januspro.*FEDUMM_LAUNCHER"):
        python_command(config)
    own_launcher(monkeypatch, tmp_path, f'touch {shlex.quote(str(tmp_path / "ran"))}; exec {sys.executable} -u "$@"')
    check_environment(config)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("echo 'this went wrong' >&2; exit 1", "--use_env_script: this went wrong"),
        ("exit 7", "ended with status 7"),
        ("echo 0.0.1", f"has fedumm '0.0.1', and this is {fedumm.__version__}"),
        ("", f"has fedumm '', and this is {fedumm.__version__}"),
    ],
)
def test_an_environment_that_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, told: str
) -> None:
    own_launcher(monkeypatch, tmp_path, lines)
    with pytest.raises(FedummError) as error:
        check_environment(toy_config(in_process=False, simulator=True, use_env_script=True))
    assert told in str(error.value)


def test_it_has_no_meaning_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("federate", ["--model_backend", "blip_vqa", "--in_process", "--use_env_script"], "job.py") == 2
    assert "--use_env_script starts processes in other environments" in capsys.readouterr().err


def test_each_shipped_launcher_is_part_of_the_package() -> None:
    for backend, name in LAUNCHERS.items():
        config = toy_config(model_backend=backend, in_process=False, simulator=True, use_env_script=True)
        command = python_command(config)
        assert Path(command[-1]).name == name
        assert Path(command[-1]).is_file()
