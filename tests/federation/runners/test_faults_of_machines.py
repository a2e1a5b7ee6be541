"""A site whose disk is full, a network that is cut while a job runs: rows of docs/reliability.md that need root."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from federation.runners.test_faults import OPTIONS, clients, reasons, whole
from fedumm.federation.runners.flare import kits
from fedumm.federation.runners.flare.deployment import Deployment
from fedumm.federation.runners.flare.environment import child_environment
from fedumm.federation.runners.flare.jobs import COMPLETED
from fedumm.federation.runners.flare.process_guard import LAUNCHER, end_tree
from support.federation import Federation, connected, federation, processes_in
from support.network import cable, fill, small_disk
from support.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

POLICIES = {"site-1": {"threads": 1}, "site-2": {"threads": 1}}
TIMEOUT = 20


def test_a_full_disk_costs_the_rounds_until_there_is_room(tmp_path: Path) -> None:
    """It holds all that a site writes; ``--wire int8`` keeps what rounding lost there."""
    with federation(tmp_path, POLICIES) as up:
        place, site = up.kits.sites["site-2"], up.deployment.processes["site-2"]
        site.terminate()
        wait_for(lambda: site.poll() is not None and up.session.connected() == ["site-1"], 150)
        with small_disk(place, 16):
            try:
                up.all_up(240)
                ident = up.submit("disk", **OPTIONS, wire="int8", round_timeout=TIMEOUT)
                up.rounds(ident, 2)
                fill(place / "junk")
                wait_for(lambda: reasons(up.records(ident, "client")), 90)
                (place / "junk").unlink()
                state, records = up.over(ident, 180)
            finally:
                end_tree(up.deployment.processes["site-2"].pid)
        print(state, clients(records), reasons(records))
        assert state.status == COMPLETED
        assert whole(records)
        assert clients(records)[-1] == 2
        assert all("disk is full" in why for why in reasons(records).values())


def test_a_network_that_is_cut_for_half_a_minute_costs_the_rounds_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cable() as wire:
        made = kits._project

        def project(sites: Sequence[str], host: str) -> dict[str, Any]:
            """The second site reaches the server by the cable only."""
            content = made(sites, host)
            server, _, site, _ = content["participants"]
            server["host_names"].append(wire.here)
            site["connect_to"] = {"host": wire.here, "port": server["fed_learn_port"]}
            return content

        monkeypatch.setattr(kits, "_project", project)
        for name in ("kits", "logs"):
            (tmp_path / name).mkdir()
        kit = kits.provision(tmp_path / "kits", POLICIES)
        near = {name: place for name, place in kit.all.items() if name != "site-2"}
        command = [sys.executable, "-m", "fedumm.federation.runners.flare.kit_process", str(kit.sites["site-2"])]
        with Deployment(near, tmp_path / "logs") as deployment, open(tmp_path / "logs" / "site-2.log", "wb") as log:
            environment = child_environment(**{LAUNCHER: str(os.getpid())})
            far = subprocess.Popen(
                [*wire.enter, *command], stdout=log, stderr=log, env=environment, start_new_session=True
            )
            try:
                with connected(kit, deployment, 2) as session:
                    up = Federation(tmp_path, kit, deployment, session)
                    ident = up.submit("cut", **{**OPTIONS, "num_rounds": 12}, round_timeout=TIMEOUT)
                    up.rounds(ident, 2)
                    wire.cut()
                    time.sleep(30)
                    wire.mend()
                    mended = time.monotonic()
                    before = len(clients(up.records(ident, "round")))
                    wait_for(lambda: 2 in clients(up.records(ident, "round"))[before:], 90)
                    print(f"back after {time.monotonic() - mended:.0f} s")
                    state, records = up.over(ident, 180)
            finally:
                end_tree(far.pid)
                far.wait()
    print(state, clients(records), reasons(records), [r["seconds"] for r in records if r["event"] == "round"])
    assert not processes_in(tmp_path / "kits")
    assert state.status == COMPLETED
    assert records[-1]["event"] == "summary"
    assert clients(records)[-1] == 2
