"""What is said around a round whose updates are masked (``--secure_aggregation``).

Three questions, with the answers of all clients of a host in one: keys before the round, shares of what would take a
client's masks off, and after the round the shares that are needed (Bonawitz et al., 2017). All keys are of one round.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MaskKeysRequest:
    """Server to every host: ``clients`` are those of each host that are to train in ``round``."""

    round: int
    clients: dict[str, list[str]]


@dataclass(frozen=True)
class MaskKeys:
    """By client, its two public keys of the round: one for sealed shares, one for masks; 32 bytes each.

    ``signatures`` are those of sites, which have certificates: by client its certificate (X.509, DER) and its signature
    of :func:`fedumm.federation.protocol.masked_sum.statement`.
    """

    keys: dict[str, list[bytes]]
    signatures: dict[str, list[bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskSharesRequest:
    """Server to every host: all keys that came, with their signatures, and how many clients shall be able to take
    another one's masks off."""

    round: int
    keys: dict[str, list[bytes]]
    threshold: int
    signatures: dict[str, list[bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskShares:
    """By client and by peer, sealed for that peer: its shares of the client's own seed and of its key for masks.

    ``digests`` are SHA-256 of the seeds, by which the server knows them when they are put together.
    """

    shares: dict[str, dict[str, bytes]]
    digests: dict[str, bytes]


@dataclass(frozen=True)
class UnmaskRequest:
    """Server to a host, after the round: whose updates are summed, and by client of this host the sealed shares of the
    others, which the server could not read."""

    round: int
    summed: list[str]
    shares: dict[str, dict[str, bytes]] = field(repr=False)


@dataclass(frozen=True)
class Unmasking:
    """By client and by peer, one share: of the peer's seed if its update is summed, otherwise of its key for masks."""

    shares: dict[str, dict[str, bytes]] = field(repr=False)


MaskRequest = MaskKeysRequest | MaskSharesRequest | UnmaskRequest
MaskReply = MaskKeys | MaskShares | Unmasking
