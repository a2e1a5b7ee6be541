"""A site's startup kit as FLARE provisions it, made in no time."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedumm.federation.runners.flare.recipe import NO_LOGS, SITE_CLASSES

GOOD: dict[str, Any] = {
    "format_version": 2,
    "class_list_enforcement_mode": "enforce",
    "class_allow_list": list(SITE_CLASSES),
    **NO_LOGS,
    "client": {"retry_timeout": 30, "communication_timeout": 30},
    "components": [
        {"id": "resource_manager", "path": "nvflare.app_common.resource_managers.list_resource_manager", "args": {}},
        {
            "id": "process_launcher",
            "path": "nvflare.app_common.job_launcher.client_process_launcher.ClientProcessJobLauncher",
            "args": {},
        },
    ],
}
"""What docs/sites.md asks of ``local/resources.json``, with FLARE's own launcher."""


@contextmanager
def listening() -> Iterator[int]:
    """A port on which somebody accepts connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def site_kit(folder: Path, port: int, days: int = 100, policy: str = "", **resources: Any) -> Path:
    """A kit in ``folder``.

    Args:
        days: that the certificate is valid from now on.
        policy: what ``local/fedumm.yaml`` says.
        resources: what ``local/resources.json`` has otherwise than :data:`GOOD`.
    """
    startup, local = folder / "startup", folder / "local"
    startup.mkdir(parents=True)
    local.mkdir()
    client = {"servers": [{"service": {"target": f"127.0.0.1:{port}"}}], "client": {"fqsn": "site-1"}}
    (startup / "fed_client.json").write_text(json.dumps(client))
    for name in ("start.sh", "sub_start.sh"):
        (startup / name).write_text("#!/bin/sh\n")
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    _certify(startup / "rootCA.pem", "root", root_key, root_key, 1000)
    _certify(startup / "client.crt", "site-1", key, root_key, days)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (startup / "client.key").write_bytes(secret)
    (startup / "client.key").chmod(0o600)
    (local / "resources.json").write_text(json.dumps({**GOOD, **resources}))
    if policy:
        (local / "fedumm.yaml").write_text(policy)
    return folder


def _certify(path: Path, subject: str, key: Any, issuer_key: Any, days: int) -> None:
    now = datetime.now(timezone.utc)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, "root")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .sign(issuer_key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
