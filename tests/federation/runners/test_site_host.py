"""A site's host in a process of its own: its death is an error of one round, and the next round has it back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedumm.backends import get_backend
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import DataStats, DataStatsRequest, HostError, Message, RoundTask
from fedumm.federation.runners.flare.site_host import LOG, SiteHost, StoppedHostError
from fedumm.federation.runners.in_process import ask_in_turn
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.report.run_folder import read_records
from support.certificates import write_startup
from support.toy import LORA_TOY, PlainFolder, lora_options, together, toy_config

SITES = {"site-1": ["site-1"], "site-2": ["site-2"]}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the toy backend, which is how a site gets a backend of its own; here and in the children."""
    package = tmp_path / "site" / "toys-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[fedumm.backends]\nlora_toy = support.{LORA_TOY.stem}\n")
    paths = [str(package.parent), str(LORA_TOY.parents[1])]
    monkeypatch.setattr(sys, "path", [*paths, *sys.path])
    monkeypatch.delitem(sys.modules, f"support.{LORA_TOY.stem}", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture
def started() -> Iterator[list[SiteHost]]:
    hosts: list[SiteHost] = []
    yield hosts
    for host in hosts:
        host.close()


def options(**more: Any) -> FederateConfig:
    own = {"num_clients": 2, "num_rounds": 3, "in_process": False, "plugin": ""}
    return toy_config(**lora_options(**{**own, **more}))


def federated(folder: Path, given: FederateConfig, ask: Callable[[str, Message], Message]) -> list[dict[str, Any]]:
    """The records of a run of two sites, each asked with ``ask``."""
    folder.mkdir()
    config = given

    def handle(site: str, message: Message) -> Message:
        try:
            return ask(site, message)
        except FedummError as error:
            return HostError(str(error))

    drive(Server(config, SITES, folder / "state", [PlainFolder(folder, config)]), partial(ask_in_turn, handle))
    return list(read_records(folder))


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "last" / "adapter_model.safetensors").read_bytes()


def test_a_killed_process_costs_its_site_one_round(tmp_path: Path, started: list[SiteHost]) -> None:
    """With something that the server, and something that the site keeps from round to round."""
    given = options(scaffold=True, wire="int8")
    get_backend(given.model_backend)
    remote = SiteHost("site-2", given, tmp_path / "site-2", tmp_path, lambda: False)
    started.append(remote)

    def hosts(folder: Path) -> dict[str, Host]:
        return {site: Host(site, given, lambda *_: None, folder / site) for site in SITES}

    killed = hosts(tmp_path / "beside") | {"site-2": remote}

    def ask(site: str, message: Message) -> Message:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2:
            psutil.Process(remote.pid).kill()
        return killed[site].handle(message)

    records = federated(tmp_path / "killed", given, ask)
    (rejected,) = [r for r in records if r["event"] == "client" and r["rejected"]]
    assert (rejected["round"], rejected["client"], rejected["rejected"]) == (2, "site-2", "failed")
    assert "the process of site-2 died (SIGKILL, out of memory?)" in rejected["reason"]
    assert str(tmp_path) not in rejected["reason"], "a site's folders are nobody else's business"
    assert records[-1]["event"] == "summary"

    # The same, without a process: in round 2 one host gives no answer.
    silent = hosts(tmp_path / "here")

    def ask_here(site: str, message: Message) -> Message:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2:
            raise FedummError("no answer")
        return silent[site].handle(message)

    federated(tmp_path / "silent", given, ask_here)
    assert weights(tmp_path / "killed") == weights(tmp_path / "silent")


@pytest.mark.slow
def test_with_local_privacy_no_child_answers_a_round_again(tmp_path: Path, started: list[SiteHost]) -> None:
    """Each answer has noise of its own: two would tell more than one may."""
    given = options(dp="local", dp_noise_multiplier=1.0, client_weights="equal", aggregator="ffa_lora", num_clients=1)
    get_backend(given.model_backend)
    site = SiteHost("site-1", given, tmp_path / "site-1", tmp_path, lambda: False)
    started.append(site)
    asked: list[Message] = []

    def ask(message: Message) -> dict[str, Message]:
        if isinstance(message, RoundTask) and message.round == 2:
            raise FedummError("enough")
        asked.append(message)
        return {"site-1": site.handle(message)}

    (tmp_path / "run").mkdir()
    with pytest.raises(FedummError, match="enough"):
        drive(
            Server(given, {"site-1": ["site-1"]}, tmp_path / "run" / "state", [PlainFolder(tmp_path / "run", given)]),
            together(ask),
        )
    psutil.Process(site.pid).kill()
    with pytest.raises(FedummError, match="died"):
        site.handle(asked[-1])
    again = site.handle(asked[-1])
    assert isinstance(again, HostError)
    assert "noise would be spent twice" in again.message


def survey() -> Message:
    return DataStatsRequest(list(SITES))


def test_a_site_whose_kit_can_not_sign_says_so_before_anything_is_loaded(
    tmp_path: Path, started: list[SiteHost]
) -> None:
    """Masked rounds are never had without signatures in silence; with the kit's files it goes on to the data."""
    given = options(secure_aggregation=True)
    get_backend(given.model_backend)
    for startup, told in ((tmp_path / "nothing", "startup/client.crt can't be read"), (tmp_path / "startup", "")):
        started.append(SiteHost("site-1", given, tmp_path / "run", startup, lambda: False))
        write_startup(tmp_path / "startup", "site-1")
        answer = started[-1].handle(survey())
        assert isinstance(answer, HostError if told else DataStats)
        assert told in getattr(answer, "message", "")


def test_an_end_that_is_asked_for_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = tmp_path / "own.sh"
    launcher.write_text(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    monkeypatch.setenv("FEDUMM_LAUNCHER", str(launcher))
    site = SiteHost("site-1", options(use_env_script=True), tmp_path / "site", tmp_path, (tmp_path / "pid").exists)
    with pytest.raises(StoppedHostError):
        site.handle(survey())
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("script", ["echo nothing here >&2; exit 3", "exec sleep 0"])
def test_a_child_that_does_not_start_is_an_error_of_that_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    launcher = tmp_path / "own.sh"
    launcher.write_text(script)
    monkeypatch.setenv("FEDUMM_LAUNCHER", str(launcher))
    site = SiteHost("site-1", options(use_env_script=True), tmp_path / "site", tmp_path, lambda: False)
    with pytest.raises(
        FedummError, match=r"the process of site-1 died \(status [03]\); what it printed is in host.log"
    ):
        site.handle(survey())
    assert ("nothing here" in (tmp_path / "site" / LOG).read_text()) == ("echo" in script)
