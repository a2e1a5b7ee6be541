"""A federation on this machine, provisioned with FLARE's own tool: startup kits, and what each of them allows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.environment import child_environment
from fedumm.federation.runners.flare.recipe import NO_LOGS, SERVER_CLASSES, SITE_CLASSES
from fedumm.federation.runners.flare.site_policy import FILE, SitePolicy
from fedumm.files import write_atomically
from fedumm.texts import one_line, plain_lines

ORGANISATION = "org"
SERVER = "server"
HERE = "localhost"
_PROJECT, _ADMIN = "fedumm", "admin@example.com"
_SECONDS = 300

_BUILDERS = [
    {"path": "nvflare.lighter.impl.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
    {
        "path": "nvflare.lighter.impl.static_file.StaticFileBuilder",
        "args": {"config_folder": "config", "scheme": "grpc"},
    },
    {"path": "nvflare.lighter.impl.cert.CertBuilder"},
    {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
]

HEART_BEAT_TIMEOUT, COMMUNICATION_TIMEOUT = 60, 30
"""Seconds after which the server takes a silent site for lost, and a site's process a silent server for this once."""


@dataclass(frozen=True)
class Kits:
    """Startup kits: folders that each hold who somebody is, whom it knows, and what it allows.

    Attributes:
        server, admin: folders.
        sites: by name.
    """

    server: Path
    sites: Mapping[str, Path]
    admin: Path

    @property
    def all(self) -> dict[str, Path]:
        """Of everybody who has a process, the server first."""
        return {SERVER: self.server, **self.sites}


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def provision(folder: Path, policies: Mapping[str, Mapping[str, Any]], host: str = HERE) -> Kits:
    """Make kits for a server, for sites and for one administrator, who know each other by certificates.

    Server and sites admit the two classes of fedumm, and nothing else. What the server keeps lies in its kit.

    Args:
        folder: an empty one, in which everything is made; it holds keys, and others must not read it.
        policies: by site, what its ``local/fedumm.yaml`` says.
        host: this machine's name or address, as sites and administrator know it.

    Raises:
        FedummError: FLARE's tool made none, or a policy says what none can.
    """
    for policy in policies.values():
        SitePolicy(**policy)
    project = folder / "project.yml"
    project.write_text(yaml.safe_dump(_project(list(policies), host)), encoding="utf-8")
    home = folder / "home"
    home.mkdir()
    command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", str(project), "-w", str(folder), "--force"]
    try:
        done = subprocess.run(
            # The tool keeps settings of its own in the user's home.
            command,
            env=child_environment(HOME=str(home)),
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise FedummError(f"NVIDIA FLARE has not provisioned within {_SECONDS} s.") from error
    kits = folder / _PROJECT / "prod_00"
    if done.returncode or not kits.is_dir():
        raise FedummError(f"NVIDIA FLARE could not provision:\n{plain_lines(done.stdout + done.stderr, 2000)}")
    made = Kits(kits / SERVER, {site: kits / site for site in policies}, kits / _ADMIN)
    for kit in made.all.values():
        narrow(kit)
    for site, policy in policies.items():
        text = yaml.safe_dump(dict(policy), sort_keys=False)
        (made.sites[site] / "local" / FILE).write_text(text, encoding="utf-8")
    return made


def _project(sites: Sequence[str], host: str) -> dict[str, Any]:
    """What FLARE provisions. Its port is one for sites and administrator."""
    port = free_port()
    server = {
        "name": SERVER, "type": "server", "org": ORGANISATION, "fed_learn_port": port, "admin_port": port,
        "default_host": host, "host_names": sorted({"127.0.0.1"} - {host}),
    }  # fmt: skip
    admin = {"name": _ADMIN, "type": "admin", "org": ORGANISATION, "role": "project_admin"}
    clients = [{"name": site, "type": "client", "org": ORGANISATION} for site in sites]
    return {"api_version": 3, "name": _PROJECT, "participants": [server, *clients, admin], "builders": _BUILDERS}


def narrow(kit: Path) -> list[str]:
    """Set in ``local/resources.json`` of a server's or a site's kit what fedumm's jobs need, and no more.

    One class is admitted, the timeouts fit small adapters, and what a server keeps lies in its kit. Everything else
    stays as it is there, or in FLARE's ``resources.json.default``.

    Returns:
        What is set, a line each.

    Raises:
        FedummError: ``kit`` is no server's or site's, or its files can't be read or written.
    """
    kit = kit.resolve()
    startup = kit / "startup"
    if not any((startup / name).is_file() for name in ("fed_server.json", "fed_client.json")):
        raise FedummError(
            f"{one_line(kit)}: not the startup kit of a server or a site, as NVIDIA FLARE's provisioning makes it."
        )
    try:
        content = _resources(kit)
        told = (_narrow_server if (startup / "fed_server.json").is_file() else _narrow_site)(content, kit)
        write_atomically(kit / "local" / "resources.json", json.dumps(content, indent=1) + "\n")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FedummError(f"{one_line(kit)}: local/resources.json can't be set ({type(error).__name__}).") from error
    return told


def _narrow_server(content: Any, kit: Path) -> list[str]:
    content["class_allow_list"] = list(SERVER_CLASSES)
    content["servers"][0]["heart_beat_timeout"] = HEART_BEAT_TIMEOUT
    # By default both lie in a folder for temporary files, which all federations of a machine share.
    snapshots, jobs = str(kit / "snapshots"), str(kit / "jobs")
    content["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = snapshots
    next(part for part in content["components"] if part["id"] == "job_manager")["args"]["uri_root"] = jobs
    return [
        f"class_allow_list: {', '.join(SERVER_CLASSES)}",
        f"heart_beat_timeout: {HEART_BEAT_TIMEOUT} s",
        f"jobs: {one_line(jobs)}",
        f"snapshots: {one_line(snapshots)}",
    ]


def _narrow_site(content: Any, kit: Path) -> list[str]:
    content.update({"class_allow_list": list(SITE_CLASSES), **NO_LOGS})
    content["client"]["communication_timeout"] = COMMUNICATION_TIMEOUT
    return [
        f"class_allow_list: {', '.join(SITE_CLASSES)}",
        "allow_log_streaming: no",
        f"communication_timeout: {COMMUNICATION_TIMEOUT} s",
    ]


def _resources(kit: Path) -> Any:
    own = kit / "local" / "resources.json"
    return json.loads((own if own.exists() else own.with_name("resources.json.default")).read_text(encoding="utf-8"))


def new_workspace(path: Path) -> Path:
    """A new folder for this user only, or an empty one that is there.

    Raises:
        FedummError: it holds something, or can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise FedummError(f"--workspace {path} is not empty. Choose a new folder.")
        os.chmod(path, 0o700)
    except OSError as error:
        raise FedummError(f"--workspace {path} can't be made: {error.strerror or error}.") from error
    return path.resolve()
