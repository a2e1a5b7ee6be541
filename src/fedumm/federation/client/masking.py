"""A host's side of masked rounds: keys, shares and masks of its clients, and what it refuses of a server.

A server must not learn both what masks an update by itself and what masks it towards others. So a client answers every
question of a round once, gives one kind of share for each other client, and forgets its keys with the last answer.

Nor must it show different keys to different clients, or keys that it made or has kept of an earlier try. Sites sign
their keys. All who are shown a set of keys mask their updates towards all of it, and a share can be opened only by who
was shown the same set: it was sealed between keys of this try, and so whose share opens is there, now, with the same
set. A client gives shares only if so many of the sum have shown that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fedumm.adapters.state import Spec
from fedumm.config import FederateConfig
from fedumm.errors import PublicError
from fedumm.federation.client.identity import Identity
from fedumm.federation.client.summed_rounds import SummedRounds
from fedumm.federation.protocol.mask_messages import (
    MaskKeys,
    MaskKeysRequest,
    MaskShares,
    MaskSharesRequest,
    Unmasking,
    UnmaskRequest,
)
from fedumm.federation.protocol.masked_sum import about, agreement, least_threshold, purpose, statement, weight_of
from fedumm.federation.protocol.messages import RoundTask
from fedumm.secure_aggregation import masks, secret_sharing
from fedumm.secure_aggregation.fixed_point import Words, to_bytes, to_words
from fedumm.secure_aggregation.masks import KeyPair


@dataclass
class _Secrets:
    """What one client has for one round."""

    sealing: KeyPair = field(default_factory=KeyPair.new, repr=False)
    masking: KeyPair = field(default_factory=KeyPair.new, repr=False)
    seed: bytes = field(default_factory=lambda: os.urandom(masks.KEY), repr=False)
    own_share: bytes = field(default=b"", repr=False)
    used: bool = False


class Masking:
    """The clients of one host, round by round. Every method raises :class:`PublicError` where the server asks for what
    would undo a mask.

    Args:
        host: its name.
        config: the run's options.
        record: file of the rounds that were summed, and with whom.
        identity: the site's, which then takes no keys that are not signed; None where all hosts are one user's own.
    """

    def __init__(self, host: str, config: FederateConfig, record: Path, identity: Identity | None = None) -> None:
        self._host, self._config, self._identity = host, config, identity
        self._sums = SummedRounds(record)
        self._round = 0
        self._own: dict[str, _Secrets] = {}
        self._keys: dict[str, list[bytes]] = {}
        self._threshold, self._agreed = 0, ""
        self._members: dict[str, int] = {}

    def keys(self, request: MaskKeysRequest) -> MaskKeys:
        """New keys, and nothing of an earlier round."""
        self._round, self._keys, self._members, self._threshold = request.round, {}, {}, 0
        self._own = {client: _Secrets() for client in request.clients.get(self._host, [])}
        keys = {client: [own.sealing.public, own.masking.public] for client, own in self._own.items()}
        me = self._identity
        return MaskKeys(keys, {c: me.sign(statement(me.run, self._round, c, keys[c])) for c in keys} if me else {})

    def shares(self, request: MaskSharesRequest) -> MaskShares:
        """Shares of every client's secrets, sealed for each of the others."""
        self._check_round(request.round)
        if self._keys:
            raise PublicError("shares were given already")
        count = len(request.keys)
        if not max(least_threshold(count), self._config.min_clients) <= request.threshold <= count:
            raise PublicError(f"{request.threshold} of {count} clients are too few to take masks off, or too many")
        for client, own in self._own.items():
            if request.keys.get(client) != [own.sealing.public, own.masking.public]:
                raise PublicError(f"the keys of {client} are not its own")
        if len({key for pair in request.keys.values() for key in pair}) != 2 * count:
            raise PublicError("a key is there twice")
        for peer, pair in request.keys.items():
            if len(pair) != 2 or not all(map(masks.is_key, pair)):
                raise PublicError(f"the keys of {peer} are none")
        self._check_signatures(request)
        self._keys, self._threshold = dict(request.keys), request.threshold
        self._agreed = agreement(self._round, self._keys, self._threshold)
        shares = {client: self._shares_of(client, own) for client, own in self._own.items()}
        digests = {client: hashlib.sha256(own.seed).digest() for client, own in self._own.items()}
        return MaskShares(shares, digests)

    def _check_signatures(self, request: MaskSharesRequest) -> None:
        if (me := self._identity) is None:
            return
        for peer in request.keys.keys() - self._own.keys():
            said = statement(me.run, self._round, peer, request.keys[peer])
            if problem := me.problem(peer, said, request.signatures.get(peer, [])):
                raise PublicError(f"the keys of {peer} may not be its own: {problem}")

    def _shares_of(self, client: str, own: _Secrets) -> dict[str, bytes]:
        places = self._places()
        of_seed, of_key = (
            secret_sharing.split(secret, self._threshold, list(places.values()))
            for secret in (own.seed, own.masking.private)
        )
        own.own_share = of_seed[places[client]] + of_key[places[client]]
        return {
            peer: masks.seal(self._sealing_key(client, peer), of_seed[place] + of_key[place], self._about(client, peer))
            for peer, place in places.items()
            if peer != client
        }

    def check_task(self, task: RoundTask, rows: Mapping[str, int]) -> None:
        """Before the round: who is in the sum, and what each weighs.

        Args:
            rows: of this host's clients, numbers of training rows.
        """
        members = task.masked
        if not members.keys() & self._own.keys():
            # Nobody of this host has a part in it.
            self._own, self._members = {}, {}
            return
        self._check_round(task.round)
        if members.keys() != self._keys.keys() or self._members not in ({}, members):
            raise PublicError("the sum is not of those who agreed on masks")
        for client in members.keys() & self._own.keys():
            if members[client] != weight_of(self._config, rows[client]):
                raise PublicError(f"{client} would not count by --client_weights {self._config.weights}")
        if min(members.values()) < 1:
            raise PublicError("a client counts for nothing")
        self._members = dict(members)

    def check_member(self, client: str) -> None:
        """``client`` must have a part in the sum, or it need not train."""
        if client not in self._members or client not in self._own:
            raise PublicError(f"{client} was not there when masks were agreed on for this round")

    def payload(self, client: str, moves: Mapping[str, torch.Tensor], names: list[str], spec: Spec) -> bytes:
        """A client's masked part of the sum: four bytes a value.

        Args:
            moves: what it trained, as differences; a tensor that is missing was not trained, and did not move.
            names: the tensors that travel in this round.
            spec: their shapes.

        Raises:
            PublicError: it has no part in the sum, or a value moved too far.
        """
        self.check_member(client)
        if self._own[client].used:
            raise PublicError(f"{client} was masked already: two updates under one mask would tell how they differ")
        self._own[client].used = True
        try:
            share = self._members[client] / sum(self._members.values())
            words = to_words(moves, share, names, spec)
        except ValueError:
            raise PublicError(
                "its update is not finite or moves a value farther than a masked sum holds: lower --lr"
            ) from None
        return to_bytes(self._masked(client, words))

    def _masked(self, client: str, words: Words) -> Words:
        own = self._own[client]
        total = words + masks.stream(own.seed, len(words))
        for peer in self._members:
            if peer == client:
                continue
            secret = masks.agreed(own.masking.private, self._keys[peer][1], purpose("mask", self._round))
            mask = masks.stream(secret, len(words))
            total = total + mask if client < peer else total - mask
        return total

    def unmask(self, request: UnmaskRequest) -> Unmasking:
        """The shares that take the masks off the sum; then everything of the round is forgotten."""
        self._check_round(request.round)
        try:
            return self._unmasking(request)
        finally:
            self._own, self._keys, self._members = {}, {}, {}

    def _unmasking(self, request: UnmaskRequest) -> Unmasking:
        summed, members = set(request.summed), self._members
        if summed - members.keys() or len(summed) < self._threshold or not members:
            raise PublicError("the sum is not of those who agreed on masks, or of too few")
        opened = {client: self._opened(client, request.shares.get(client, {})) for client in self._own}
        if any(len(both.keys() & summed) < self._threshold for both in opened.values()):
            raise PublicError("too few of those in the sum have shown that they are there")
        self._sums.add(request.round, sorted(summed))
        result: dict[str, dict[str, bytes]] = {}
        for client, both in opened.items():
            half = secret_sharing.SHARE
            result[client] = {peer: share[:half] if peer in summed else share[half:] for peer, share in both.items()}
        return Unmasking(result)

    def _opened(self, client: str, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        """By member, what this client has of its secrets: its own, and what it can open."""
        opened = {client: self._own[client].own_share}
        for peer, content in sealed.items():
            if peer in self._members and peer != client and (share := self._unsealed(client, peer, content)):
                opened[peer] = share
        return opened

    def _unsealed(self, client: str, peer: str, sealed: bytes) -> bytes:
        """Empty if it is not what that peer sealed for this client: others' shares may do."""
        try:
            share = masks.unseal(self._sealing_key(client, peer), sealed, self._about(peer, client))
        except ValueError:
            return b""
        return share if len(share) == 2 * secret_sharing.SHARE else b""

    def _places(self) -> dict[str, int]:
        return {client: place for place, client in enumerate(sorted(self._keys), start=1)}

    def _sealing_key(self, client: str, peer: str) -> bytes:
        return masks.agreed(self._own[client].sealing.private, self._keys[peer][0], purpose("share", self._round))

    def _about(self, sender: str, receiver: str) -> bytes:
        return about(self._agreed, sender, receiver)

    def _check_round(self, number: int) -> None:
        if number != self._round or not self._own:
            raise PublicError(f"no keys were made for round {number}")
