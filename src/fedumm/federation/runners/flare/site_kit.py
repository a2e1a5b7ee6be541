"""A site's startup kit: who it is, where its server is, and what its administrator has set in ``local``."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.job_launcher import RESTARTS, RestartingJobLauncher
from fedumm.files import write_atomically
from fedumm.texts import one_line

STARTUP = ("fed_client.json", "client.crt", "client.key", "rootCA.pem", "start.sh", "sub_start.sh")
"""What FLARE provisions for a site."""

RESOURCES = "resources.json"

LAUNCHER = {
    "id": "process_launcher",
    "path": f"{RestartingJobLauncher.__module__}.{RestartingJobLauncher.__qualname__}",
    "args": {"restarts": RESTARTS},
}
"""The entry below ``components`` that has a killed job process started again."""


@dataclass(frozen=True)
class SiteKit:
    """A kit that was read.

    Attributes:
        folder: of the kit.
        host, port: of the server.
        name: of the site.
        resources: what ``local/resources.json`` says, or FLARE's defaults.
        own_resources: whether that file is there.
    """

    folder: Path
    host: str
    port: int
    name: str
    resources: dict[str, Any]
    own_resources: bool

    @property
    def startup(self) -> Path:
        """Certificates, keys and scripts."""
        return self.folder / "startup"

    @property
    def local(self) -> Path:
        """What the administrator sets."""
        return self.folder / "local"

    @property
    def launcher(self) -> str:
        """Class of what starts job processes; empty if there is none."""
        return next((str(part.get("path", "")) for part in self._parts() if part.get("id") == LAUNCHER["id"]), "")

    def _parts(self) -> list[dict[str, Any]]:
        parts = self.resources.get("components")
        return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []

    def filters(self) -> bool:
        """Whether ``local/privacy.json`` has filters, which pass FedUMM's messages on as they are."""
        path = self.local / "privacy.json"
        if not path.exists():
            return False
        scopes = _read(path).get("scopes")
        found = [scope for scope in scopes if isinstance(scope, dict)] if isinstance(scopes, list) else []
        return any(scope.get("task_result_filters") or scope.get("task_data_filters") for scope in found)


def read_kit(folder: Path) -> SiteKit:
    """The kit in ``folder``.

    Raises:
        FedummError: that is none of a site, or a file of it can't be read.
    """
    if not (folder / "startup" / STARTUP[0]).is_file():
        raise FedummError(
            f"{one_line(folder)}: not a site's startup kit, which has startup/{STARTUP[0]} and a folder local."
        )
    client = _read(folder / "startup" / STARTUP[0])
    try:
        target = client["servers"][0]["service"]["target"]
        host, _, port = target.rpartition(":")
        name = client["client"].get("fqsn") or folder.resolve().name
        server = str(host), int(port)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FedummError(f"{one_line(folder / 'startup' / STARTUP[0])} names no server as host:port.") from error
    path = folder / "local" / RESOURCES
    own = path.exists()
    if not own:
        path = path.with_name(f"{RESOURCES}.default")
    return SiteKit(folder, *server, str(name).rpartition(".")[2], _read(path) if path.exists() else {}, own)


def write_launcher(kit: SiteKit) -> Path:
    """Enter :data:`LAUNCHER` in ``local/resources.json``, which is made of FLARE's defaults if it is not there.

    Returns:
        Where what was there before lies; the file itself if there was none.

    Raises:
        FedummError: the file can't be written, or there is nothing to start from.
    """
    path = kit.local / RESOURCES
    parts = kit.resources.get("components")
    if not isinstance(parts, list):
        raise FedummError(f"{one_line(path)} has no list of components. Start from {RESOURCES}.default.")
    others = [part for part in parts if not (isinstance(part, dict) and part.get("id") == LAUNCHER["id"])]
    kept = path.with_name(f"{RESOURCES}.before") if kit.own_resources else path
    try:
        if kit.own_resources and kit.launcher != LAUNCHER["path"]:
            shutil.copy2(path, kept)
        write_atomically(path, json.dumps({**kit.resources, "components": [*others, LAUNCHER]}, indent=1) + "\n")
    except OSError as error:
        raise FedummError(f"{one_line(path)} can't be written: {error.strerror}.") from error
    return kept


def job_of_folder(folder: Path) -> Any:
    """The options that an exported job gives to a site's host.

    Raises:
        FedummError: it is no job of ours.
    """
    files = sorted(folder.glob("*/config/config_fed_client.json"))
    for file in files:
        for entry in _listed(_read(file).get("executors")):
            executor = entry.get("executor")
            if isinstance(executor, dict) and executor.get("path") == "fedumm.flare.HostExecutor":
                args = executor.get("args")
                return args.get("run_config") if isinstance(args, dict) else None
    raise FedummError(f"--job {one_line(folder)}: not a job that 'fedumm federate --export_dir' wrote.")


def _listed(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FedummError(f"{one_line(path)} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise FedummError(f"{one_line(path)} is not JSON: {one_line(error, 100)}.") from error
    if not isinstance(content, dict):
        raise FedummError(f"{one_line(path)} is not a JSON object.")
    return content
