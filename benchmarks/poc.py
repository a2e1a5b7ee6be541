"""NVIDIA FLARE's proof-of-concept deployment: server and sites as processes of their own, with mutual TLS."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from fedumm.federation.runners.flare.recipe import NO_LOGS, SERVER_CLASSES, SITE_CLASSES

_SECONDS = 180
_BUILDERS = [
    {"path": "nvflare.lighter.impl.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
    {"path": "nvflare.lighter.impl.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
    {"path": "nvflare.lighter.impl.cert.CertBuilder"},
    {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
]


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def project(sites: list[str]) -> dict[str, Any]:
    """What FLARE provisions: a server on a port of its own, sites, an administrator."""
    port = free_port()
    server = {"name": "server", "type": "server", "org": "org", "fed_learn_port": port, "admin_port": port}
    admin = {"name": "admin@example.com", "type": "admin", "org": "org", "role": "project_admin"}
    clients = [{"name": site, "type": "client", "org": "org"} for site in sites]
    return {"api_version": 3, "name": "fedumm", "participants": [server, *clients, admin], "builders": _BUILDERS}


class Deployment:
    """Provisioned in ``folder``, which is also its home, so that nothing of the user's is touched.

    Used in a ``with`` block, in which it is up; nothing of it is left after that, however the block ends. Its port is
    one that was free, so several may be up at a time. ``local/resources.json`` of server and sites admits what
    docs/sites.md tells them to, and nothing else.
    """

    def __init__(self, folder: Path, sites: int, seconds_to_start: int = _SECONDS) -> None:
        self.folder, self.workspace, self.seconds_to_start = folder, folder / "poc", seconds_to_start
        self._environment = {**os.environ, "HOME": str(folder), "NVFLARE_POC_WORKSPACE": str(self.workspace)}
        names = [f"site-{i}" for i in range(1, sites + 1)]
        (folder / "project.yml").write_text(yaml.safe_dump(project(names)))
        self.nvflare("poc", "prepare", "-i", str(folder / "project.yml"), "--force")
        for site in ("server", *names):
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
        try:
            # On a busy machine the default of 30 seconds is too short.
            self.nvflare("poc", "start", "--timeout", str(self.seconds_to_start))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.nvflare("poc", "stop")
        finally:
            self.end()

    def processes(self) -> list[psutil.Process]:
        """All that this deployment has started and that is still there."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and self._is_ours(process):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        place = str(self.workspace)
        return any(place in part for part in process.cmdline()) or f"{process.cwd()}/".startswith(f"{place}/")

    def end(self) -> None:
        """Kill what is left: FLARE's own stop needs a server that answers, and start scripts start anew what died."""
        while left := self.processes():
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=5)

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
