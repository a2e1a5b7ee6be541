"""Who a site is, by its startup kit: it signs with the kit's key, and believes certificates of the kit's root alone.

FLARE's certificates have the name of a site, of the server or of an administrator as common name. Administrators have
a role beside it; so has everybody where certificates were requested (``nvflare cert``). Those that ``nvflare
provision`` makes for server and sites are alike but for the name: the server's is known from the kit.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from fedumm.errors import PublicError

_SCHEME = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
_LEAST_BITS = 2048
_NO_ROLE, _SITE_ROLE = list[str](), ["client"]


class SiteIdentity:
    """See :class:`fedumm.federation.client.identity.Identity`.

    Args:
        run: that the site takes part in.
        key: of the site's certificate.
        root: whose certificates are those of the federation.
        servers: names that no site has.
    """

    def __init__(
        self,
        run: str,
        key: rsa.RSAPrivateKey,
        certificate: x509.Certificate,
        root: x509.Certificate,
        servers: Collection[str],
    ) -> None:
        self.run, self._key, self._root, self._servers = run, key, root, frozenset(servers)
        self._certificate = certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, content: bytes) -> list[bytes]:
        """This site's certificate, and its signature of ``content``."""
        return [self._certificate, self._key.sign(content, _SCHEME, hashes.SHA256())]

    def problem(self, name: str, content: bytes, signature: list[bytes]) -> str:
        """Why ``signature`` is not the one of the site ``name`` below ``content``; empty if it is."""
        if len(signature) != 2:
            return "they are not signed"
        try:
            certificate = x509.load_der_x509_certificate(signature[0])
            return self._problem_of(certificate, name) or _problem_below(certificate, content, signature[1])
        except Exception as error:  # whatever a stranger's bytes make of the parser: it is no certificate
            return f"the certificate can't be read ({type(error).__name__})"

    def _problem_of(self, certificate: x509.Certificate, name: str) -> str:
        try:
            certificate.verify_directly_issued_by(self._root)
        except (InvalidSignature, ValueError, TypeError):
            return "the certificate is not of this federation"
        if not certificate.not_valid_before_utc <= datetime.now(timezone.utc) <= certificate.not_valid_after_utc:
            return "the certificate is not valid today"
        if _values(certificate, NameOID.COMMON_NAME) != [name]:
            return "the certificate has another name"
        role = _values(certificate, NameOID.UNSTRUCTURED_NAME)
        if name in self._servers or role not in (_NO_ROLE, _SITE_ROLE) or _issues(certificate):
            return "the certificate is none of a site"
        return ""


def read_identity(startup: Path, name: str, run: str) -> SiteIdentity:
    """That of the site ``name``, from the folder ``startup`` of its kit.

    Raises:
        PublicError: files are missing or can't be read, do not belong together, or are of somebody else or of another
            time. Nothing is in it but the names of FLARE's files.
    """
    try:
        own, root = (x509.load_pem_x509_certificate(_content(startup, f)) for f in ("client.crt", "rootCA.pem"))
        key = serialization.load_pem_private_key(_content(startup, "client.key"), None)
        servers = [str(server["identity"]) for server in json.loads(_content(startup, "fed_client.json"))["servers"]]
    except (ValueError, TypeError, LookupError) as error:
        raise _unfit(f"its certificates, key or fed_client.json can't be read ({type(error).__name__})") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _unfit("its key is none of RSA")
    identity = SiteIdentity(run, key, own, root, servers)
    if problem := identity.problem(name, b"", identity.sign(b"")):
        raise _unfit(problem)
    return identity


def _unfit(why: str) -> PublicError:
    return PublicError(
        f"This site can't sign keys for masked sums with its startup kit: {why}. Look with fedumm check-site, or ask "
        "who provisioned the federation for a new kit."
    )


def _content(startup: Path, name: str) -> bytes:
    try:
        return (startup / name).read_bytes()
    except OSError as error:
        raise _unfit(f"startup/{name} can't be read ({type(error).__name__})") from error


def _problem_below(certificate: x509.Certificate, content: bytes, signature: bytes) -> str:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _LEAST_BITS:
        return f"the certificate's key is none of RSA with {_LEAST_BITS} bits or more"
    try:
        key.verify(signature, content, _SCHEME, hashes.SHA256())
    except InvalidSignature:
        return "the signature is of other keys, of another round, or of another run"
    return ""


def _values(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(one.value) for one in certificate.subject.get_attributes_for_oid(kind)]


def _issues(certificate: x509.Certificate) -> bool:
    """Whether it is the root's own, or may issue others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
