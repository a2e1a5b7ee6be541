"""NVIDIA FLARE's proof-of-concept deployment: server and sites as processes of their own, with mutual TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedumm.federation.runners.flare.recipe import NO_LOGS, SERVER_CLASSES, SITE_CLASSES

_SECONDS = 180


class Deployment:
    """Provisioned in ``folder``, which is also its home, so that nothing of the user's is touched.

    Used in a ``with`` block, in which it is up. ``local/resources.json`` of server and sites admits what the README
    tells them to, and nothing else.
    """

    def __init__(self, folder: Path, sites: int) -> None:
        self.folder, self.workspace = folder, folder / "poc"
        self._lock = FileLock(Path(tempfile.gettempdir()) / "fedumm-poc.lock")
        self._environment = {**os.environ, "HOME": str(folder), "NVFLARE_POC_WORKSPACE": str(self.workspace)}
        self.nvflare("poc", "prepare", "-n", str(sites), "--force")
        for site in ("server", *(f"site-{i}" for i in range(1, sites + 1))):
            self._allow(next(self.workspace.rglob(f"{site}/local")), site == "server")

    def _allow(self, local: Path, server: bool) -> None:
        """Every site has such a file, or the default to start from."""
        target = local / "resources.json"
        source = target if target.exists() else local / "resources.json.default"
        content = json.loads(source.read_text())
        content |= {"class_allow_list": SERVER_CLASSES} if server else {"class_allow_list": SITE_CLASSES, **NO_LOGS}
        target.write_text(json.dumps(content))

    def nvflare(self, *arguments: str) -> Any:
        """Run a command; what it answers as JSON.

        Raises:
            RuntimeError: it failed, or took minutes.
        """
        command = [str(Path(sys.executable).parent / "nvflare"), "--format", "json", *arguments]
        result = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, cwd=self.folder, timeout=2 * _SECONDS
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
        return json.loads(result.stdout.splitlines()[-1]).get("data")

    def __enter__(self) -> Deployment:
        # All of them use the same ports: one at a time on a machine.
        self._lock.acquire()
        try:
            # On a busy machine the default of 30 seconds is too short, and what was started would go on for ever.
            self.nvflare("poc", "start", "--timeout", str(_SECONDS))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.nvflare("poc", "stop")
        finally:
            self._lock.release()

    def run(self, job: Path) -> Path:
        """Submit a job, wait for its end, download it; returns the run folder."""
        return self.result(self.submit(job))

    def submit(self, job: Path) -> str:
        """Submit a job; returns its number."""
        return str(self.nvflare("job", "submit", "-j", str(job))["job_id"])

    def records(self, ident: str, event: str) -> list[dict[str, Any]]:
        """Those of a running job at the server."""
        files = list(self.workspace.rglob(f"{ident}/fedumm/metrics.jsonl"))
        lines = [line for file in files for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [record for record in map(json.loads, lines) if record["event"] == event]

    def result(self, ident: str) -> Path:
        """Wait for a job's end and download it; returns the run folder."""
        self.nvflare("job", "wait", ident)
        self.nvflare("job", "download", ident, "-o", str(self.folder / "results"))
        return self.folder / "results" / ident / "workspace" / "fedumm"
