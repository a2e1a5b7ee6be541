"""A server that fails while a job runs, on real processes of NVIDIA FLARE: rows of docs/reliability.md."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from federation.runners.test_faults import OPTIONS, clients
from fedumm.federation.runners.flare.jobs import COMPLETED
from support.federation import federation, job_process, processes_in, training_process
from support.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_server_that_is_killed_loses_its_job_and_takes_the_next(tmp_path: Path) -> None:
    """First the process of its job, then the server itself, which is started again."""
    with federation(tmp_path, {"site-1": {"threads": 1}, "site-2": {"threads": 1}}) as up:
        ident = up.submit("job-killed", **OPTIONS)
        up.rounds(ident, 2)
        wait_for(lambda: job_process(up.kits.server), 10).kill()
        began = time.monotonic()
        state, records = up.over(ident, 60)
        print(state, f"{time.monotonic() - began:.0f} s")
        assert state.status == "FINISHED:EXECUTION_EXCEPTION"
        assert len(clients(records)) >= 2
        wait_for(lambda: not any(map(training_process, up.kits.sites.values())), 60)
        print(f"no training after {time.monotonic() - began:.0f} s")

        ident = up.submit("server-killed", **{**OPTIONS, "num_rounds": 100})
        up.rounds(ident, 2)
        up.kill("server")
        began = time.monotonic()
        wait_for(lambda: not processes_in(up.kits.server), 60)
        print(f"server's processes gone after {time.monotonic() - began:.0f} s")
        up.deployment.start("server")

        def logged_in() -> bool:
            up.deployment.check()
            try:
                up.session.connect(5)
            except Exception:
                return False
            return True

        wait_for(logged_in, 120)
        up.all_up()
        print(f"all connected after {time.monotonic() - began:.0f} s; the job: {up.session.state(ident)}")
        assert not up.session.state(ident).finished
        wait_for(lambda: not any(map(training_process, up.kits.sites.values())), 60)
        print(f"no training after {time.monotonic() - began:.0f} s")
        state, records = up.over(up.submit("next", **{**OPTIONS, "num_rounds": 2}), 180)
        assert state.status == COMPLETED
