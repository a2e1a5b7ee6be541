"""The server's side of one masked round: it passes on keys and shares, and sums what it can't read one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import combinations, islice

import numpy as np

from fedumm.adapters.state import AdapterState, Spec
from fedumm.config import FederateConfig
from fedumm.federation.protocol.mask_messages import (
    MaskKeys,
    MaskKeysRequest,
    MaskShares,
    MaskSharesRequest,
    Unmasking,
    UnmaskRequest,
)
from fedumm.federation.protocol.masked_sum import least_threshold, purpose, weight_of
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.secure_aggregation import masks, secret_sharing
from fedumm.secure_aggregation.fixed_point import GRID, MOST, Words, from_bytes, from_words
from fedumm.secure_aggregation.masks import KeyPair

_MOST_TRIES = 200
"""Sets of shares that are tried."""


class MaskedRound:
    """One round, from the keys to the sum.

    What a client sends that does not fit is left out, and with it the client.

    Args:
        config: the run's options.
        task: the round.
        rows: by client of the run, its number of training rows.
        spec: of the adapter.
        names: the tensors that are trained and travel in this round.

    Attributes:
        refusals: by host that did not answer a question of the round, why.
        problem: why the sum could not be had; empty while it can, or was.
        moves: in the end, by tensor, the weighted mean of what clients moved it by, in float64.
    """

    def __init__(
        self, config: FederateConfig, task: RoundTask, rows: Mapping[str, int], spec: Spec, names: Iterable[str]
    ) -> None:
        self._config, self._task, self._spec, self._names = config, task, spec, sorted(names)
        self._host_of = {client: host for host, own in task.assignments.items() for client in own}
        self._weights = {client: weight_of(config, rows[client]) for client in self._host_of}
        self._asked = set(self._host_of)
        self._begin()
        self._updates: dict[str, ClientUpdate] = {}
        self._unmasking: dict[str, dict[str, bytes]] = {}
        self.problem, self.refusals = "", dict[str, str]()
        self.moves: AdapterState = {}

    def _begin(self) -> None:
        self._keys: dict[str, list[bytes]] = {}
        self._signatures: dict[str, list[bytes]] = {}
        self._shares: dict[str, dict[str, bytes]] = {}
        self._digests: dict[str, bytes] = {}

    @property
    def needed(self) -> int:
        """How many clients must be there from the keys to the end."""
        return max(least_threshold(len(self._keys)), self._config.min_clients)

    @property
    def members(self) -> dict[str, int]:
        """Those whose updates may be summed, and their weights; empty if somebody's shares are missing."""
        agreed = self._shares.keys() == self._keys.keys()
        return {client: self._weights[client] for client in sorted(self._keys)} if agreed else {}

    def keys_request(self) -> MaskKeysRequest:
        """The first question, for every host with clients that are asked."""
        own = {host: [c for c in clients if c in self._asked] for host, clients in self._task.assignments.items()}
        return MaskKeysRequest(self._task.round, {host: clients for host, clients in own.items() if clients})

    def take_keys(self, answers: Mapping[str, MaskKeys]) -> None:
        """The answers to it."""
        for host, answer in answers.items():
            for client, pair in answer.keys.items():
                asked = client in self._asked and self._host_of[client] == host
                if asked and len(pair) == 2 and all(map(masks.is_key, pair)):
                    self._keys[client] = pair
                    self._signatures[client] = answer.signatures.get(client, [])
        # A key that is somebody else's would spoil the round for all: every host looks for these.
        seen = [key for pair in self._keys.values() for key in pair]
        self._keys = {c: pair for c, pair in self._keys.items() if all(seen.count(key) == 1 for key in pair)}

    def shares_request(self) -> MaskSharesRequest | None:
        """The second question; None if the clients are too few for it."""
        if len(self._keys) < self.needed:
            return None
        # Whose signature is good, sites find out for themselves: they do not believe a server.
        signatures = {client: self._signatures[client] for client in self._keys if self._signatures[client]}
        return MaskSharesRequest(self._task.round, self._keys, self.needed, signatures)

    def take_shares(self, answers: Mapping[str, MaskShares]) -> None:
        """The answers to it."""
        for host, answer in answers.items():
            for client, own in answer.shares.items():
                digest = answer.digests.get(client, b"")
                whole = own.keys() == self._keys.keys() - {client}
                if client in self._keys and self._host_of[client] == host and whole and digest:
                    self._shares[client], self._digests[client] = own, digest

    def start_again(self) -> bool:
        """Whether those who gave shares have to agree once more, without the others: masks are of all who were shown
        the same keys, or of nobody."""
        left = self._shares.keys() & self._keys.keys()
        if left == self._keys.keys() or len(left) < max(least_threshold(len(left)), self._config.min_clients):
            return False
        self._asked = set(left)
        self._begin()
        return True

    def task(self) -> RoundTask:
        """The round's task, with those who are in the sum."""
        return replace(self._task, masked=self.members)

    def unmask_requests(self, updates: Sequence[ClientUpdate]) -> dict[str, UnmaskRequest]:
        """The last question, by host; without anybody if these updates can't be summed.

        Args:
            updates: those that came and are used.
        """
        self._updates = {update.client: update for update in updates if update.client in self.members}
        if len(self._updates) < self.needed:
            self.problem = f"{len(self._updates)} masked updates, and a sum that hides each of them needs {self.needed}"
            return {}
        requests = {}
        # Of those who are lost or fail nobody is waited for once more.
        for host in dict.fromkeys(self._host_of[client] for client in self._updates):
            shares = {
                client: {sender: own[client] for sender, own in self._shares.items() if sender != client}
                for client in self.members
                if self._host_of[client] == host
            }
            requests[host] = UnmaskRequest(self._task.round, sorted(self._updates), shares)
        return requests

    def take_unmasking(self, answers: Mapping[str, Unmasking]) -> None:
        """The answers to it."""
        for host, answer in answers.items():
            for client, own in answer.shares.items():
                if client in self.members and self._host_of[client] == host:
                    self._unmasking[client] = own
        try:
            self.moves = self._mean()
        except ValueError as error:
            self.problem = str(error)

    def _mean(self) -> AdapterState:
        total = self._unmasked(sum_of(from_bytes(update.adapter) for update in self._updates.values()))
        factor = float(Fraction(sum(self.members.values()), sum(map(self._weights.__getitem__, self._updates))))
        moves = from_words(total, factor, self._names, self._spec)
        # Half a unit of each client is rounding.
        most = MOST + factor * len(self._updates) * GRID
        if any(float(move.abs().max()) > most for move in moves.values() if move.numel()):
            raise ValueError("the sum is none of updates that were made as agreed: somebody sent another")
        return moves

    def _unmasked(self, total: Words) -> Words:
        count = len(total)
        for client in self._updates:
            digest = self._digests[client]
            seed = self._secret(client, partial(_has_digest, digest))
            total = total - masks.stream(seed, count)
        for gone in sorted(self.members.keys() - self._updates.keys()):
            public = self._keys[gone][1]
            private = self._secret(gone, partial(_has_public, public))
            for client in self._updates:
                secret = masks.agreed(private, self._keys[client][1], purpose("mask", self._task.round))
                mask = masks.stream(secret, count)
                # As the client did, the other way round.
                total = total - mask if client < gone else total + mask
        return total

    def _secret(self, client: str, fits: Callable[[bytes], bool]) -> bytes:
        places = {name: place for place, name in enumerate(sorted(self._keys), start=1)}
        shares = {
            places[helper]: own[client]
            for helper, own in self._unmasking.items()
            if len(own.get(client, b"")) == secret_sharing.SHARE
        }
        # Any so many that are true will do; the first ones mostly are.
        for some in islice(combinations(shares, self.needed), _MOST_TRIES):
            try:
                secret = secret_sharing.join({place: shares[place] for place in some})
            except ValueError:
                continue
            if fits(secret):
                return secret
        raise ValueError(
            f"of {len(shares)} shares of what takes off a mask of {client}, no {self.needed} fit together: they are "
            "too few, or somebody sent a false one"
        )


def _has_digest(digest: bytes, secret: bytes) -> bool:
    return hashlib.sha256(secret).digest() == digest


def _has_public(public: bytes, secret: bytes) -> bool:
    return KeyPair.of(secret).public == public


def sum_of(parts: Iterable[Words]) -> Words:
    """Modulo 2^32, as it hides each part."""
    total: Words = np.zeros(0, dtype=np.uint32)
    for part in parts:
        total = total + part if len(total) else part.copy()
    return total
