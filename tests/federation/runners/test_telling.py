"""What a job's server tells while the job runs: records in order and in parts, numbers, one line a round."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.widgets.info_collector import GroupInfoCollector, InfoCollector

from fedumm.federation.runners.flare import telling
from fedumm.federation.runners.flare.telling import MOST_BYTES, MOST_RECORDS, Telling
from support.records import ROUND, SETUP


def told(own: Telling, since: Any) -> list[int]:
    return [record["n"] for record in own.answer(telling.TOPIC, {"since": since}, None)["records"]]


@pytest.fixture
def running(tmp_path: Path) -> Telling:
    own = Telling(lambda line: None)
    own.begin(tmp_path)
    return own


def write(folder: Path, numbers: range, **more: Any) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps({"event": "client", "n": n, **more}) + "\n" for n in numbers)


def test_each_record_is_told_once_in_parts_and_only_when_it_is_whole(tmp_path: Path, running: Telling) -> None:
    assert told(Telling(lambda line: None), 0) == []
    assert told(running, 0) == []
    write(tmp_path, range(2 * MOST_RECORDS + 5))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"event": "cli')
    seen: list[int] = []
    while new := told(running, len(seen)):
        assert len(new) <= MOST_RECORDS
        seen += new
    assert seen == list(range(2 * MOST_RECORDS + 5))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('ent", "n": -1}\n')
    assert told(running, len(seen)) == [-1]
    assert told(running, len(seen) + 1) == []
    assert told(running, 10) == list(range(10, 10 + MOST_RECORDS)), "another asks for what was told before"


def test_an_answer_has_a_bounded_size(tmp_path: Path, running: Telling) -> None:
    write(tmp_path, range(5), text="x" * (MOST_BYTES // 3))
    assert told(running, 0) == [0, 1]
    write(tmp_path, range(5, 7), text="x" * (2 * MOST_BYTES))
    assert told(running, 4) == [4]
    assert told(running, 5) == [5], "one is told, however long it is"


@pytest.mark.parametrize("question", [None, [], {}, {"since": -1}, {"since": "9"}, {"since": True}, {"since": 1.5}])
def test_a_wrong_question_is_answered_from_the_start(tmp_path: Path, running: Telling, question: Any) -> None:
    write(tmp_path, range(3))
    assert [record["n"] for record in running.answer(telling.TOPIC, question, None)["records"]] == [0, 1, 2]


def test_a_round_is_one_line_in_the_log_and_numbers_for_the_monitor() -> None:
    lines: list[str] = []
    own = Telling(lines.append)
    own.on_record({**SETUP, "seconds": 5.0})
    assert own.statistics == {}
    for client in range(5):
        own.on_record({"event": "client", "client": f"site-{client}"})
    own.on_record({**ROUND, "test": math.nan})
    assert lines == [
        "round 2/10: 4 of 5 clients used, held-out 50.00 %, common test 12.50 %, 1.23 MB down, 9.88 MB up, 12.3 s, "
        "about 80 s left"
    ]
    asked, collector = FLContext(), GroupInfoCollector()
    asked.set_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR, collector)
    own.handle_event(EventType.START_RUN, asked)
    assert collector.info == {}
    own.handle_event(InfoCollector.EVENT_TYPE_GET_STATS, asked)
    assert collector.info == {"fedumm": {"round": 2, "accuracy": 0.5, "loss": 1.23456, "clients": 4}}
