"""``--resume RUN --without CLIENT``: a client withdraws, and what it gave is not in the result."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from fedumm.api.given import plain
from fedumm.cli.main import main
from fedumm.cli.resume import resumed
from fedumm.config import FederateConfig, read_yaml
from fedumm.config.client_data import client_folders
from fedumm.errors import FedummError
from fedumm.federation.client.client import Client
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.federation.runners.flare.admission import admitted
from fedumm.federation.runners.flare.job_options import job_options
from fedumm.federation.runners.flare.site_policy import SitePolicy
from fedumm.federation.runners.flare.sites import present
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.report.run_folder import create, read_records
from support.own_folders import CLIENTS, MODEL, own_folders

STAY = [name for name in CLIENTS if name != "mainz"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_folders(tmp_path_factory.mktemp("sites"))


def run(folders: Path, name: str, *more: str, clients: list[str] | None = None, rounds: int = 2) -> Path:
    """A run in the working folder."""
    data = ",".join(f"{client}={folders / client}" for client in clients or CLIENTS)
    own = ["--client_data", data, "--in_process", "--report_samples", "off", "--num_rounds", str(rounds)]
    assert main(["federate", *MODEL, *own, "--name", name, *more]) == 0
    return Path("runs") / name


def weights(run: Path) -> list[bytes]:
    return [(run / "adapter" / which / "adapter_model.safetensors").read_bytes() for which in ("best", "last")]


def failing(patch: pytest.MonkeyPatch) -> None:
    """No update comes of mainz."""
    train = Client.run_round

    def fails(client: Client, task: RoundTask, trains: bool) -> ClientUpdate:
        if client.name == "mainz":
            raise OSError("its disk is broken")
        return train(client, task, trains)

    patch.setattr(Client, "run_round", fails)


def left_out(run: Path) -> list[tuple[str, str]]:
    return [(r["host"], r["reason"]) for r in read_records(run) if r["event"] == "left_out"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mistake(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(["federate", *argv]) == 2
    return capsys.readouterr().err


def test_a_finished_run_is_repeated_as_if_the_client_had_never_been_there(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the old run, which stays. Its options no longer name the client: here, its rank."""
    svd = ("--aggregator", "svd", "--lora_r")
    old = run(folders, "old", *svd, "8,mainz=4", rounds=1)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["federate", "--resume", "old", "--without", "mainz"]) == 0
    told = capsys.readouterr().out
    assert "is repeated from the start without mainz" in told
    assert "an update of mainz came in round 1, only the state after round 1 is kept" in told
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    new = Path("runs/old-without-mainz")
    assert weights(new) == weights(run(folders, "never", *svd, "8", clients=STAY, rounds=1))
    assert weights(new) != weights(old)
    assert left_out(new) == [("mainz", "it has withdrawn (--without): old is repeated without it")]
    options = read_yaml(new / "config.yaml")
    assert (options["without"], options["repeats"], options["num_clients"]) == ("mainz", "old", 2)
    assert sorted(client_folders(options["client_data"])) == sorted(STAY)
    # Another one leaves, too, in a folder of another name.
    again = resumed({"resume": "old-without-mainz", "without": "site-10", "name": "one"})
    assert (again.without, again.num_clients, again.name) == ("mainz,site-10", 1, str(Path("runs/one")))


def test_a_run_that_holds_nothing_of_the_client_goes_on(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        failing(patch)
        part = run(folders, "part")
    assert "holds nothing of mainz: there is nothing to repeat" in mistake(
        capsys, "--resume", "part", "--without", "mainz"
    )
    more = ("--resume", "part", "--without", "mainz", "--num_rounds", "3")
    assert "goes on without mainz, of whom it holds nothing. It does so in its own folder: leave --name out" in mistake(
        capsys, *more, "--name", "other"
    )
    assert main(["federate", *more]) == 0
    assert "goes on without mainz" in capsys.readouterr().out
    assert weights(part) == weights(run(folders, "never", clients=STAY, rounds=3))
    assert left_out(part) == [("mainz", "it has withdrawn (--without)")]
    saved = Checkpoint(part / "state").load()
    assert saved
    assert sorted(saved[1]["fingerprints"]) == sorted(STAY)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--clients_per_round", "2"], "who trains in a round (--clients_per_round) was drawn from all clients"),
        (["--scaffold"], "SCAFFOLD's control variate was divided by the number of all clients"),
        (["--aggregator", "svd", "--lora_r", "8,mainz=16"], "has a rank or alpha that was theirs alone"),
    ],
)
def test_what_depends_on_the_client_without_its_update_is_repeated(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    failing(monkeypatch)
    run(folders, "part", *options, rounds=1)
    config = resumed({"resume": "part", "without": "mainz"})
    assert (config.resume, Path(config.name).name) == ("", "part-without-mainz")
    assert why in capsys.readouterr().out


def folder(name: str, clients: Collection[str], **options: Any) -> None:
    """Of a run that has begun."""
    own = {"in_process": True, "dataset": "easy_vqa", **options}
    config = FederateConfig(model_backend="blip_vqa", model_name_or_path="tiny", num_clients=len(clients), **own)
    create(Path("runs") / name, config, "test").release()
    Path("runs", name, "metrics.jsonl").write_text(json.dumps({"event": "setup", "clients": dict.fromkeys(clients)}))
    with open(Path("runs", name, "metrics.jsonl"), "a") as file:
        file.write("\n")


def test_what_is_not_possible_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    own = {"client_data": ",".join(f"{name}=easy_vqa" for name in CLIENTS), "partition": "own"}
    folder("old", CLIENTS, **own)
    for names, told in (
        ("zug", "--without zug: the clients of"),
        (",".join(CLIENTS), "--without names all clients: nobody is left."),
        ("a/b", "--without names clients, with commas between, and 'a/b' can't be one."),
    ):
        assert told in mistake(capsys, "--resume", "old", "--without", names)
    assert "--lr can't be changed" in mistake(capsys, "--resume", "old", "--without", "mainz", "--lr", "1")
    folder("shared", ("site-1", "site-2"))
    error = mistake(capsys, "--resume", "shared", "--without", "site-2")
    assert "of one data set that all share, every client's rows depend on who is there" in error
    folder("private", CLIENTS, dp="central", dp_noise_multiplier=1.0, **own)
    assert "spend their privacy again" in mistake(capsys, "--resume", "private", "--without", "mainz")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["old", "private", "shared"]


def test_sites_repeat_a_job_from_its_start() -> None:
    """They are not asked who have withdrawn; of one that is connected, FLARE alone knows."""
    folder("job", ("site-1", "site-2", "site-3"), in_process=False, partition="own", min_clients=2)
    config = resumed({"resume": "job", "without": "site-2"})
    assert (config.resume, Path(config.name).name, config.num_clients) == ("", "job-without-site-2", 2)
    assert present(["site-1", "site-2", "site-3"], config) == ["site-1", "site-3"]
    options = job_options(config)
    assert (options["without"], options["repeats"]) == ("site-2", "job")
    assert admitted(options, SitePolicy()).withdrawn == ["site-2"]


def test_the_options_say_what_they_mean() -> None:
    own = {"model_backend": "blip_vqa", "client_data": "a=x,b=y", "num_clients": 2, "partition": "own"}
    assert FederateConfig(**own, **plain({"without": ["c", "d"]})).withdrawn == ["c", "d"]
    with pytest.raises(FedummError, match="--client_data names b, and --without leaves it out"):
        FederateConfig(**own, without="b")
    with pytest.raises(FedummError, match="--repeats means nothing without --without"):
        FederateConfig(**own, repeats="old")
