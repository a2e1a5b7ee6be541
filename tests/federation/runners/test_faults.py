"""Sites that fail while a job runs, on real processes of NVIDIA FLARE: the rows of docs/reliability.md."""

from __future__ import annotations

import signal
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
    "max_train_samples": 240, "max_eval_samples": 30, "min_clients": 1, "num_rounds": 8,
}  # fmt: skip
TIMEOUT = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Server and two sites."""
    with federation(tmp_path_factory.mktemp("faults"), {"site-1": {"threads": 1}, "site-2": {"threads": 1}}) as running:
        yield running


@pytest.fixture(autouse=True)
def _all_up(up: Federation) -> None:
    up.all_up()


def reasons(records: Sequence[dict[str, Any]]) -> dict[int, str]:
    """By round in which site-2 did not count, why."""
    lost = [r for r in records if r["event"] == "client" and r["rejected"]]
    assert {r["client"] for r in lost} <= {"site-2"}
    return {r["round"]: r["reason"] for r in lost}


def clients(records: Sequence[dict[str, Any]]) -> list[int]:
    """How many counted, by round."""
    return [r["clients"] for r in records if r["event"] == "round"]


def whole(records: Sequence[dict[str, Any]]) -> bool:
    """Whether the run went to its end."""
    return records[-1]["event"] == "summary" and len(clients(records)) == OPTIONS["num_rounds"]


def test_a_training_that_is_killed_costs_that_round_each_time(up: Federation) -> None:
    """As when memory has run out."""
    ident = up.submit("killed-training", **OPTIONS)
    for number in range(3):
        up.rounds(ident, 2 * number + 1)
        wait_for(lambda: training_process(up.kits.sites["site-2"]), 60).kill()
        wait_for(lambda: len(reasons(up.records(ident, "client"))) == number + 1, 60)  # noqa: B023
    state, records = up.over(ident, 120)
    assert state.status == COMPLETED
    assert whole(records)
    assert clients(records).count(1) == 3
    assert all("the process of site-2 died (SIGKILL, out of memory?)" in why for why in reasons(records).values())


def test_a_site_that_stands_still_is_left_out_and_welcome_when_it_goes_on(up: Federation) -> None:
    ident = up.submit("stalled", **OPTIONS, round_timeout=TIMEOUT)
    up.rounds(ident, 2)
    stopped = processes_in(up.kits.sites["site-2"])
    assert len(stopped) >= 3
    began = time.monotonic()
    try:
        for process in stopped:
            process.suspend()
        up.rounds(ident, 2, clients=1, seconds=2 * TIMEOUT + 30)
    finally:
        for process in stopped:
            process.resume()
    print(f"stalled for {time.monotonic() - began:.0f} s")
    up.rounds(ident, 3, clients=2, seconds=60)
    state, records = up.over(ident, 120)
    assert state.status == COMPLETED
    assert whole(records)
    print(clients(records), reasons(records))
    assert all(why == f"no answer within {TIMEOUT} s (--round_timeout)" for why in reasons(records).values())
    assert all(r["seconds"] < TIMEOUT + 5 for r in records if r["event"] == "round")


def test_a_site_that_signs_off_is_missed_at_once_and_a_job_begins_without_it(up: Federation) -> None:
    """SIGTERM to its process, as ``systemctl stop`` and a shutdown give it; then a job for which it is never there."""
    ident = up.submit("signed-off", **OPTIONS, round_timeout=TIMEOUT)
    up.rounds(ident, 2)
    up.deployment.processes["site-2"].terminate()
    state, records = up.over(ident, 8 * TIMEOUT + 90)
    print(state, clients(records), reasons(records), [r["seconds"] for r in records if r["event"] == "round"])
    assert state.status == COMPLETED
    assert whole(records)
    assert clients(records)[-1] == 1
    assert not processes_in(up.kits.sites["site-2"])
    began = time.monotonic()
    state, records = up.over(up.submit("never-there", **OPTIONS), 180)
    print(state, time.monotonic() - began)
    assert state.status == COMPLETED
    assert whole(records)
    assert set(clients(records)) == {1}
    print([r for r in records if r["event"] in ("left_out", "setup", "not_ready")])


def test_a_site_that_is_gone_without_a_word_does_not_stop_the_others(up: Federation) -> None:
    """kill -9 of its process, as a power cut does: every round is done, and NVIDIA FLARE calls the job abnormal."""
    ident = up.submit("gone", **OPTIONS, round_timeout=TIMEOUT)
    up.rounds(ident, 2)
    up.deployment.processes["site-2"].kill()
    began = time.monotonic()
    wait_for(lambda: not processes_in(up.kits.sites["site-2"]), 60)
    print(f"its other processes left after {time.monotonic() - began:.0f} s")
    state, records = up.over(ident, 8 * TIMEOUT + 180)
    print(f"over after {time.monotonic() - began:.0f} s")
    print(state, clients(records), reasons(records), [r["seconds"] for r in records if r["event"] == "round"])
    assert whole(records)
    assert clients(records)[-1] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_job_process_that_is_killed_at_a_site_ends_the_job_soon(up: Federation, number: signal.Signals) -> None:
    """That is NVIDIA FLARE's decision. What was recorded stays, and the next job runs."""
    ident = up.submit(f"job-process-{number}", **OPTIONS, round_timeout=TIMEOUT)
    up.rounds(ident, 2)
    found: psutil.Process = wait_for(lambda: job_process(up.kits.sites["site-2"]), 10)
    found.send_signal(number)
    began = time.monotonic()
    state, records = up.over(ident, 60)
    print(state, f"{time.monotonic() - began:.0f} s", clients(records))
    assert state.status == "FINISHED:EXECUTION_EXCEPTION"
    assert len(clients(records)) >= 2
    wait_for(lambda: not any(map(job_process, up.kits.all.values())), 60)
    wait_for(lambda: not any(map(training_process, up.kits.sites.values())), 10)


def test_two_jobs_at_once_have_the_bits_of_one(up: Federation) -> None:
    short = {**OPTIONS, "num_rounds": 2}
    both = [up.submit(name, **short) for name in ("first", "second")]
    wait_for(lambda: all(up.records(ident, "setup") for ident in both), 150)
    adapters = set()
    for ident in both:
        file = up.result(ident) / "adapter" / "last" / "adapter_model.safetensors"
        adapters.add(file.read_bytes())
    assert len(adapters) == 1
