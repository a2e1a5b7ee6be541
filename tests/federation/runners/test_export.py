"""Jobs for real sites: a name that FLARE takes, and nothing lost that was there."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.config import FederateConfig
from fedumm.federation.runners.flare.process_guard import RUN
from fedumm.federation.runners.flare.recipe import FedummRecipe, is_our_job, job_name
from fedumm.report.run_folder import create

EXPORT = ["federate", "--model_backend", "blip_vqa", "--export_dir"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tree(folder: str = ".") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_a_job_is_replaced_only_when_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EXPORT, "my jobs", "--num_rounds", "3"]) == 0
    (last,) = [line for line in capsys.readouterr().out.splitlines() if "nvflare job submit" in line]
    assert shlex.split(last) == ["nvflare", "job", "submit", "-j", "my jobs/fedumm-blip_vqa"]
    Path("my jobs/fedumm-blip_vqa/notes.txt").write_text("mine")
    before = tree()
    assert main([*EXPORT, "my jobs", "--num_rounds", "4"]) == 2
    assert "The job my jobs/fedumm-blip_vqa exists. Choose another --name, or replace it" in capsys.readouterr().err
    assert tree() == before
    assert main([*EXPORT, "my jobs", "--num_rounds", "4", "--overwrite"]) == 0
    assert before.keys() - tree().keys() == {"my jobs/fedumm-blip_vqa/notes.txt"}
    server = json.loads(Path("my jobs/fedumm-blip_vqa/app/config/config_fed_server.json").read_text())
    assert server["workflows"][0]["args"]["run_config"]["num_rounds"] == 4
    assert main([*EXPORT, "my jobs", "--name", "runs/other"]) == 0
    assert is_our_job(Path("my jobs/other"))


def foreign_folder(job: Path) -> None:
    job.mkdir(parents=True)
    (job / "thesis.txt").write_text("mine")


def foreign_file(job: Path) -> None:
    job.parent.mkdir()
    job.write_text("mine")


def foreign_job(job: Path) -> None:
    (job / "app" / "config").mkdir(parents=True)
    (job / "meta.json").write_text(json.dumps({"name": job.name}))
    (job / "app" / "config" / "config_fed_server.json").write_text('{"workflows": []}')


def renamed_job(job: Path) -> None:
    FedummRecipe(FederateConfig(model_backend="blip_vqa", name="first")).export(str(job.parent))
    (job.parent / "first").rename(job)


def link(job: Path) -> None:
    renamed_job(job)
    job.rename(job.parent / "elsewhere")
    job.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [foreign_folder, foreign_file, foreign_job, renamed_job, link])
def test_what_is_not_ours_stays_even_with_overwrite(make: object, capsys: pytest.CaptureFixture[str]) -> None:
    make(Path("jobs/fedumm-blip_vqa"))  # type: ignore[operator]
    before = tree()
    assert main([*EXPORT, "jobs", "--overwrite"]) == 2
    errors = capsys.readouterr().err
    assert "jobs/fedumm-blip_vqa exists and is not a job exported by fedumm." in errors
    assert len(errors.splitlines()) == 1
    assert tree() == before


@pytest.mark.parametrize("name", ["größe", "my job", "..", "-x", "_x", "a/b c", "名", "a" * 201, "it's", "x\n"])
def test_a_name_that_flare_does_not_take_is_one_clear_message(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EXPORT, "jobs", f"--name={name}"]) == 2
    assert "can't be a job's name. Use at most 200 English letters" in capsys.readouterr().err
    assert not Path("jobs").exists()


@pytest.mark.parametrize("name", ["a" * 200, "1", "A.b_c-d", "runs/x", "x/"])
def test_other_names_are_taken(name: str) -> None:
    FedummRecipe(FederateConfig(model_backend="blip_vqa", name=name)).export("jobs")
    assert is_our_job(Path("jobs") / Path(name).name)


@pytest.mark.parametrize("backend", ["größe", "my backend", "a/b", "b" * 300])
def test_any_backend_gives_a_name_that_flare_takes(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated run's job has such a name, whatever the run folder is called."""
    config = FederateConfig(model_backend=backend)
    create(Path("run"), config, "test").release()
    monkeypatch.setenv(RUN, "run")
    FedummRecipe(config, 2)
    assert job_name(FederateConfig(model_backend="a/b")) == "fedumm-a-b"
