"""Masks that two parties draw alike from a secret that they agree on, and sealed messages between them.

X25519 (RFC 7748) with HKDF-SHA256 (RFC 5869) for the secrets, AES-256 in counter mode as the stream of random
numbers, AES-256-GCM for what is sealed; all of it by ``cryptography``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedumm.secure_aggregation.fixed_point import Words

KEY = 32
"""Bytes of every key, public or private, and of every seed."""

_NONCE = 12


@dataclass(frozen=True)
class KeyPair:
    """For one round."""

    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def new(cls) -> KeyPair:
        """From the operating system's entropy."""
        return cls.of(os.urandom(KEY))

    @classmethod
    def of(cls, private: bytes) -> KeyPair:
        """That of a private key."""
        return cls(private, X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def is_key(public: bytes) -> bool:
    """Whether it is a public key, and none that gives away every secret."""
    try:
        agreed(KeyPair.new().private, public, "trial")
    except ValueError:
        return False
    return True


def agreed(private: bytes, public: bytes, purpose: str) -> bytes:
    """The secret of two parties, from one's private and the other's public key: both get the same.

    Raises:
        ValueError: the public key is none, or one that gives away the secret.
    """
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(hashes.SHA256(), KEY, None, f"fedumm {purpose}".encode()).derive(shared)


def stream(seed: bytes, count: int) -> Words:
    """``count`` numbers that look random to whoever does not know ``seed``, which is used for nothing else."""
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * count)), dtype="<u4").astype(np.uint32)


def seal(key: bytes, content: bytes, about: bytes) -> bytes:
    """``content``, readable with ``key`` alone, and only as what it is ``about``."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """The inverse of :func:`seal`.

    Raises:
        ValueError: it was sealed with another key or about something else, or was changed.
    """
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
    except (InvalidTag, ValueError):
        raise ValueError("a sealed share can't be opened") from None
