"""Adapters in few bytes: sizes, errors within bounds, and no payload that does harm."""

from __future__ import annotations

import contextlib
import math
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedumm.adapters import AdapterState, Spec, encode, spec_of
from fedumm.compression.codecs import BLOCK, normal_float_levels
from fedumm.compression.error_feedback import send
from fedumm.compression.packing import pack, unpack
from fedumm.compression.registry import CODECS, WIRES
from support.states import STATES, equal

LOSSY = WIRES[1:]
MAX = torch.finfo(torch.float32).max
DENORMAL = 2.0**-149
NUMBERS = {"float32": 0, "bfloat16": 1, "float16": 2, "int8": 3, "nf4": 4}
"""Codecs in the header, written down here once more: they are part of the format."""

# QLoRA, Dettmers et al. (2023), appendix E.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
LEVELS = {"int8": np.arange(-127, 128) / 127, "nf4": np.array(NF4)}

VECTORS = st.one_of(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=150),
    st.lists(st.floats(-1, 1, width=32), max_size=150),
    st.lists(
        st.sampled_from([0.0, -0.0, DENORMAL, -3 * DENORMAL, 200 * DENORMAL, 1e-38, 1.0, MAX, -MAX]), max_size=150
    ),
)


def state_of(*vectors: list[float]) -> AdapterState:
    return {str(i): torch.tensor(v, dtype=torch.float32) for i, v in enumerate(vectors)}


def sent(state: AdapterState, wire: str, keep: float = 1.0) -> AdapterState:
    return unpack(pack(state, wire, spec_of(state), keep), spec_of(state))


def normal(*shapes: tuple[int, ...], seed: int = 0, scale: float = 1e-3) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {f"{i}.weight": scale * torch.randn(s, generator=generator) for i, s in enumerate(shapes)}


def nearest_bfloat16(values: np.ndarray) -> np.ndarray:
    """By integer arithmetic on the bits of float32: to nearest, ties to even, the largest finite value at most."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    finite = np.where((rounded & 0x7FFF) == 0x7F80, rounded - 1, rounded)
    return (finite << 16).astype(np.uint32).view(np.float32)


class TestExact:
    @settings(deadline=None, max_examples=100)
    @given(STATES)
    def test_every_bit_of_every_dtype_comes_back(self, state: AdapterState) -> None:
        assert equal(sent(state, "float32"), state)

    @settings(deadline=None, max_examples=50)
    @given(STATES, st.data())
    def test_tensors_may_be_left_out(self, state: AdapterState, data: st.DataObject) -> None:
        names = data.draw(st.sets(st.sampled_from(sorted(state)))) if state else set()
        part = {name: state[name] for name in names}
        received = unpack(pack(part, "float32", spec_of(state)), spec_of(state))
        assert equal(received, part)
        assert list(received) == sorted(part)


class TestRounding:
    @pytest.mark.parametrize("wire", ["bfloat16", "float16"])
    @settings(deadline=None, max_examples=100)
    @given(values=VECTORS)
    def test_short_types_hold_the_nearest_value(self, wire: str, values: list[float]) -> None:
        """Half a unit in the last place at most, or the largest finite value: never infinity."""
        given_values = np.array(values, dtype=np.float32)
        expected = (
            nearest_bfloat16(given_values)
            if wire == "bfloat16"
            else np.clip(given_values, -65504, 65504).astype(np.float16)
        )
        assert sent(state_of(values), wire)["0"].tolist() == expected.astype(np.float32).tolist()

    @pytest.mark.parametrize("wire", LEVELS)
    @settings(deadline=None, max_examples=150)
    @given(values=VECTORS, others=VECTORS)
    def test_blocks_hold_the_nearest_level(self, wire: str, values: list[float], others: list[float]) -> None:
        """Computed by brute force in float64: all levels of all blocks, of each tensor by itself."""
        levels = LEVELS[wire]
        for name, decoded in sent(state_of(values, others), wire).items():
            given_values = np.array([values, others][int(name)], dtype=np.float32).astype(np.float64)
            for start in range(0, len(given_values), BLOCK):
                block, found = given_values[start : start + BLOCK], decoded.double().numpy()[start : start + BLOCK]
                largest = np.abs(block).max()
                least = np.abs(levels * largest - block[:, None]).min(1)
                error = np.abs(found - block)
                assert (error <= least + 1e-6 * largest + DENORMAL).all()
                assert (error <= np.diff(levels).max() / 2 * largest * (1 + 1e-5) + DENORMAL).all()
                assert error[np.abs(block).argmax()] == 0, "the largest of a block must come back exactly"

    @pytest.mark.parametrize("wire", LOSSY)
    @settings(deadline=None, max_examples=100)
    @given(values=VECTORS)
    def test_what_was_rounded_is_not_rounded_again(self, wire: str, values: list[float]) -> None:
        once = sent(state_of(values), wire)
        assert equal(sent(once, wire), once)

    @pytest.mark.parametrize("wire", LOSSY)
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (63,), (8, 8), (65,), (3, 43), (2, 3, 5, 7)])
    def test_shapes_and_dtypes_come_back_and_extremes_stay_finite(
        self, wire: str, dtype: torch.dtype, shape: tuple[int, ...]
    ) -> None:
        limits = torch.finfo(dtype)
        for size in (0.0, limits.tiny * limits.eps, limits.tiny, 1.0, limits.max):
            state = {"a": torch.full(shape, size, dtype=dtype)}
            state["b"] = -state["a"]
            received = sent(state, wire)
            assert spec_of(received) == spec_of(state)
            assert all(torch.isfinite(t).all() for t in received.values())
            assert torch.equal(received["a"], -received["b"])
            if size in (0.0, 1.0):
                assert torch.equal(received["a"], state["a"])

    def test_levels_are_those_that_the_paper_lists(self) -> None:
        levels = normal_float_levels()
        assert levels.dtype == torch.float32
        np.testing.assert_allclose(levels.numpy(), NF4, rtol=0, atol=2e-7)
        assert levels[[0, 7, 15]].tolist() == [-1, 0, 1]

    @pytest.mark.parametrize("wire", WIRES)
    def test_neither_threads_nor_memory_layout_change_a_bit(self, wire: str) -> None:
        state = normal((100, 1000))
        payload = pack(state, wire, spec_of(state), 0.3)
        decoded = unpack(payload, spec_of(state))
        torch.set_num_threads(2)
        scattered = {name: t.t().contiguous().t() for name, t in state.items()}
        assert pack(scattered, wire, spec_of(state), 0.3) == payload
        assert equal(unpack(payload, spec_of(state)), decoded)


class TestLargest:
    @settings(deadline=None, max_examples=100)
    @given(
        st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(width=32)), max_size=200),
        st.floats(0, 1, exclude_min=True),
    )
    def test_the_largest_travel_and_of_equals_the_first(self, values: list[float], keep: float) -> None:
        """Against sorting; NaN counts as infinite."""
        received = sent(state_of(values), "float32", keep)["0"]
        size = [math.inf if math.isnan(v) else abs(v) for v in values]
        kept = sorted(range(len(values)), key=lambda i: (-size[i], i))[: max(1, round(keep * len(values)))]
        expected = torch.tensor([v if i in kept else 0.0 for i, v in enumerate(values)])
        assert equal({"": received}, {"": expected})

    @pytest.mark.parametrize("wire", LOSSY)
    def test_the_codec_sees_the_kept_values_as_one_vector(self, wire: str) -> None:
        values = normal((7, 100))["0.weight"]
        chosen = values.abs() >= values.abs().flatten().sort(descending=True).values[69]
        (received,) = sent({"a": values}, wire, 0.1).values()
        assert torch.equal(received[chosen], sent({"a": values[chosen]}, wire)["a"])
        assert not received[~chosen].any()

    @pytest.mark.parametrize(("kept", "index_bytes"), [(1, 4), (31, 124), (32, 125), (500, 125), (999, 125), (1000, 0)])
    def test_positions_are_listed_or_mapped_whichever_is_shorter(self, kept: int, index_bytes: int) -> None:
        state = normal((1000,))
        payload = pack(state, "float32", spec_of(state), kept / 1000)
        assert len(payload) == 17 + 1 + index_bytes + 4 * kept
        assert np.count_nonzero(unpack(payload, spec_of(state))["0.weight"]) == kept

    def test_each_tensor_keeps_its_own_and_at_least_one(self) -> None:
        received = sent(state_of([1.0, 2.0], [], [1e-9] * 3 + [-2e-9] * 17, [5.0]), "int8", 0.1)
        assert [t.nonzero().flatten().tolist() for t in received.values()] == [[1], [], [3, 4], [0]]


class TestSize:
    # Tiny BLIP's LoRA: 48 factors, 294,912 bytes of float32.
    TINY = normal(*[(16, 96), (96, 16)] * 24)

    @pytest.mark.parametrize(
        ("wire", "keep", "share"),
        [("float32", 1, 1), ("bfloat16", 1, 0.501), ("float16", 1, 0.501), ("int8", 1, 0.266), ("nf4", 1, 0.141),
         ("float32", 0.1, 0.132), ("int8", 0.1, 0.059), ("nf4", 0.01, 0.015)],
    )  # fmt: skip
    def test_share_of_the_bytes_of_float32(self, wire: str, keep: float, share: float) -> None:
        named = {f"base_model.model.text_encoder.encoder.layer.{name}": t for name, t in self.TINY.items()}
        payload = pack(named, wire, spec_of(named), keep)
        assert len(payload) <= share * len(encode(named))
        assert len(payload) == len(pack(self.TINY, wire, spec_of(self.TINY), keep)), "names must not travel"


class TestFormat:
    @pytest.mark.parametrize(
        ("wire", "keep", "body"),
        [
            ("float32", 1.0, struct.pack("<3f", 4, -0.5, 1)),
            ("bfloat16", 1.0, bytes.fromhex("8040 00bf 803f")),
            ("float16", 1.0, bytes.fromhex("0044 00b8 003c")),
            ("int8", 1.0, struct.pack("<f3b", 4, 127, -16, 32)),  # -15.875 and 31.75
            ("nf4", 1.0, struct.pack("<f2B", 4, 15 | 6 << 4, 10)),  # -0.125 -> -0.0911, 0.25 -> 0.2461
            ("int8", 0.67, struct.pack("<Bf2b", 0b101, 4, 127, 32)),
        ],
    )
    def test_worked_by_hand(self, wire: str, keep: float, body: bytes) -> None:
        spec: Spec = {"b": ((3,), "float32"), "a": ((2,), "float32")}
        checksum = zlib.crc32(b'[["a", [2], "float32"], ["b", [3], "float32"]]')
        header = struct.pack("<4sBId", b"FMM1", NUMBERS[wire], checksum, keep)
        assert pack({"b": torch.tensor([4.0, -0.5, 1.0])}, wire, spec, keep) == header + b"\2" + body

    @pytest.mark.parametrize(("wire", "codes"), [("int8", bytes(3)), ("nf4", b"\x77\x07")])
    def test_a_block_of_zeros_has_scale_and_codes_of_zero(self, wire: str, codes: bytes) -> None:
        """Not what a division by zero happens to be on a machine."""
        state = state_of([0.0, -0.0, 0.0])
        assert pack(state, wire, spec_of(state))[18:] == bytes(4) + codes

    @pytest.mark.parametrize("wire", WIRES)
    def test_what_is_given_is_not_changed_and_what_comes_can_be(self, wire: str) -> None:
        state = normal((3, 5))
        before = {name: t.clone() for name, t in state.items()}
        payload = pack(state, wire, spec_of(state))
        unpack(payload, spec_of(state))["0.weight"].add_(1)
        assert equal(state, before)
        assert equal(unpack(payload, spec_of(state)), sent(state, wire))

    @pytest.mark.parametrize(
        ("state", "wire", "keep", "message"),
        [
            (
                state_of([1.0]),
                "int4",
                1.0,
                "Unknown codec 'int4'. Available: bfloat16, float16, float32, int8, nf4.",
            ),
            (state_of([1.0]), "int8", 0.0, "the share to keep is 0.0"),
            (state_of([1.0]), "int8", 1.5, "the share to keep is 1.5"),
            (state_of([1.0]), "int8", math.nan, "the share to keep is nan"),
            ({"z": torch.ones(1)}, "int8", 1.0, "z is not of the adapter"),
            (state_of([1.0, 2.0]), "int8", 1.0, "0: torch.float32[2], expected torch.float32[1]"),
            ({"0": torch.ones(1).double()}, "float32", 1.0, "0: torch.float64[1], expected torch.float32[1]"),
            ({"n": torch.arange(4)}, "nf4", 1.0, "n: int64 travels whole and as float32 only"),
            ({"n": torch.arange(4)}, "float32", 0.5, "n: int64 travels whole and as float32 only"),
            *[(state_of([v]), w, 1.0, "0: NaN or infinite") for v in (math.nan, -math.inf) for w in LOSSY],
        ],
    )
    def test_what_cannot_be_packed_is_named(self, state: AdapterState, wire: str, keep: float, message: str) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            pack(state, wire, {"0": ((1,), "float32"), "n": ((4,), "int64")}, keep)


SMALL = normal((3, 5), (40,), (), (0,), (9,), scale=1)
SPEC = spec_of(SMALL)
PAYLOADS = [pack(SMALL, wire, SPEC, keep) for wire in WIRES for keep in (1.0, 0.3, 0.02)]


class TestHostile:
    """Nothing but ValueError may come of a payload, whatever it is."""

    @pytest.mark.parametrize("payload", PAYLOADS)
    def test_any_other_length_is_refused(self, payload: bytes) -> None:
        for length in range(len(payload)):
            with pytest.raises(ValueError, match=r"^the payload has \d+ bytes, expected"):
                unpack(payload[:length], SPEC)
        with pytest.raises(ValueError, match=r"^the payload has \d+ bytes, expected"):
            unpack(payload + b"\0", SPEC)

    @settings(deadline=None, max_examples=300)
    @given(st.sampled_from(PAYLOADS), st.integers(0, 2**31), st.binary(min_size=1, max_size=4))
    def test_damage_is_refused_or_gives_tensors_of_the_spec(self, payload: bytes, at: int, damage: bytes) -> None:
        broken = bytearray(payload)
        at %= len(payload) - len(damage)
        broken[at : at + len(damage)] = damage
        assume(broken != payload)
        try:
            received = unpack(bytes(broken), SPEC)
        except ValueError:
            return
        assert at >= 5, "magic and codec are checked"
        assert at + len(damage) <= 5 or at >= 9, "the checksum is checked"
        assert spec_of(received).items() <= SPEC.items()
        assert broken[4] == 0 or all(torch.isfinite(t).all() for t in received.values())

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=80), st.sampled_from(range(len(WIRES))), st.floats(), st.booleans())
    def test_garbage_is_refused_or_gives_tensors_of_the_spec(
        self, garbage: bytes, codec: int, keep: float, headed: bool
    ) -> None:
        header = struct.pack("<4sBI", b"FMM1", codec, struct.unpack_from("<I", PAYLOADS[0], 5)[0])
        payload = header + struct.pack("<d", keep) + garbage if headed else garbage
        with contextlib.suppress(ValueError):
            assert spec_of(unpack(payload, SPEC)).items() <= SPEC.items()

    def refusal(self, values: list[float], wire: str, keep: float, at: int, new: bytes) -> str:
        """Of one tensor ``x`` packed, with the bytes from ``at`` on (after header and bitmap) replaced."""
        state = {"x": torch.tensor(values)}
        payload = bytearray(pack(state, wire, spec_of(state), keep))
        payload[18 + at : 18 + at + len(new)] = new
        with pytest.raises(ValueError, match=r"^x: ") as refusal:
            unpack(bytes(payload), spec_of(state))
        return str(refusal.value)

    @pytest.mark.parametrize("wire", ["int8", "nf4"])
    @pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, -1.0])
    def test_scales_are_magnitudes(self, wire: str, scale: float) -> None:
        message = self.refusal([1.0] * 65, wire, 1.0, 4, struct.pack("<f", scale))
        assert message == "x: a scale is negative, NaN or infinite"

    @pytest.mark.parametrize(
        ("wire", "at", "new", "message"),
        [
            ("int8", 5, b"\x80", "x: a code is -128"),
            ("nf4", 5, b"\x1f", "x: a code too many"),
            ("float16", 2, struct.pack("<e", math.inf), "x: NaN or infinite values"),
            ("bfloat16", 2, b"\xc0\x7f", "x: NaN or infinite values"),
        ],
    )
    def test_codes_are_those_of_the_codec(self, wire: str, at: int, new: bytes, message: str) -> None:
        assert self.refusal([1.0, 2.0, 3.0], wire, 1.0, at, new) == message

    @pytest.mark.parametrize(
        ("count", "keep", "new"),
        [
            (100, 0.02, struct.pack("<2i", 5, 5)),
            (100, 0.02, struct.pack("<2i", 6, 5)),
            (100, 0.02, struct.pack("<2i", -1, 5)),
            (100, 0.02, struct.pack("<2i", 5, 100)),
            (100, 0.02, struct.pack("<2i", 5, 2**31 - 1)),
            (9, 0.2, b"\x01\x00"),
            (9, 0.2, b"\x07\x00"),
            (9, 0.2, b"\x01\x02"),
        ],
    )
    def test_positions_are_ascending_and_inside(self, count: int, keep: float, new: bytes) -> None:
        message = self.refusal([1.0] * count, "float32", keep, 0, new)
        assert message == f"x: not 2 ascending positions among {count}"

    def test_tensors_that_the_adapter_lacks_are_refused(self) -> None:
        payload = bytearray(pack({}, "int8", SPEC))
        payload[17] = 1 << len(SPEC)
        with pytest.raises(ValueError, match=r"^more tensors than the adapter has$"):
            unpack(bytes(payload), SPEC)

    @pytest.mark.parametrize(
        "other",
        [
            {"1": ((2, 3), "float32")},
            {"0": ((3, 2), "float32")},
            {"0": ((2, 3), "int32")},
            {"0": ((2, 3), "float32"), "1": ((), "float32")},
        ],
    )
    def test_an_adapter_of_equal_size_is_not_mistaken(self, other: Spec) -> None:
        payload = pack({}, "float32", {"0": ((2, 3), "float32")})
        with pytest.raises(ValueError, match=r"^packed for an adapter of other names, shapes or dtypes$"):
            unpack(payload, other)

    @pytest.mark.parametrize("wire", WIRES)
    @pytest.mark.parametrize("keep", [1.0, 0.5])
    def test_a_short_payload_is_refused_before_memory_is_taken(self, wire: str, keep: float) -> None:
        spec: Spec = {"x": ((10**6, 10**9), "float32")}
        payload = bytearray(pack({}, wire, spec, keep))
        payload[17] = 1
        with pytest.raises(ValueError, match=r"^the payload has 18 bytes, expected \d{14,}$"):
            unpack(bytes(payload), spec)

    def test_no_codec_but_the_exact_one_writes_integers(self) -> None:
        spec: Spec = {"x": ((4,), "int64")}
        payload = bytearray(pack({"x": torch.arange(4)}, "float32", spec))
        payload[4] = CODECS.get("int8").id
        with pytest.raises(ValueError, match=r"^x: int64 travels whole and as float32 only$"):
            unpack(bytes(payload), spec)


class TestFeedback:
    # What coding can lose at most, as a share of the norm of what is coded: of the largest entry, or in 2-norm.
    SHARE = (("int8", 1.0, 1 / 254, math.inf), ("nf4", 1.0, 0.1520, math.inf), ("float32", 0.1, 0.9**0.5, 2.0))

    @pytest.mark.parametrize(("wire", "keep", "share", "order"), SHARE)
    def test_all_arrives_but_the_last_residual_which_stays_small(
        self, wire: str, keep: float, share: float, order: float
    ) -> None:
        """Where coding v loses ``c ||v||`` at most, the residual stays below ``c / (1 - c) ||x||`` of the largest x."""
        residual: AdapterState = {}
        wanted = arrived = torch.zeros(10, 30, dtype=torch.float64)
        largest = 0.0
        for step in range(60):
            values = normal((10, 30), seed=step)
            largest = max(largest, float(torch.linalg.vector_norm(values["0.weight"], order)))
            _, decoded, residual = send(values, residual, wire, spec_of(values), keep)
            wanted, arrived = wanted + values["0.weight"], arrived + decoded["0.weight"]
            norm = float(torch.linalg.vector_norm(residual["0.weight"], order))
            assert 0 < norm <= 1.0001 * share / (1 - share) * largest
        torch.testing.assert_close(wanted - arrived, residual["0.weight"].double(), rtol=0, atol=1e-7)

    @pytest.mark.parametrize(
        ("wire", "keep"),
        [
            ("nf4", 0.01),
            *(pytest.param(*case, marks=pytest.mark.slow) for case in (("int8", 1.0), ("nf4", 1.0), ("float32", 0.01))),
        ],
    )
    def test_what_is_too_small_for_one_message_arrives_in_time(self, wire: str, keep: float) -> None:
        """-0.003 beside 1 is rounded off, or not kept, each time; without feedback it would never arrive."""
        values = state_of([1.0] + [-3e-3] * 63)
        assert not sent(values, wire, keep)["0"][1:].any()
        residual: AdapterState = {}
        arrived = torch.zeros(64)
        for _ in range(1000):
            _, decoded, residual = send(values, residual, wire, spec_of(values), keep)
            arrived += decoded["0"]
        torch.testing.assert_close(arrived + residual["0"], 1000 * values["0"], rtol=1e-3, atol=0)
        assert (arrived[1:] < -1.0).all()

    def test_the_receiver_decodes_what_the_sender_says(self) -> None:
        values, residual = normal((4, 9)), normal((4, 9), seed=1)
        spec = spec_of(values)
        message = send(values, residual, "nf4", spec, 0.5)
        assert equal(unpack(message.payload, spec), message.decoded)
        both = values["0.weight"] + residual["0.weight"]
        assert message.payload == pack({"0.weight": both}, "nf4", spec, 0.5)
        assert torch.equal(message.residual["0.weight"], both - message.decoded["0.weight"])
        assert equal(values, normal((4, 9)))
        assert equal(residual, normal((4, 9), seed=1))

    def test_a_tensor_that_is_not_sent_keeps_its_residual(self) -> None:
        state = state_of([1.0, 0.3], [1.0, 0.3])
        first = send(state, {}, "nf4", spec_of(state))
        second = send({"0": state["0"]}, first.residual, "float32", spec_of(state))
        assert equal(second.residual, {"1": first.residual["1"]})
        assert torch.equal(second.decoded["0"], state["0"] + first.residual["0"])

    def test_nothing_is_lost_of_what_is_exact_and_nothing_kept_of_what_is_not_finite(self) -> None:
        exact = state_of([1.0, math.nan, math.inf])
        assert send(exact, {}, "float32", spec_of(exact)).residual == {}
        thinned = state_of([1.0, math.nan, math.inf, -math.inf, 2.0])
        assert send(thinned, {}, "float32", spec_of(thinned), 0.2).residual["0"].tolist() == [1.0, 0, 0, 0, 2.0]
