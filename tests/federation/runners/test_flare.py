"""NVIDIA FLARE's simulator, driven by the real command: the same bits, counted bytes, clean ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedumm.adapters.folder import read_folder
from fedumm.report.run_folder import create, read_records
from support.processes import processes_of, wait_for
from support.toy import TOY, Run, toy_config

JOB = Path(__file__).parents[3] / "job.py"
TOY_OPTIONS = {
    "model_backend": "toy", "plugin": TOY, "num_clients": 3, "num_rounds": 2, "max_train_samples": 160,
    "max_eval_samples": 40, "batch_size": 4, "grad_accum": 2, "lr": 0.01, "dirichlet_alpha": 0.5, "threads": 1,
}  # fmt: skip
BLIP_OPTIONS = {
    "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 2,
    "num_rounds": 2, "max_train_samples": 120, "max_eval_samples": 30, "threads": 1, "lr": 0.001,
}  # fmt: skip

JANUS_OPTIONS = {
    **BLIP_OPTIONS, "model_backend": "januspro", "dataset": "shapes", "task": "unified", "partition": "task:0.5",
    "lora_targets": "all", "geneval_prompts": 6,
}  # fmt: skip

pytestmark = pytest.mark.timeout(240)


def command(runner: str, folder: Path, options: dict[str, Any], **more: Any) -> list[str]:
    flags = [str(part) for name, value in {**options, **more}.items() for part in (f"--{name}", value)]
    return [sys.executable, str(JOB), *flags, f"--{runner}", "--name", str(folder)]


def weights(folder: Path, which: str = "last") -> bytes:
    return (folder / "adapter" / which / "adapter_model.safetensors").read_bytes()


def of(folder: Path, event: str) -> list[dict[str, Any]]:
    return [r for r in read_records(folder) if r["event"] == event]


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str], list[str]]:
    """One simulated run of the toy backend on two hosts, its output, and who built a model. In each round one of its
    three clients only scores."""
    folder = tmp_path_factory.mktemp("flare") / "toy"
    builds = folder.with_name("builds.txt")
    result = subprocess.run(
        # FLARE's processes work in other folders: a path that is relative to this one must still be found.
        command(
            "simulator",
            folder,
            TOY_OPTIONS,
            hosts=2,
            clients_per_round=2,
            plugin=os.path.relpath(TOY, folder.parent),
        ),
        env={**os.environ, "TOY_BUILDS": str(builds)},
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr + (folder / "flare.log").read_text()
    return folder, result, builds.read_text().splitlines()


def test_a_plugin_federates_to_the_same_bits_as_in_process(toy_run: Any, run_toy: Run) -> None:
    folder, result, _ = toy_run
    other, _ = run_toy("in_process", hosts=1, clients_per_round=2)
    for which in ("best", "last"):
        assert weights(folder, which) == weights(other, which)
    volatile = {"seconds", "seconds_train", "seconds_eval", "seconds_host", "elapsed", "bytes_down"}
    for event in ("client", "round", "final"):
        a, b = ([{k: v for k, v in r.items() if k not in volatile} for r in of(f, event)] for f in (folder, other))
        assert a == b
    assert not result.stderr


def test_only_the_hosts_build_the_model(toy_run: Any) -> None:
    """Two hosts for three clients: two models, none of them in the server's process."""
    _, _, builds = toy_run
    assert len(builds) == len({line.split()[0] for line in builds}) == 2
    assert all("host_process" in line for line in builds), builds


def test_the_screen_shows_each_round_and_the_result(toy_run: Any) -> None:
    _, result, _ = toy_run
    lines = result.stdout.splitlines()
    assert sum(line.split()[:1] in (["1/2"], ["2/2"]) for line in lines) == 2
    assert any("adapter/best" in line for line in lines)


def test_bytes_on_the_wire_are_the_adapters(toy_run: Any) -> None:
    folder, _, _ = toy_run
    size = sum(t.numel() * t.element_size() for t in read_folder(folder / "adapter" / "last")[0].values())
    for client in of(folder, "client"):
        for way in ("bytes_down", "bytes_up"):
            assert size <= client[way] <= 1.03 * size + 4096


def test_nothing_is_left_running_or_lying_about(toy_run: Any) -> None:
    folder, _, _ = toy_run
    assert not processes_of(folder)
    assert not (folder / "progress").exists()
    assert sorted(p.name for p in folder.parent.iterdir()) == ["builds.txt", "toy"]


@pytest.mark.slow
def test_masked_sums_are_the_same_through_flare(tmp_path: Path) -> None:
    for runner in ("simulator", "in_process"):
        options = command(runner, tmp_path / runner, {**TOY_OPTIONS, "hosts": 2})
        result = subprocess.run([*options, "--secure_aggregation"], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        assert [r["clients"] for r in of(tmp_path / runner, "round")] == [3, 3]
    for which in ("best", "last"):
        assert weights(tmp_path / "simulator", which) == weights(tmp_path / "in_process", which)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [BLIP_OPTIONS, pytest.param(JANUS_OPTIONS, marks=pytest.mark.compat)],
    ids=lambda given: given["model_backend"],
)
def test_shipped_backends_give_the_same_bits_through_flare(given: dict[str, Any], tmp_path: Path) -> None:
    for runner in ("simulator", "in_process"):
        options = command(runner, tmp_path / runner, given, feature_cache_dir=tmp_path / f"features-{runner}")
        result = subprocess.run(options, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        assert not result.stderr
    for which in ("best", "last"):
        assert weights(tmp_path / "simulator", which) == weights(tmp_path / "in_process", which)
    (setup,) = of(tmp_path / "simulator", "setup")
    assert all(report["computed"] == report["images"] for report in setup["features"]), "shared by two hosts"
    assert len(setup["features"]) == len({task for c in setup["clients"].values() for task in c["tasks"]})
    payload = 4 * setup["trainable"]
    for client in of(tmp_path / "simulator", "client"):
        assert client["untrained"] or payload <= client["bytes_up"]
        assert client["bytes_up"] <= 1.06 * payload + 4096
    volatile = {"seconds", "elapsed", "bytes_down", "seconds_host"}
    for event in ("round", "final"):
        one, other = (
            [{k: v for k, v in r.items() if k not in volatile} for r in of(tmp_path / runner, event)]
            for runner in ("simulator", "in_process")
        )
        assert [r.get("test_tasks", {}).get("geneval") for r in one] == [
            r.get("test_tasks", {}).get("geneval") for r in other
        ]


@pytest.mark.slow
def test_a_temporary_folder_too_long_for_sockets_and_with_a_space_is_no_obstacle(tmp_path: Path) -> None:
    temporary = tmp_path / f"a b{'x' * 110}"
    temporary.mkdir()
    result = subprocess.run(
        command("simulator", tmp_path / "run", TOY_OPTIONS, num_rounds=1, num_workers=1, gpu="cpu"),
        env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert read_folder(tmp_path / "run" / "adapter" / "last")[0]
    assert not list(temporary.iterdir())


@pytest.fixture
def slow_run(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A simulated run that would take minutes, in the middle of its second round."""
    folder = tmp_path / "slow"
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        command("simulator", folder, TOY_OPTIONS, num_rounds=50),
        env={**os.environ, "TOY_STEP_SECONDS": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )

    signal.signal(signal.SIGINT, before)

    def in_second_round() -> bool:
        assert child.poll() is None, child.communicate()[0]
        # The adapter comes after the state, and that after the record.
        return (folder / "adapter" / "last").is_dir() and bool(of(folder, "round"))

    wait_for(in_second_round, 120)
    with child:
        yield folder, child
        child.kill()
    for process in processes_of(folder):
        process.kill()


def test_ctrl_c_ends_everything_and_keeps_the_finished_rounds(slow_run: Any) -> None:
    folder, child = slow_run
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in output
    assert f"Finished rounds are kept in {folder}" in output
    wait_for(lambda: not processes_of(folder), 10)
    rounds = of(folder, "round")
    assert rounds
    assert read_folder(folder / "adapter" / "last")[0]
    assert (folder / "rounds.png").stat().st_size > 0


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_orphans(slow_run: Any) -> None:
    folder, child = slow_run
    assert processes_of(folder)
    child.kill()
    child.wait()
    wait_for(lambda: not processes_of(folder), 20)
    assert read_folder(folder / "adapter" / "last")[0]


@pytest.mark.slow
def test_a_killed_host_is_an_error_and_not_a_wait_for_ever(slow_run: Any) -> None:
    folder, child = slow_run
    state = json.loads((folder / "progress" / "host-1.json").read_text())
    psutil.Process(state["pid"]).kill()
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "host-1 died" in output
    assert "Traceback" not in output
    wait_for(lambda: not processes_of(folder), 10)


@pytest.mark.slow
def test_a_host_that_cannot_even_start_ends_the_others(tmp_path: Path) -> None:
    """Where it should tell what it does is a file: all of it ends at once, instead of waiting to be asked."""
    config = toy_config(hosts=2, in_process=False, simulator=True)
    create(tmp_path / "run", config, "test").release()
    (tmp_path / "run" / "progress").touch()
    sockets = tmp_path / "s"
    sockets.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "fedumm.federation.runners.flare.host_process", str(tmp_path / "run")],
        env={**os.environ, "FEDUMM_HOST_SOCKETS": str(sockets)}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert not processes_of(tmp_path / "run")


def test_an_impossible_split_is_one_line_before_any_process_starts(tmp_path: Path) -> None:
    result = subprocess.run(
        command("simulator", tmp_path / "run", TOY_OPTIONS, num_clients=500),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert "500 clients are too many for" in result.stderr
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in result.stdout + result.stderr
    wait_for(lambda: not processes_of(tmp_path / "run"), 10)


def test_export_writes_a_job_without_loading_a_model(tmp_path: Path) -> None:
    code = (
        "import sys; from fedumm.cli.main import run\n"
        f"status = run('federate', ['--model_backend', 'blip_vqa', '--export_dir', {str(tmp_path)!r}], 'job.py')\n"
        "loaded = {'transformers', 'datasets'} & set(sys.modules)\n"
        "sys.exit(status or (f'loaded {loaded}' if loaded else 0))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    job = tmp_path / "fedumm-blip_vqa"
    assert f"nvflare job submit -j {job}" in result.stdout
    assert json.loads((job / "meta.json").read_text())["min_clients"] == 1
    server = next(job.rglob("config_fed_server.json")).read_text()
    assert '"fedumm.flare.ServerController"' in server
    assert not list(job.rglob("*.py")), "sites run the fedumm that they have installed"
