"""Watching a job: what a server may say, in whichever order, and what of it is shown."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedumm.adapters.origin import ORIGIN, Origin, read_origin
from fedumm.errors import FedummError
from fedumm.federation.runners.flare import watching
from fedumm.federation.runners.flare.job_options import options_of_result
from fedumm.federation.runners.flare.jobs import ConnectionLostError, JobState, admin_kit, plain_record
from fedumm.federation.runners.flare.watching import Watcher, as_records
from fedumm.federation.runners.received import error_of, records_of, take
from fedumm.report.console import RunConsole
from support.recorded_run import record_run
from support.records import ROUND, SETUP

HOSTILE = "\x1b[2Jsite\u202e\n-1"
LOST = ConnectionLostError("the server does not answer")


class Server:
    """Says what a test wants, one thing after the other; an error is raised."""

    def __init__(self, states: list[str | Exception], answers: list[list[Any] | Exception | None]) -> None:
        self.states, self.answers, self.asked, self.logins = states, answers, list[int](), 0
        self.waiting = "waiting for site-2"

    def state(self, job: str) -> JobState:
        state = self.states.pop(0)
        if isinstance(state, Exception):
            raise state
        return JobState("demo", state)

    def records(self, job: str, since: int) -> list[Any] | None:
        self.asked.append(since)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer and [plain_record(record) for record in answer]

    def connect(self) -> None:
        self.logins += 1


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], tuple[Watcher, Console]]:
    """On a screen that is kept, in no time."""
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(watching, "_STATE_EVERY", 0.0)

    def make(server: Server) -> tuple[Watcher, Console]:
        screen = Console(record=True, width=150, file=io.StringIO())
        return Watcher(server, "j", RunConsole(screen)), screen  # type: ignore[arg-type]

    return make


def test_every_record_is_shown_once_whatever_the_connection_does(watcher: Any) -> None:
    running, over = "RUNNING", "FINISHED:COMPLETED"
    rounds = [{**ROUND, "round": number} for number in (1, 2, 3)]
    server = Server(
        ["SUBMITTED", running, running, LOST, running, running, over],
        [None, [SETUP], [rounds[0]], LOST, [rounds[1]]],
    )
    own, screen = watcher(server)
    assert own.watch().status == over
    own.show_rest([SETUP, *rounds, {"event": "final", "round": 3}])
    text = screen.export_text()
    assert [text.count(f"  {number}/10 ") for number in (1, 2, 3)] == [1, 1, 1]
    assert text.count("2 clients on 2 host(s)") == 1
    assert server.logins == 2


def test_a_server_that_stays_silent_is_given_up(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LONGEST_SILENCE", 0.0)
    own, _ = watcher(Server(["RUNNING", LOST, LOST, LOST], []))
    with pytest.raises(ConnectionLostError):
        own.watch()


def test_a_job_that_is_called_running_and_is_not_there_is_given_up(
    watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LONGEST_MUTE", -1.0)
    own, _ = watcher(Server(["RUNNING", "RUNNING", "RUNNING"], [[SETUP], None]))
    with pytest.raises(FedummError, match=r"nothing of it has answered.*submit --resume"):
        own.watch()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(ROUND)), value=ANY, more=st.dictionaries(st.text(max_size=9), ANY, max_size=2))
def test_no_record_is_a_traceback(key: str, value: Any, more: dict[str, Any]) -> None:
    with open("/dev/null", "w") as nowhere:
        console = RunConsole(Console(file=nowhere, width=150))
        with contextlib.suppress(FedummError), as_records("record"):
            console.show(plain_record({**ROUND, **more, key: value}))


@pytest.mark.parametrize("record", [None, 3, [], "setup", {}, {"event": 3}, {"round": 1}])
def test_what_is_no_record_is_one_error(record: Any) -> None:
    with pytest.raises(FedummError, match="something else than the records of a run"):
        plain_record(record)


def test_texts_of_a_record_act_on_no_screen() -> None:
    told = plain_record({"event": "note", HOSTILE: [HOSTILE, {"a": HOSTILE}]})
    assert json.dumps(told).isprintable()
    assert not any("\x1b" in text or "\n" in text for text in [*told, told[next(k for k in told if k != "event")][0]])


def test_deep_records_end() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert plain_record({"event": "x", "deep": deep})["event"] == "x"


def test_a_result_with_a_link_is_refused(tmp_path: Path) -> None:
    run = record_run(tmp_path / "run")
    assert [record["event"] for record in records_of(run)][-1] == "summary"
    (run / "adapter").symlink_to(tmp_path)
    with pytest.raises(FedummError, match="is a link"):
        records_of(run)


def test_of_a_result_what_is_a_runs_is_taken(tmp_path: Path) -> None:
    run = record_run(tmp_path / "received")
    (run / "report.html").write_text("<script>")
    (run / "state").mkdir()
    (run / "adapter" / "best").mkdir(parents=True, exist_ok=True)
    (run / "adapter" / "best" / ORIGIN).write_text('{"model_name_or_path": "local-model"}')
    (run / "error.txt").write_text("gave up\x1b[2J\nbecause")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("mine")
    options = options_of_result(run)
    assert error_of(run) == "gave up\\x1b[2J\nbecause"
    take(run, tmp_path / "mine", options, lambda record: None)
    taken = {path.name for path in (tmp_path / "mine").iterdir()}
    assert taken >= {"metrics.jsonl", "state", "rounds.png"}
    assert not taken & {"report.html", "error.txt"}
    assert (tmp_path / "mine" / "config.yaml").read_text() == "mine"
    assert read_origin(tmp_path / "mine" / "adapter" / "best") == Origin.of(options), "the model as it is called here"


def test_a_result_names_no_place_of_this_machine(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    run = record_run(tmp_path / "run", config=f"data_path: {secret}\nanswers: {secret}\nthreads: 3\n")
    options = options_of_result(run)
    assert (options.data_path, options.answers, options.threads) == ("", "", 0)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("dataset: easy_vqa", f"dataset: {secret}"))
    with pytest.raises(FedummError, match="is a path in the job's result"):
        options_of_result(run)


def test_a_startup_kit_is_an_administrators(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="that is no startup kit"):
        admin_kit(tmp_path)
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "fed_client.json").write_text("{}")
    with pytest.raises(FedummError, match="that is the startup kit of a server or a site"):
        admin_kit(tmp_path)
    file = tmp_path / "startup" / "fed_admin.json"
    file.write_text("[]")
    with pytest.raises(FedummError, match="can't be read"):
        admin_kit(tmp_path)
    file.write_text('{"admin": {"username": "me"}}')
    assert admin_kit(tmp_path / "startup") == admin_kit(tmp_path) == (tmp_path, "me")
