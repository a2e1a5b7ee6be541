"""Codecs by name and by number: a user's own, and what is no codec."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from fedumm.adapters import spec_of
from fedumm.compression.codecs import Exact
from fedumm.compression.packing import coding, pack, unpack
from fedumm.compression.registry import CODECS, WIRES, codec_numbered, register_codec
from fedumm.errors import FedummError
from support.states import equal


class TestRegistry:
    NUMBERS: ClassVar[dict[str, int]] = {"float32": 0, "bfloat16": 1, "float16": 2, "int8": 3, "nf4": 4}

    def test_numbers_are_part_of_the_format(self) -> None:
        assert {name: CODECS.get(name).id for name in WIRES} == self.NUMBERS
        assert {codec_numbered(number).name: number for number in range(5)} == self.NUMBERS

    def test_a_users_own_codec_travels(self) -> None:
        @register_codec("halves")
        class Halves(Exact):
            id, exact = 200, False

            def encode(self, values: torch.Tensor) -> bytes:
                return super().encode(values / 2)

        state = {"0": torch.tensor([1.0, 3.0])}
        payload = pack(state, "halves", spec_of(state))
        assert (payload[4], coding(payload)) == (200, ("halves", 1.0))
        assert equal(unpack(payload, spec_of(state)), {"0": torch.tensor([0.5, 1.5])})

    @pytest.mark.parametrize("number", [3, 200])
    def test_no_two_have_one_number(self, number: int) -> None:
        register_codec("other", type("Other", (Exact,), {"id": 200}))
        taken = "int8" if number == 3 else "other"
        with pytest.raises(FedummError, match=f"Codec 'mine' has the id {number}, which is that of '{taken}'"):
            register_codec("mine", type("Mine", (Exact,), {"id": number}))
        assert "mine" not in CODECS.names()

    def test_one_that_takes_the_place_of_a_shipped_one_may_have_its_number(self) -> None:
        register_codec("int8", type("Mine", (Exact,), {"id": 3}))
        assert type(codec_numbered(3)).__name__ == "Mine"

    @pytest.mark.parametrize("number", [None, -1, 256, True, 1.0, "3"])
    def test_a_number_is_a_byte(self, number: object) -> None:
        with pytest.raises(FedummError, match="needs an id from 0 to 255"):
            register_codec("mine", type("Mine", (Exact,), {"id": number}))

    def test_what_is_no_codec_is_refused(self) -> None:
        with pytest.raises(FedummError, match="'mine' is no subclass"):
            register_codec("mine", object())

    def test_a_number_of_nobody_is_refused(self) -> None:
        state = {"a": torch.ones(3)}
        payload = pack(state, "float32", spec_of(state))
        with pytest.raises(ValueError, match="no codec has the number 77"):
            unpack(payload[:4] + bytes([77]) + payload[5:], spec_of(state))
