"""On real processes: a site's job process that is killed is back in the job, and what left it is on record."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fedumm.cli.main import main
from fedumm.federation.runners.flare.outgoing_log import FILE, read
from fedumm.federation.runners.flare.site_kit import read_kit, write_launcher
from fedumm.report.run_folder import read_records
from support.federation import export, federation, processes_in
from support.processes import wait_for

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2", "--num_rounds=4",
    "--max_train_samples=120", "--max_eval_samples=30", "--threads=1", "--lr=0.001", "--local_epochs=4",
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def job_process(kit: Path) -> psutil.Process:
    """FLARE's process of a job at a site."""
    (found,) = (p for p in processes_in(kit) if any("worker_process" in part for part in p.cmdline()))
    return found


def test_a_killed_job_process_costs_its_site_a_round_at_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path, *OPTIONS, "--export_dir=jobs", "--name=run")
    with federation(
        tmp_path, {"site-1": {}, "site-2": {}}, prepare=lambda kit: write_launcher(read_kit(kit))
    ) as running:
        ident = running.session.submit(tmp_path / "jobs" / "run")
        try:
            wait_for(lambda: running.records(ident, "round"), 200)
            killed = job_process(running.kits.sites["site-2"])
            killed.kill()
        finally:
            folder = running.result(ident)
        kits = dict(running.kits.sites)
    records = list(read_records(folder))
    assert records[-1]["event"] == "summary"
    rounds = [record["clients"] for record in records if record["event"] == "round"]
    assert len(rounds) == 4
    assert sum(2 - clients for clients in rounds) <= 1
    assert rounds[-1] == 2
    for site, kit in kits.items():
        lines = [entry.content for entry in read(kit / FILE) if entry.content]
        sent = [line for line in lines if line["kind"] == "RoundReply" and line["content"]["updates"]]
        up = [r["bytes_up"] for r in records if r["event"] == "client" and r["client"] == site and not r["rejected"]]
        assert {line["job"] for line in lines} == {ident}
        assert {line["submitter"] for line in lines} == {"admin@example.com"}
        assert set(up) <= {line["bytes"] for line in sent}
        assert main(["site-log", str(kit)]) == 0
        assert "each follows the one before" in capsys.readouterr().out
