"""Sites that fail while a job runs, on real processes of NVIDIA FLARE: the rows of docs/reliability.md."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil
import pytest

from fedumm.federation.runners.flare.jobs import COMPLETED
from support.federation import Federation, federation, job_process, processes_in, training_process
from support.processes import wait_for

OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 2, "lr": 0.001,
    "max_train_samples": 120, "max_eval_samples": 30, "min_clients": 1, "num_rounds": 8,
}  # fmt: skip
TIMEOUT = 60
"""Seconds. A training that starts again takes half a minute on a busy machine."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Server and two sites."""
    with federation(tmp_path_factory.mktemp("faults"), {"site-1": {"threads": 1}, "site-2": {"threads": 1}}) as running:
        yield running


def reasons(records: Sequence[dict[str, Any]]) -> dict[int, str]:
    """By round in which site-2 did not count, why."""
    lost = [r for r in records if r["event"] == "client" and r["rejected"]]
    assert {r["client"] for r in lost} <= {"site-2"}
    return {r["round"]: r["reason"] for r in lost}


def clients(records: Sequence[dict[str, Any]]) -> list[int]:
    """How many counted, by round."""
    return [r["clients"] for r in records if r["event"] == "round"]


def missed(up: Federation, ident: str, why: str) -> int:
    """In how many rounds of a running job site-2 did not count for this reason."""
    return sum(reason.startswith(why) for reason in reasons(up.records(ident, "client")).values())


def back(up: Federation, ident: str) -> None:
    """Wait until both sites count in a round from now on."""
    before = len(clients(up.records(ident, "round")))
    wait_for(lambda: 2 in clients(up.records(ident, "round"))[before:], 2 * TIMEOUT)


def told(what: str, ident: str, up: Federation, records: Sequence[dict[str, Any]] = ()) -> None:
    """What the page's numbers are from (pytest -s)."""
    records = records or up.records(ident, "round")
    print(what, [(r["round"], r["clients"], round(r["seconds"], 1)) for r in records if r["event"] == "round"])


def whole(records: Sequence[dict[str, Any]]) -> bool:
    """Whether the run went to its end."""
    return records[-1]["event"] == "summary" and len(clients(records)) == OPTIONS["num_rounds"]


def test_a_site_fails_in_every_way_in_one_job_and_each_costs_its_rounds_only(up: Federation) -> None:
    """Its training is killed, as when memory has run out; it stands still; it signs off, as a shutdown makes it."""
    ident = up.submit("one-site", **{**OPTIONS, "num_rounds": 150}, round_timeout=TIMEOUT)
    kit = up.kits.sites["site-2"]
    up.rounds(ident, 1)
    for number in range(1, 4):
        back(up, ident)
        wait_for(lambda: training_process(kit), 60).kill()
        wait_for(lambda: missed(up, ident, "the process of site-2 died (SIGKILL, out of memory?)") == number, 60)  # noqa: B023
    back(up, ident)

    stopped, late = processes_in(kit), f"no answer within {TIMEOUT} s (--round_timeout)"
    assert len(stopped) >= 3
    before = missed(up, ident, late)
    try:
        for process in stopped:
            process.suspend()
        wait_for(lambda: missed(up, ident, late) > before, 2 * TIMEOUT)
    finally:
        for process in stopped:
            process.resume()
    back(up, ident)

    up.deployment.processes["site-2"].terminate()
    wait_for(lambda: not processes_in(kit), 60)
    state, records = up.over(ident, 6 * TIMEOUT)
    told(f"signed off; {state}", ident, up, records)
    assert state.status == COMPLETED
    assert records[-1]["event"] == "summary"
    assert len(clients(records)) == 150
    assert clients(records)[-1] == 1
    assert max(r["seconds"] for r in records if r["event"] == "round") < TIMEOUT + 10


def test_a_job_begins_without_a_site_that_is_not_there(up: Federation) -> None:
    if (site := up.deployment.processes["site-2"]).poll() is None:
        site.terminate()
    wait_for(lambda: up.session.connected() == ["site-1"], 150)
    state, records = up.over(up.submit("never-there", **OPTIONS), 240)
    assert state.status == COMPLETED
    assert whole(records)
    assert set(clients(records)) == {1}
    told("never there", "", up, records)


def test_a_site_that_is_gone_without_a_word_does_not_stop_the_others(up: Federation) -> None:
    """kill -9 of its process, as a power cut does: every round is done, and NVIDIA FLARE calls the job abnormal."""
    up.all_up()
    ident = up.submit("gone", **{**OPTIONS, "num_rounds": 40}, round_timeout=TIMEOUT)
    up.rounds(ident, 2)
    up.kill("site-2")
    began = time.monotonic()
    wait_for(lambda: not processes_in(up.kits.sites["site-2"]), 60)
    print(f"gone: its other processes left after {time.monotonic() - began:.0f} s")
    state, records = up.over(ident, 4 * TIMEOUT + 60)
    told(f"gone: over after {time.monotonic() - began:.0f} s; {state}", ident, up, records)
    assert records[-1]["event"] == "summary"
    assert len(clients(records)) == 40
    assert clients(records)[-1] == 1


def test_a_job_process_that_is_killed_at_a_site_ends_the_job_soon(up: Federation) -> None:
    """That is NVIDIA FLARE's decision. What was recorded stays, and the next job runs."""
    up.all_up()
    ident = up.submit("job-process", **OPTIONS, round_timeout=TIMEOUT)
    up.rounds(ident, 2)
    found: psutil.Process = wait_for(lambda: job_process(up.kits.sites["site-2"]), 10)
    found.kill()
    began = time.monotonic()
    state, records = up.over(ident, 60)
    print(state, f"{time.monotonic() - began:.0f} s", clients(records))
    assert state.status == "FINISHED:EXECUTION_EXCEPTION"
    assert len(clients(records)) >= 2
    wait_for(lambda: not any(map(job_process, up.kits.all.values())), 60)
    wait_for(lambda: not any(map(training_process, up.kits.sites.values())), 10)


def test_two_jobs_at_once_have_the_bits_of_one(up: Federation) -> None:
    up.all_up()
    short = {**OPTIONS, "num_rounds": 2}
    both = [up.submit(name, **short) for name in ("first", "second")]
    wait_for(lambda: all(up.records(ident, "setup") for ident in both), 150)
    adapters = set()
    for ident in both:
        file = up.result(ident) / "adapter" / "last" / "adapter_model.safetensors"
        adapters.add(file.read_bytes())
    assert len(adapters) == 1
