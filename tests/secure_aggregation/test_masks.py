"""Fixed-point numbers, secrets in parts, agreed masks: each against an independent computation."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedumm.secure_aggregation import masks, secret_sharing
from fedumm.secure_aggregation.fixed_point import GRID, MOST, from_bytes, from_words, to_bytes, to_words

SPEC = {"a": ((2, 3), "float32"), "b": ((1,), "float32"), "c": ((4,), "float32")}
NAMES = ["a", "b", "c"]
VALUES = st.floats(-MOST, MOST, width=32)
MOVES = st.fixed_dictionaries({}, optional={
    name: st.lists(VALUES, min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    for name, (shape, _) in SPEC.items()
})  # fmt: skip


@given(st.lists(st.tuples(MOVES, st.integers(1, 10**6)), min_size=1, max_size=6))
def test_sums_are_those_of_whole_numbers(clients: list[tuple[dict[str, list[float]], int]]) -> None:
    """Against Python's own integers and fractions, value by value."""
    total = sum(weight for _, weight in clients)
    words = sum(
        (
            to_words(
                {name: torch.tensor(values).reshape(SPEC[name][0]) for name, values in moves.items()},
                weight / total, NAMES, SPEC,
            )
            for moves, weight in clients
        ),
        np.zeros(11, dtype=np.uint32),
    )  # fmt: skip
    got = from_words(from_bytes(to_bytes(words)), 1.0, NAMES, SPEC)
    for name, (shape, _) in SPEC.items():
        size = int(np.prod(shape))
        for place in range(size):
            parts = [
                round(Fraction(np.float64(weight / total) * np.float64(moves[name][place])) / Fraction(GRID))
                for moves, weight in clients
                if name in moves
            ]
            assert got[name].flatten()[place].item() == sum(parts) * GRID
            exact = sum(
                Fraction(weight, total) * Fraction(moves[name][place]) for moves, weight in clients if name in moves
            )
            assert abs(Fraction(sum(parts)) * Fraction(GRID) - exact) <= len(clients) * Fraction(GRID) * Fraction(
                51, 100
            )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), MOST * 1.001, -5.0])
def test_what_a_sum_cannot_hold_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="moved by"):
        to_words({"b": torch.tensor([bad])}, 0.5, NAMES, SPEC)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 6), st.integers(0, 4), st.randoms())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, threshold: int, more: int, random: object) -> None:
    places = list(range(1, threshold + more + 1))
    shares = secret_sharing.split(secret, threshold, places)
    for some in itertools.islice(itertools.combinations(places, threshold), 20):
        assert secret_sharing.join({place: shares[place] for place in some}) == secret


def test_fewer_shares_tell_nothing() -> None:
    """Whatever the secret is, some polynomial gives the shares that are known: each secret is as likely."""
    prime = 2**521 - 1
    shares = secret_sharing.split(bytes(range(32)), 3, [1, 2, 3, 4])
    known = {place: int.from_bytes(shares[place], "big") for place in (2, 4)}
    for secret in (0, 1, 12345, 2**256 - 1):
        # The quadratic through (0, secret), (2, ...), (4, ...): Newton's divided differences.
        first = (known[2] - secret) * pow(2, -1, prime) % prime
        second = ((known[4] - known[2]) * pow(2, -1, prime) - first) * pow(4, -1, prime) % prime
        assert (secret + first * 4 + second * 4 * 2 - known[4]) % prime == 0


def test_a_false_share_is_another_secret_or_none() -> None:
    shares = secret_sharing.split(bytes(32), 2, [1, 2])
    with pytest.raises(ValueError, match="do not fit"):
        secret_sharing.join({1: shares[1], 2: bytes(66)})


@pytest.mark.parametrize(("length", "threshold", "places"), [(31, 1, [1]), (32, 3, [1, 2]), (32, 0, [1]), (32, 1, [0])])
def test_what_can_not_be_shared_out(length: int, threshold: int, places: list[int]) -> None:
    with pytest.raises(ValueError, match="can't be shared"):
        secret_sharing.split(bytes(length), threshold, places)


def test_two_parties_agree_and_others_do_not() -> None:
    one, other, third = (masks.KeyPair.new() for _ in range(3))
    secret = masks.agreed(one.private, other.public, "mask 1")
    assert secret == masks.agreed(other.private, one.public, "mask 1")
    assert (
        len(
            {
                secret,
                masks.agreed(one.private, other.public, "mask 2"),
                masks.agreed(one.private, third.public, "mask 1"),
            }
        )
        == 3
    )


def test_a_key_that_gives_the_secret_away_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the library's own words)
        masks.agreed(masks.KeyPair.new().private, bytes(32), "mask 1")


def test_streams_are_aes_in_counter_mode() -> None:
    """The first block is what AES (FIPS 197) makes of zeros with an all-zero key of 256 bits."""
    assert masks.stream(bytes(32), 4).astype("<u4").tobytes().hex() == "dc95c078a2408989ad48a21492842087"
    assert (masks.stream(b"1" * 32, 1000)[:10] == masks.stream(b"1" * 32, 10)).all()


def test_masks_cancel_and_hide() -> None:
    """A masked value is any value as likely: of 2^16 words, bits are balanced (five standard deviations)."""
    mask = masks.stream(masks.KeyPair.new().private, 2**16)
    bits = np.unpackbits(mask.view(np.uint8))
    assert abs(int(bits.sum()) - len(bits) / 2) < 5 * (len(bits) / 4) ** 0.5
    words = np.arange(2**16, dtype=np.uint32)
    assert ((words + mask) - mask == words).all()


@pytest.mark.parametrize("what", ["key", "about", "content", "short"])
def test_sealed_shares_open_only_as_they_were_meant(what: str) -> None:
    key = bytes(32)
    sealed = masks.seal(key, b"share", b"1 a b")
    assert masks.unseal(key, sealed, b"1 a b") == b"share"
    changed = {
        "key": (bytes(31) + b"1", sealed, b"1 a b"),
        "about": (key, sealed, b"1 b a"),
        "content": (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"1 a b"),
        "short": (key, sealed[:5], b"1 a b"),
    }
    with pytest.raises(ValueError, match="can't be opened"):
        masks.unseal(*changed[what])
