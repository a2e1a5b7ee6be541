"""A run whose job was stopped goes on in another job, with the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fedumm.cli.main import main
from fedumm.errors import FedummError, PublicError
from fedumm.federation.runners.flare import kept_run
from fedumm.federation.runners.flare.kept_run import Mirror, kept_at_server, kept_at_site, read_run, run_of
from fedumm.federation.runners.received import error_of
from fedumm.report.run_folder import read_records
from fedumm.run_options import to_mapping
from support.federation import Federation, federation
from support.processes import wait_for
from support.toy import toy_config

KILLS = int(os.environ.get("FEDUMM_TEST_KILLS", "3"))
"""How often the server's process is killed at a moment of chance (docs/reliability.md tells of 20)."""

ROUNDS = 4 * KILLS
"""A job that is killed has often finished two or three more."""

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2",
    "--max_train_samples=160", "--max_eval_samples=30", "--threads=1", "--lr=0.001", "--scaffold", "--wire=int8",
    "--report_samples=off", f"--num_rounds={ROUNDS}",
]  # fmt: skip


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("sites"), {"site-1": {}, "site-2": {}}) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("place"))
        assert main(["federate", *OPTIONS, "--in_process", "--name", "run"]) == 0
        return Path.cwd() / "runs" / "run"


def weights(run: Path) -> list[bytes]:
    return [(run / "adapter" / which / "adapter_model.safetensors").read_bytes() for which in ("best", "last")]


def rounds_of(up: Federation, run: str) -> int:
    """Finished ones, by what the server keeps."""
    file = up.kits.server / "fedumm" / run / "metrics.jsonl"
    return file.read_text().count('{"event": "round"') if file.exists() else 0


def job_process(up: Federation, job: str) -> psutil.Process | None:
    """Of the server."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any("runner_process" in word for word in words) and job in words and str(up.kits.server) in " ".join(words):
            return process
    return None


def submit(up: Federation, *more: str) -> int:
    return main(["submit", "--startup_kit", str(up.kits.admin), *more])


def submitted(up: Federation, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The number of a job that is not watched."""
    assert submit(up, *more, "--detach") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Job ")]
    return line.split()[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_however_often_it_is_killed_it_ends_with_the_same_bits(
    tmp_path: Path, up: Federation, undisturbed: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Of the server's process, at a moment of chance: before the first round, in one, between two. Sites keep control
    variates and what rounding lost."""
    monkeypatch.chdir(tmp_path)
    chance = random.Random(7)
    first = job = submitted(up, capsys, *OPTIONS, "--name", "run")
    for number in range(KILLS):
        process = wait_for(lambda job=job: job_process(up, job), 60)
        have = rounds_of(up, first)
        if number % 3:
            wait_for(lambda have=have, job=job: rounds_of(up, first) > have or up.session.state(job).finished, 90)
        time.sleep(chance.uniform(0, 2))
        assert not up.session.state(job).finished, "too few rounds for so many kills"
        process.kill()
        with capsys.disabled():
            print(f"killed after round {rounds_of(up, first)}", flush=True)
        assert not up.end_of(job).status.endswith("COMPLETED")
        job = submitted(up, capsys, *OPTIONS, "--name", "run", "--resume", first)
    state, folder = up.end_of(job), up.result(job)
    assert state.status == "FINISHED:COMPLETED", error_of(folder)
    assert weights(folder) == weights(undisturbed)
    kept = ("round", "final", "summary")
    told = [[(r["event"], r.get("test")) for r in read_records(f) if r["event"] in kept] for f in (folder, undisturbed)]
    assert told[0] == told[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_watched_goes_on_by_its_name(
    tmp_path: Path, up: Federation, undisturbed: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its job is aborted; what a site kept is lost meanwhile, which is told."""
    monkeypatch.chdir(tmp_path)

    def abort() -> None:
        run = wait_for(lambda: read_run(Path("runs/run")), 60)
        wait_for(lambda: rounds_of(up, run) >= 2, 90)
        up.session.abort(run)

    stopper = threading.Thread(target=abort)
    stopper.start()
    assert submit(up, *OPTIONS, "--name", "run") == 2
    stopper.join()
    run = read_run(Path("runs/run"))
    assert "resume" in capsys.readouterr().err
    kept = up.kits.sites["site-2"] / "fedumm" / run / "clients" / "site-2"
    assert list(kept.glob("*.safetensors"))
    saved = tmp_path / "saved"
    shutil.copytree(kept, saved)
    assert submit(up, "--resume", "run") == 0
    assert weights(Path("runs/run")) == weights(undisturbed)
    # Once more, from where it was, without what the site kept.
    assert "is finished" in refused(up, "--resume", "run", capsys=capsys)
    shutil.rmtree(kept)
    assert submit(up, "--resume", "run", "--num_rounds", str(ROUNDS + 1)) == 0
    assert f"what site-2 kept of round {ROUNDS} is not there any more" in capsys.readouterr().out


def refused(up: Federation, *more: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert submit(up, *more) == 2
    return capsys.readouterr().err


ONE, TWO, THREE = (f"{number}0000000-0000-4000-8000-000000000000" for number in "123")


def test_a_run_at_a_server(tmp_path: Path) -> None:
    config = toy_config(in_process=False, plugin="")
    with kept_at_server(tmp_path, ONE, "", config) as path:
        assert path == tmp_path / "fedumm" / ONE
        assert read_run(path) == ONE
        (path / "old").touch()
        with pytest.raises(FedummError, match="in use"), kept_at_server(tmp_path, TWO, ONE, config):
            pass
        assert (path / "old").exists(), "it is going on"
    # It did not finish a round: it begins anew.
    with kept_at_server(tmp_path, TWO, ONE, config) as again:
        assert again == path
        assert not (path / "old").exists()
    for resumes, other, told in (
        (TWO, config, f"went on with the run of {ONE}"),
        (ONE, toy_config(in_process=False, plugin="", lr=0.5), "began with --lr 0.01, not 0.5"),
        ("../one", config, "no number of a job"),
        ("left.jsonl", config, "no number of a job"),
    ):
        with pytest.raises(FedummError, match=told), kept_at_server(tmp_path, THREE, resumes, other):
            pass


def test_what_a_site_keeps_is_of_the_options_that_it_was_kept_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = to_mapping(toy_config(in_process=False, plugin=""))
    folder, lock = kept_at_site(tmp_path, ONE, "", options)
    monkeypatch.setattr(kept_run, "_SECONDS_TO_LEAVE", 0.1)
    with pytest.raises(PublicError, match="another job of that run is going on"):
        kept_at_site(tmp_path, TWO, ONE, options)
    lock.release()
    again, lock = kept_at_site(tmp_path, TWO, ONE, options | {"num_rounds": 9, "round_timeout": 5.0})
    assert again == folder
    lock.release()
    for more, told in (({"lr": 1.0}, "began with other options"), ({"dp": "local"}, "no run is resumed")):
        with pytest.raises(PublicError, match=told):
            kept_at_site(tmp_path, TWO, ONE, options | more)
    # What an earlier version kept says nothing of its options.
    (tmp_path / "fedumm" / THREE / "clients").mkdir(parents=True)
    with pytest.raises(PublicError, match="does not say with which options"):
        kept_at_site(tmp_path, TWO, THREE, options)
    for name in ("..", "left.jsonl", "job"):
        with pytest.raises(PublicError, match="no number"):
            run_of(name, "")


def test_a_job_has_the_run_so_far_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    mirror = Mirror(tmp_path / "run", tmp_path / "job" / "fedumm")
    (tmp_path / "run" / "metrics.jsonl").write_text("one\n")
    (tmp_path / "run" / "adapter" / "a").write_text("1")
    mirror.on_record({"event": "round"})
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write("two\n")
    assert (tmp_path / "job" / "fedumm" / "metrics.jsonl").read_text() == "one\n", "it has a file of its own"
    mirror.update()
    assert (tmp_path / "job" / "fedumm" / "metrics.jsonl").read_text() == "one\ntwo\n"
    assert (tmp_path / "job" / "fedumm" / "adapter" / "a").read_text() == "1"


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"run": "../x"})])
def test_a_damaged_note_of_the_job_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(FedummError, match="is damaged"):
        read_run(tmp_path)
    assert read_run(tmp_path / "nowhere") == ""
