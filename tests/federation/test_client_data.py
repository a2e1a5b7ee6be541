"""Clients with data of their own on one machine: ``--client_data``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedumm
from fedumm.cli.main import main
from fedumm.config import FederateConfig, read_yaml
from fedumm.config.client_data import client_folders, with_full_paths
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message
from fedumm.report.run_folder import read_records
from support.own_folders import CLIENTS, MODEL, own_folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_folders(tmp_path_factory.mktemp("sites"))


def weights(run: Path) -> list[bytes]:
    return [(run / "adapter" / which / "adapter_model.safetensors").read_bytes() for which in ("best", "last")]


def run(monkeypatch: pytest.MonkeyPatch, place: Path, *more: str) -> Path:
    monkeypatch.chdir(place)
    assert main(["federate", *MODEL, "--num_rounds", "2", *more]) == 0
    return place / "runs" / more[-1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("place")
        return run(patch, place, "--client_data", str(folders / "sites.yaml"), "--in_process", "--name", "own")


def test_each_client_trains_on_all_of_its_own_rows(finished: Path, folders: Path) -> None:
    split = json.loads((finished / "partition.json").read_text())
    assert split["method"] == "own"
    assert {name: own["train"] + own["heldout"] for name, own in split["clients"].items()} == CLIENTS
    (setup,) = [r for r in read_records(finished) if r["event"] == "setup"]
    assert list(setup["clients"]) == ["heidelberg", "mainz", "site-10"]
    assert setup["test_samples"] == 3 * 8
    found = json.loads((finished / "data.json").read_text())["clients"]
    assert {name: own["train"]["rows"]["samples"] for name, own in found.items()} == CLIENTS
    options = read_yaml(finished / "config.yaml")
    assert client_folders(options["client_data"])["mainz"] == str((folders / "mainz").resolve())


def test_a_dry_run_tells_what_the_run_then_does(
    finished: Path, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders)
    given = ["--client_data", "sites.yaml", "--in_process", "--num_rounds", "2", "--dry_run"]
    assert main(["federate", *MODEL, *given]) == 0
    told = capsys.readouterr().out
    records = list(read_records(finished))
    (setup,) = [r for r in records if r["event"] == "setup"]
    steps = sum(r["steps"] for r in records if r["event"] == "client")
    heldout = sum(own["heldout"] for own in setup["clients"].values())
    assert f"({steps} steps" in told
    assert f"{5 * heldout + 3 * setup['test_samples']} samples scored" in told
    assert all(f"{client}: " in told for client in CLIENTS)
    assert not (folders / "runs").exists()


def test_labels_are_told_on_one_machine(finished: Path) -> None:
    split = json.loads((finished / "partition.json").read_text())
    for name, count in CLIENTS.items():
        assert sum(split["clients"][name]["labels"].values()) == split["clients"][name]["train"] < count


def test_the_page_has_examples_and_says_whose(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "These are samples of heidelberg." in page
    assert "mainz: training" in page


@pytest.mark.slow
def test_the_same_bits_as_of_hosts_that_share_nothing(
    tmp_path: Path, finished: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a model of its own, in other processes: as real sites are."""
    data = ",".join(f"{name}={folders / name}" for name in CLIENTS)
    other = run(monkeypatch, tmp_path, "--client_data", data, "--simulator", "--name", "other")
    assert weights(other) == weights(finished)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["flora", "fedsa_lora", "fedavg"])
def test_a_resumed_run_ends_alike(tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    data = ["--client_data", str(folders / "sites.yaml"), "--aggregator", method, "--report_samples", "off"]
    whole = run(monkeypatch, tmp_path, *data, "--in_process", "--name", "whole")
    assert main(["federate", *MODEL, *data, "--in_process", "--num_rounds", "1", "--name", "part"]) == 0
    assert main(["federate", "--resume", "part", "--num_rounds", "2"]) == 0
    assert weights(tmp_path / "runs" / "part") == weights(whole)


def test_one_model_is_loaded_for_all_of_a_process(
    tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    real = Host.handle

    def handle(host: Host, message: Message) -> Message:
        answer = real(host, message)
        if host.ready:
            models.append(id(host.ready.model.backbone.model))
        return answer

    monkeypatch.setattr(Host, "handle", handle)
    data = ["--client_data", str(folders / "sites.yaml"), "--report_samples", "off"]
    run(monkeypatch, tmp_path, *data, "--in_process", "--name", "one")
    assert len(set(models)) == 1


def test_python_takes_it(tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch, finished: Path) -> None:
    monkeypatch.chdir(tmp_path)
    made = fedumm.federate(
        model_backend="blip_vqa", model_name_or_path="tiny", lr=1e-3, threads=1, num_rounds=2, report_samples="off",
        client_data={name: folders / name for name in CLIENTS},
    )  # fmt: skip
    assert weights(made.path) == weights(finished)


@pytest.mark.parametrize(
    ("given", "more", "told"),
    [
        ("a=x,b", [], "--client_data is a YAML file"),
        ("a=x,a=y", [], "names a twice"),
        ("../a=x", [], "'../a=x' is none"),
        ("none.yaml", [], "Config file not found: none.yaml"),
        ("a=x,b=y,c=z", ["--num_clients", "4"], "names 3 clients, and --num_clients says 4"),
        ("a=x,b=y", ["--dirichlet_alpha", "0.5"], "leave --dirichlet_alpha out"),
        ("a=x,b=y", ["--partition", "iid"], "leave --partition iid out"),
        ("a=x,b=y", ["--hosts", "2"], "leave --hosts out"),
        ("a=nowhere,b=y", [], "a: "),
        ("a=x,b=y", ["--lora_r", "8,c=4", "--aggregator", "svd"], "names c, but the clients are a to b"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry_run"]], ids=["", "dry"])
def test_what_makes_no_sense_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    given: str, more: list[str], told: str, dry: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["federate", *MODEL, "--client_data", given, "--in_process", *more, *dry]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_file_of_folders_may_lie_beside_them(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a").mkdir()
    file = tmp_path / "sites" / "all.yaml"
    file.write_text("a: a\nb: owner/name\n")
    assert client_folders(with_full_paths(str(file))) == {
        "a": str((tmp_path / "sites" / "a").resolve()),
        "b": "owner/name",
    }
    for content, told in (
        ("a: [1, 2]\n", "a needs a folder"),
        ("a: x,b=y\n", "a needs a folder"),
        ("", "names no client"),
    ):
        file.write_text(content)
        with pytest.raises(FedummError, match=told):
            with_full_paths(str(file))


def test_a_job_has_no_place_in_it(folders: Path) -> None:
    from fedumm.federation.runners.flare.job_options import job_options

    given: dict[str, Any] = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "chest"}
    config = FederateConfig(
        **given, partition="own", num_clients=3, client_data=f"mainz={folders / 'mainz'}", export_dir="jobs"
    )
    assert str(folders) not in json.dumps(job_options(config))
    assert job_options(config)["partition"] == "own"
