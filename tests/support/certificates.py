"""Certificates like those of FLARE's provisioning, made by ``cryptography`` alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)


def key_of(owner: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return _made(owner, bits)


@cache
def _made(owner: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def named(name: str, role: str = "") -> x509.Name:
    own = [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "org")]
    return x509.Name([*own, *([x509.NameAttribute(NameOID.UNSTRUCTURED_NAME, role)] if role else [])])


def certificate(
    name: str, role: str = "", root: str = "root", owner: str = "", since: timedelta = -DAY, until: timedelta = DAY,
    authority: bool = False, issuer: str = "", bits: int = 2048,
) -> x509.Certificate:  # fmt: skip
    """For the key of ``owner``, or of ``name``; issued with the key of ``root``, in whose name or ``issuer``'s."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name, role))
        .issuer_name(named(issuer or root))
        .public_key(key_of(owner or name, bits).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + since)
        .not_valid_after(NOW + until)
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key_of(root), hashes.SHA256())


def der(own: x509.Certificate) -> bytes:
    return own.public_bytes(serialization.Encoding.DER)


def write_startup(
    folder: Path, name: str, own: x509.Certificate | None = None, root: x509.Certificate | None = None
) -> Path:
    """What of a site's kit says who it is."""
    folder.mkdir(parents=True, exist_ok=True)
    pem = serialization.Encoding.PEM
    (folder / "client.crt").write_bytes((own or certificate(name)).public_bytes(pem))
    (folder / "rootCA.pem").write_bytes((root or certificate("root", authority=True)).public_bytes(pem))
    private = key_of(name).private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "client.key").write_bytes(private)
    (folder / "fed_client.json").write_text(json.dumps({"servers": [{"name": "p", "identity": "server"}]}))
    return folder
