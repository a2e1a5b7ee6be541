"""Of an error a real site tells its kind and our sentence; and what our processes say to each other is not pickled."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import pickle
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from fedumm.errors import FedummError, PublicError
from fedumm.features.report import CacheReport
from fedumm.federation.client.host import Host
from fedumm.federation.client.redaction import SENTENCES, WHERE, withheld, without_data
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
)
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.flare import framing
from fedumm.federation.runners.flare.serving import answer_messages
from fedumm.metrics.evaluation import Evaluation
from support.toy import toy_config

SECRET = "Doe Jane;1970-01-01"
SURVEY = DataStatsRequest(["site-1"])
SETUP = InitRequest({}, {}, "site-1")


def sentence(code: str) -> str:
    return f"{code}: {SENTENCES[code]} {WHERE}"


@pytest.mark.parametrize(
    ("error", "message", "told"),
    [
        (FedummError(SECRET), SURVEY, sentence("data")),
        (KeyError(SECRET), SETUP, sentence("model")),
        (OSError(errno.ENOSPC, SECRET, f"/srv/{SECRET}"), SURVEY, sentence("disk")),
        (FileNotFoundError(2, SECRET, f"/srv/{SECRET}"), SURVEY, sentence("files")),
        (MemoryError(SECRET), SURVEY, sentence("memory")),
        (RuntimeError(f"CUDA out of memory. {SECRET}"), SETUP, sentence("memory")),
        (ModuleNotFoundError(SECRET), SURVEY, sentence("libraries")),
        (PublicError("round 3 is not the next"), SETUP, "round 3 is not the next"),
    ],
)
def test_of_an_error_its_kind_leaves_and_the_log_has_the_rest(
    error: Exception, message: Message, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert withheld(error, message) == HostError(told)
    assert isinstance(error, PublicError) or "Doe Jane" in caplog.text


def test_of_a_clients_error_in_a_round_too() -> None:
    texts = [f"ValueError: {SECRET}", f"OSError: {SECRET}", SECRET, f"print: {SECRET}", "PublicError: asked twice", ""]
    updates = [ClientUpdate(client="site-1", round=1, error=text) for text in texts]
    answer = without_data(RoundReply(updates))
    assert isinstance(answer, RoundReply)
    told = [sentence("round"), sentence("files"), sentence("round"), sentence("round"), "asked twice", ""]
    assert [update.error for update in answer.updates] == told


def test_of_a_cache_its_numbers_leave_and_no_folder() -> None:
    ready = InitReply(
        spec={},
        adapter_config={},
        trainable=1,
        total=2,
        adapter=b"",
        test_samples=3,
        cache=[CacheReport("x", note="/srv/Doe Jane: full"), CacheReport("y", "disk", 9)],
        device="cpu",
    )
    assert without_data(ready) == replace(
        ready, cache=[CacheReport("x", note="why is in the site's log"), ready.cache[1]]
    )


@pytest.mark.parametrize("simulated", [False, True])
def test_a_host_tells_all_only_where_the_server_is_the_same_users(simulated: bool, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"{SECRET}\nRoe Rick;1980-02-02\n")
    config = toy_config(model_backend="blip_vqa", plugin="", dataset=str(tmp_path))
    answer = Host("site-1", config, lambda *_: None, tmp_path, simulated=simulated).handle(SURVEY)
    assert isinstance(answer, HostError)
    assert ("Doe Jane" in answer.message) == simulated
    assert simulated or (answer.message, answer.details) == (sentence("data"), "")


class Echo:
    """A host with one answer."""

    def handle(self, message: Message) -> Message:
        assert message == SURVEY
        return DataStats({"site-1": {"train": 2**40, "heldout": 1, "tasks": {}, "labels": {}}}, "größe", "f")


def test_nothing_between_our_processes_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("pickled")

    for owner, name in ((Connection, "recv"), (Connection, "send"), (pickle, "loads"), (pickle, "dumps")):
        monkeypatch.setattr(owner, name, forbidden)
    for name in ("loads", "dumps"):
        monkeypatch.setattr(f"multiprocessing.reduction.ForkingPickler.{name}", forbidden)
    ours, theirs = multiprocessing.Pipe()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            answer_messages(theirs, Echo, withheld)  # type: ignore[arg-type]
        except BaseException as error:
            failures.append(error)

    child = threading.Thread(target=serve)
    child.start()
    framing.send(ours, to_wire(SURVEY))
    assert from_wire(framing.receive(ours)) == Echo().handle(SURVEY)
    ours.close()
    child.join()
    assert [type(error) for error in failures] == [EOFError]


@pytest.mark.parametrize(
    "sent", [pickle.dumps({"kind": "DataStatsRequest"}), b"", b"\xc1", b"\x93\x01\x02\x03", b"\x80" * 9]
)
def test_what_is_no_message_is_an_error_and_not_code(sent: bytes) -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.send_bytes(sent)
    with pytest.raises(ValueError):  # noqa: PT011
        framing.receive(theirs)


def test_a_message_beyond_the_limit_is_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MOST_BYTES", 10)
    ours, theirs = multiprocessing.Pipe()
    ours.send_bytes(b"x" * 11)
    with pytest.raises(OSError, match="bad message length"):
        framing.receive(theirs)


def test_of_scores_the_kinds_that_everybody_knows_leave() -> None:
    """Values of a column of the site's data would be names in them."""
    parts = {"yes/no": (1.0, 2), "other": (0.5, 2), "Doe Jane": (0.0, 1), "1970-01-01": (1.0, 1)}
    own = {"vqa": Evaluation(0.8, 6, parts, None)}
    answer = without_data(RoundReply([ClientUpdate(client="site-1", round=1, before=own, after=own)], test=own))
    assert isinstance(answer, RoundReply)
    for scores in (answer.test, answer.updates[0].before, answer.updates[0].after):
        assert scores["vqa"].parts == {"yes/no": (1.0, 2), "other": (0.5, 4)}
        assert (scores["vqa"].score, scores["vqa"].count) == (0.8, 6)


def test_where_a_site_has_its_model_does_not_leave() -> None:
    config = {"r": 4, "base_model_name_or_path": "/srv/models/ours", "target_modules": "q|k"}
    ready = InitReply(
        spec={}, adapter_config=config, trainable=1, total=1, adapter=b"", test_samples=0, cache=[], device="cpu"
    )
    answer = without_data(ready)
    assert isinstance(answer, InitReply)
    assert answer.adapter_config == {"r": 4, "target_modules": "q|k"}
