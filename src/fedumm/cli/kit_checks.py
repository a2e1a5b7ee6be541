"""A site's startup kit and settings, looked at one after the other: what is fine, what is not, and what to do."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fedumm.cli.health import Finding
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.outgoing_log import FILE as LOG
from fedumm.federation.runners.flare.outgoing_log import read
from fedumm.federation.runners.flare.recipe import SITE_CLASSES
from fedumm.federation.runners.flare.site_kit import LAUNCHER, STARTUP, SiteKit
from fedumm.federation.runners.flare.site_policy import FILE as POLICY
from fedumm.federation.runners.flare.site_policy import read_policy
from fedumm.texts import one_line

SECONDS = 5.0
"""That a server has to answer."""

_FLARE_SECONDS, _SHORT, _LONG = 300, 10, 120
"""FLARE's own ``communication_timeout``, and what is too short for a transfer, too long for a cut."""

_SOON = timedelta(days=30)
_STREAMER = "nvflare.app_common.logging.job_log_streamer.JobLogStreamer"
_LITTLE = 1e9
_WRITE = f'In local/resources.json (start from resources.json.default): "class_allow_list": ["{SITE_CLASSES[0]}"]'


def look_at_kit(kit: SiteKit) -> Iterator[Finding]:
    """All of it; nothing is changed, and nothing but an empty connection is sent."""
    looks: list[Callable[[SiteKit], Iterator[Finding]]] = [
        _files, _certificate, _server, _classes, _log_streaming, _timeout, _launcher, _filters, _policy, _own_log,
    ]  # fmt: skip
    for own in looks:
        try:
            yield from own(kit)
        except Exception as error:  # of whatever library it is: a look that fails is a finding, too
            yield Finding(own.__name__.strip("_").replace("_", " "), "fault", one_line(error), "Look at that file.")


def _files(kit: SiteKit) -> Iterator[Finding]:
    missing = [name for name in STARTUP if not (kit.startup / name).is_file()]
    if missing:
        told = f"startup/ lacks {', '.join(missing)}"
        yield Finding("startup kit", "fault", told, "Ask who provisioned the federation for this site's kit again.")
    else:
        yield Finding("startup kit", "ok", f"{one_line(kit.name, 60)}, all {len(STARTUP)} files are there")
    key = kit.startup / "client.key"
    if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield Finding("private key", "warning", "others may read startup/client.key", "chmod 600 startup/client.key")


def _certificate(kit: SiteKit) -> Iterator[Finding]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    again = "Ask who provisioned the federation for a new kit."
    try:
        own, root = (
            x509.load_pem_x509_certificate((kit.startup / name).read_bytes()) for name in ("client.crt", "rootCA.pem")
        )
        key = load_pem_private_key((kit.startup / "client.key").read_bytes(), None)
        own.verify_directly_issued_by(root)
    except Exception as error:
        told = f"not a pair of certificates of one federation ({type(error).__name__})"
        yield Finding("certificate", "fault", told, again)
        return
    if key.public_key() != own.public_key():
        yield Finding("certificate", "fault", "startup/client.key is the key of another certificate", again)
        return
    now = datetime.now(timezone.utc)
    start = max(own.not_valid_before_utc, root.not_valid_before_utc)
    end = min(own.not_valid_after_utc, root.not_valid_after_utc)
    told = f"valid until {end:%Y-%m-%d}"
    if not start <= now <= end:
        yield Finding("certificate", "fault", f"not valid today ({start:%Y-%m-%d} to {end:%Y-%m-%d})", again)
    elif end - now < _SOON:
        yield Finding("certificate", "warning", told, f"That is soon. {again}")
    else:
        yield Finding("certificate", "ok", told)


def _server(kit: SiteKit) -> Iterator[Finding]:
    where = one_line(f"{kit.host}:{kit.port}", 100)
    try:
        with socket.create_connection((kit.host, kit.port), SECONDS):
            yield Finding("server", "ok", f"{where} answers")
    except OSError as error:
        told = f"{where} does not answer within {SECONDS:g} s: {error.strerror or one_line(error, 60)}"
        mend = "Is the server up? Let the firewall pass outgoing TCP to that host and port; FLARE needs no other."
        yield Finding("server", "fault", told, mend)


def _classes(kit: SiteKit) -> Iterator[Finding]:
    mode = kit.resources.get("class_list_enforcement_mode", "enforce")
    allowed = kit.resources.get("class_allow_list")
    allowed = [str(entry) for entry in allowed] if isinstance(allowed, list) else []
    if mode != "enforce":
        told = f"class_list_enforcement_mode is {one_line(mode, 40)}: a job may run any class"
        yield Finding("classes", "fault", told, 'In local/resources.json: "class_list_enforcement_mode": "enforce"')
    elif not any(
        SITE_CLASSES[0] == entry or f"{SITE_CLASSES[0]}.".startswith(f"{entry}.") for entry in _whole(allowed)
    ):
        told = f"class_allow_list does not admit {SITE_CLASSES[0]}: every job of fedumm would fail"
        yield Finding("classes", "fault", told, _WRITE)
    elif others := [entry for entry in allowed if entry not in (*SITE_CLASSES, _STREAMER)]:
        shown = one_line(", ".join(others[:2]), 120) + (f" and {len(others) - 2:,} more" if len(others) > 2 else "")
        told = f"class_allow_list admits more than a job of fedumm needs: {shown}"
        # What is cut short admits all of our modules, and with them code of the job's own.
        wide = any(SITE_CLASSES[0].startswith(entry.rstrip(".") + ".") for entry in others)
        yield Finding("classes", "fault" if wide else "warning", told, _WRITE)
    else:
        yield Finding("classes", "ok", f"{SITE_CLASSES[0]} and nothing else of fedumm")


def _whole(entries: list[str]) -> list[str]:
    return [entry.rstrip(".") for entry in entries]


def _log_streaming(kit: SiteKit) -> Iterator[Finding]:
    mend = 'In local/resources.json: "allow_log_streaming": false'
    if kit.resources.get("allow_log_streaming", True) is False:
        yield Finding("log streaming", "ok", "off")
    elif _STREAMER not in (kit.resources.get("class_allow_list") or []):
        told = f"on, and class_allow_list does not admit {_STREAMER.rpartition('.')[2]}: the whole job would fail"
        yield Finding("log streaming", "fault", told, mend)
    else:
        told = "on: a job can have any file of its folder at this site sent to the server"
        yield Finding("log streaming", "warning", told, mend)


def _timeout(kit: SiteKit) -> Iterator[Finding]:
    client = kit.resources.get("client")
    seconds = client.get("communication_timeout") if isinstance(client, dict) else None
    told = f"communication_timeout is {_FLARE_SECONDS if seconds is None else one_line(seconds, 20)} s"
    if seconds is not None and (type(seconds) not in (int, float) or seconds < _SHORT):
        mend = "It must be longer than an update takes to the server: 30 or more."
        yield Finding("timeout", "warning", told, mend)
    elif seconds is None or seconds > _LONG:
        told += ": after a cut of the network the site may be out for that long"
        mend = 'In local/resources.json, below "client": "communication_timeout": 30'
        yield Finding("timeout", "warning", told, mend)
    else:
        yield Finding("timeout", "ok", told)


def _launcher(kit: SiteKit) -> Iterator[Finding]:
    if kit.launcher == LAUNCHER["path"]:
        yield Finding("launcher", "ok", "starts a job's process again that was killed")
        return
    told = "a job's process that is killed (out of memory) ends the job for all sites" if kit.launcher else "none"
    yield Finding("launcher", "warning", told, "fedumm check-site KIT_FOLDER --write_launcher")


def _filters(kit: SiteKit) -> Iterator[Finding]:
    if kit.filters():
        told = "local/privacy.json has filters, which pass messages of fedumm on as they are"
        mend = f"Ask for privacy in local/{POLICY} instead: dp_required, min_noise_multiplier, max_epsilon."
        yield Finding("filters", "warning", told, mend)


def _policy(kit: SiteKit) -> Iterator[Finding]:
    if not os.path.lexists(kit.local / POLICY):
        told = f"no local/{POLICY}: jobs may train shipped models on shipped data, and nothing of this site's"
        yield Finding("policy", "warning", told, f"Write local/{POLICY}: docs/sites.md has every key.")
        return
    try:
        policy = read_policy(kit.local)
    except FedummError as error:
        yield Finding("policy", "fault", one_line(error), f"Mend local/{POLICY}: docs/sites.md has every key.")
        return
    names = [*policy.datasets, *policy.hub_datasets]
    yield Finding("policy", "ok", f"data sets: {one_line(', '.join(names), 120) or 'those that fedumm ships'}")
    away = [name for name, place in {**policy.datasets, **policy.models}.items() if _is_away(place)]
    if away:
        told = f"what local/{POLICY} calls {one_line(', '.join(away), 120)} is not where it says"
        yield Finding("policy", "fault", told, "Mount the disk, or correct the path.")


def _is_away(place: str) -> bool:
    return os.path.isabs(place) and not os.path.exists(place)


def _own_log(kit: SiteKit) -> Iterator[Finding]:
    """FLARE's run folders and the site's log of what left it lie in the kit."""
    path = kit.folder / LOG
    place = path.parent if path.parent.is_dir() else kit.folder
    if not os.access(place, os.W_OK):
        told = f"{one_line(place)} can't be written to: without its log no answer leaves a site"
        yield Finding("site's log", "fault", told, "Make it writable for the user who starts FLARE.")
        return
    free = shutil.disk_usage(place).free
    if free < _LITTLE:
        told = f"{free / 1e9:.1f} GB free: on a full disk no answer leaves a site"
        yield Finding("site's log", "warning", told, "Make room.")
    if not path.exists():
        yield Finding("site's log", "ok", f"nothing has left this site yet; {free / 1e9:.0f} GB free")
        return
    entries = list(read(path))
    if broken := [entry.number for entry in entries if entry.problem]:
        told = f"line {broken[0]} does not follow the one before it"
        yield Finding("site's log", "fault", told, "Look with fedumm site-log, and keep a copy.")
    else:
        yield Finding("site's log", "ok", f"{len(entries):,} lines, each follows the one before")


def free_space(folder: Path) -> int:
    """Bytes, where ``folder`` is or would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
