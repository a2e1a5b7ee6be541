"""Adapters: into and out of a model, over the wire, and on disk, without losing or sharing a bit."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import peft.utils.save_and_load
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from fedumm.adapters import AdapterState, check_state, decode, encode, spec_of
from fedumm.adapters.folder import read_folder, save_folder
from fedumm.adapters.model import AdapterSlot
from fedumm.errors import FedummError
from support.states import STATES, equal


class TestWire:
    @settings(deadline=None, max_examples=100)
    @given(STATES)
    def test_every_bit_comes_back(self, state: AdapterState) -> None:
        assert equal(decode(encode(state)), state)

    @settings(deadline=None, max_examples=50)
    @given(STATES)
    def test_equal_states_give_equal_bytes_in_any_order(self, state: AdapterState) -> None:
        backwards = {name: state[name].clone() for name in reversed(state)}
        assert encode(backwards) == encode(state)
        assert list(decode(encode(backwards))) == sorted(state)

    def test_what_is_decoded_can_be_written_to(self) -> None:
        payload = encode({"a": torch.zeros(3)})
        decode(payload)["a"].add_(1)
        assert decode(payload)["a"].tolist() == [0, 0, 0]

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=200))
    def test_garbage_is_a_value_error(self, payload: bytes) -> None:
        with pytest.raises(ValueError, match="not an adapter"):
            decode(payload)

    @settings(deadline=None, max_examples=300)
    @given(st.integers(0, 2**31), st.integers(0, 255), st.integers(0, 2**31))
    def test_a_damaged_adapter_is_refused_or_read_never_another_error(self, at: int, byte: int, cut: int) -> None:
        payload = bytearray(encode({"a": torch.ones(2, 3), "b": torch.ones(1, dtype=torch.bfloat16)}))
        payload[at % len(payload)] = byte
        shortened = bytes(payload[: 1 + cut % len(payload)])
        try:
            state = decode(shortened)
        except ValueError:
            return
        assert len(shortened) == len(payload), "an adapter cut short must not be read"
        assert all(isinstance(t, torch.Tensor) for t in state.values())

    @pytest.mark.parametrize(
        "header",
        [
            '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}',
            '{"a": {"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}}',
            '{"a": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}',
            '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
            '{"a": 1}',
            "[]",
            "{",
        ],
    )
    def test_a_header_that_lies_is_a_value_error(self, header: str) -> None:
        with pytest.raises(ValueError, match="not an adapter"):
            decode(len(header).to_bytes(8, "little") + header.encode() + bytes(4))


GOOD: AdapterState = {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}
PROBLEMS: dict[str, tuple[AdapterState, str]] = {
    "missing": ({"a": GOOD["a"]}, "1 tensor(s) missing, among them b"),
    "all missing": ({}, "2 tensor(s) missing, among them a"),
    "extra": ({**GOOD, "c": GOOD["a"], "aa": GOOD["a"]}, "2 unknown tensor(s), among them aa"),
    "missing and extra": ({"a": GOOD["a"], "c": GOOD["a"]}, "1 tensor(s) missing, among them b"),
    "transposed": ({**GOOD, "a": torch.ones(3, 2)}, "a is float32[3, 2], expected float32[2, 3]"),
    "one dimension more": ({**GOOD, "a": torch.ones(1, 2, 3)}, "a is float32[1, 2, 3], expected float32[2, 3]"),
    "would broadcast": ({**GOOD, "a": torch.ones(3)}, "a is float32[3], expected float32[2, 3]"),
    "dtype": ({**GOOD, "b": torch.zeros(4)}, "b is float32[4], expected bfloat16[4]"),
    "half for bfloat16": ({**GOOD, "b": torch.zeros(4).half()}, "b is float16[4], expected bfloat16[4]"),
    "nan": ({**GOOD, "a": torch.tensor([[1, 2, 3], [4, 5, math.nan]])}, "a holds NaN or infinite values"),
    "inf": ({**GOOD, "b": torch.tensor([0, 0, math.inf, 0]).bfloat16()}, "b holds NaN or infinite values"),
    "minus inf": ({**GOOD, "a": torch.full((2, 3), -math.inf)}, "a holds NaN or infinite values"),
}


@pytest.mark.parametrize(("state", "problem"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_an_update_that_does_not_fit_is_named(state: AdapterState, problem: str) -> None:
    assert str(check_state(state, spec_of(GOOD))) == problem


@pytest.mark.parametrize(
    ("state", "options", "kind"),
    [
        ({"a": GOOD["a"]}, {}, "names"),
        ({"a": GOOD["a"]}, {"partial": True}, None),
        ({"a": GOOD["a"], "c": GOOD["a"]}, {"partial": True}, "names"),
        ({**GOOD, "b": torch.zeros(4)}, {}, "shape"),
        ({**GOOD, "b": torch.zeros(4)}, {"any_dtype": True}, None),
        ({**GOOD, "b": torch.zeros(5)}, {"any_dtype": True}, "shape"),
        ({**GOOD, "a": torch.full((2, 3), -2.5)}, {"largest": 2.5}, None),
        ({**GOOD, "a": torch.full((2, 3), -2.5)}, {"largest": 2.4}, "huge"),
        ({**GOOD, "a": torch.full((2, 3), math.inf)}, {"largest": 2.4}, "non_finite"),
        ({**GOOD, "a": torch.full((2, 3), math.nan)}, {"largest": 2.4}, "non_finite"),
    ],
)
def test_what_is_asked_of_a_state(state: AdapterState, options: dict[str, Any], kind: str | None) -> None:
    found = check_state(state, spec_of(GOOD), **options)
    assert (found.kind if found else None) == kind


def test_an_update_that_fits_has_no_problem_whatever_its_order() -> None:
    assert spec_of(GOOD) == {"a": ((2, 3), "float32"), "b": ((4,), "bfloat16")}
    assert check_state({name: GOOD[name] for name in ("b", "a")}, spec_of(GOOD)) is None


def plain_model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def peft_model() -> torch.nn.Module:
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["0"], modules_to_save=["1"], init_lora_weights=False)
    return get_peft_model(base, config)


MODELS: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, tuple[int, ...]]]] = {
    "plain": (plain_model, {"1.weight": (2, 4), "1.bias": (2,)}),
    "peft": (
        peft_model,
        {
            "base_model.model.0.lora_A.weight": (2, 3),
            "base_model.model.0.lora_B.weight": (4, 2),
            "base_model.model.1.weight": (2, 4),
            "base_model.model.1.bias": (2,),
        },
    ),
}
EACH_MODEL = pytest.mark.parametrize("build", [build for build, _ in MODELS.values()], ids=MODELS.keys())


@pytest.mark.parametrize(("build", "shapes"), MODELS.values(), ids=MODELS.keys())
def test_the_adapter_is_what_is_trained_sorted_by_name(
    build: Callable[[], torch.nn.Module], shapes: dict[str, tuple[int, ...]]
) -> None:
    model = build()
    state = AdapterSlot(model).get()
    assert {name: tuple(t.shape) for name, t in state.items()} == shapes
    assert list(state) == sorted(state)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(t.numel() for t in state.values()) == trained
    assert not any(t.requires_grad for t in state.values())


@EACH_MODEL
def test_a_loaded_adapter_is_read_back_and_computes_like_its_source(build: Callable[[], torch.nn.Module]) -> None:
    source, target = build().eval(), build().eval()
    with torch.no_grad():
        for parameter in source.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape))
    inputs = torch.randn(5, 3)
    assert not torch.equal(source(inputs), target(inputs))
    AdapterSlot(target).put(AdapterSlot(source).get())
    assert equal(AdapterSlot(target).get(), AdapterSlot(source).get())
    assert torch.equal(source(inputs), target(inputs))
    assert [p.requires_grad for p in target.parameters()] == [p.requires_grad for p in source.parameters()]


@EACH_MODEL
def test_loading_leaves_the_frozen_weights_alone(build: Callable[[], torch.nn.Module]) -> None:
    model = build()
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    AdapterSlot(model).put({name: t + 1 for name, t in AdapterSlot(model).get().items()})
    assert frozen
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in frozen.items())


@EACH_MODEL
def test_copies_are_independent_of_the_model_in_both_directions(build: Callable[[], torch.nn.Module]) -> None:
    model = build()
    taken = AdapterSlot(model).get()
    kept = {name: t.clone() for name, t in taken.items()}
    AdapterSlot(model).put({name: t + 1 for name, t in taken.items()})
    assert equal(taken, kept), "training would change an adapter that was taken before"
    given = {name: t + 2 for name, t in kept.items()}
    AdapterSlot(model).put(given)
    before = AdapterSlot(model).get()
    for tensor in given.values():
        tensor.zero_()
    assert equal(AdapterSlot(model).get(), before), "the model holds on to the tensors it was given"


@EACH_MODEL
@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "dtype", "nan"])
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    build: Callable[[], torch.nn.Module], damage: str
) -> None:
    model = build()
    before = AdapterSlot(model).get()
    state = {name: t + 1 for name, t in before.items()}
    name = sorted(state)[-1]
    last = state.pop(name)
    replacement = {
        "missing": {},
        "extra": {name: last, "zzz": last},
        "shape": {name: last.flatten()[:1]},
        "dtype": {name: last.double()},
        "nan": {name: last * math.nan},
    }[damage]
    with pytest.raises(ValueError, match=f"not an adapter of this model: .*{'zzz' if damage == 'extra' else name}"):
        AdapterSlot(model).put({**state, **replacement})
    assert equal(AdapterSlot(model).get(), before)


def test_taking_an_adapter_never_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT by itself looks up the base model's config.json, online, on each call."""

    def asked(model_id: str, *_: object) -> bool:
        raise AssertionError(f"the Hub was asked about {model_id}")

    monkeypatch.setattr(peft.utils.save_and_load, "check_file_exists_on_hf_hub", asked)
    model = peft_model()
    model.peft_config["default"].base_model_name_or_path = "someone/some-model"  # type: ignore[index,union-attr]
    AdapterSlot(model).put(AdapterSlot(model).get())


class TestFolder:
    CONFIG: ClassVar = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q", "v"]}
    NEWER: ClassVar = {name: t + 1 for name, t in GOOD.items()}

    def listing(self, folder: Path) -> list[str]:
        return sorted(p.name for p in folder.iterdir())

    def test_weights_configuration_and_card_come_back(self, tmp_path: Path) -> None:
        save_folder(tmp_path / "made" / "best", GOOD, self.CONFIG, "# Card\n")
        state, config = read_folder(str(tmp_path / "made" / "best"))
        assert equal(state, GOOD)
        assert config == self.CONFIG
        assert (tmp_path / "made" / "best" / "README.md").read_text() == "# Card\n"
        assert self.listing(tmp_path / "made") == ["best"]

    def test_peft_reads_the_folder(self, tmp_path: Path) -> None:
        source = peft_model()
        config = source.peft_config["default"].to_dict()  # type: ignore[index,union-attr]
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        save_folder(tmp_path / "best", AdapterSlot(source).get(), plain, "")
        torch.manual_seed(0)
        base = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        loaded = peft.PeftModel.from_pretrained(base, str(tmp_path / "best"))
        assert equal(AdapterSlot(loaded).get(), AdapterSlot(source).get())

    def test_a_newer_adapter_replaces_the_whole_folder(self, tmp_path: Path) -> None:
        save_folder(tmp_path / "best", GOOD, self.CONFIG, "old")
        (tmp_path / "best" / "stray.txt").write_text("of the old adapter")
        save_folder(tmp_path / "best", self.NEWER, {"r": 3}, "new")
        state, config = read_folder(tmp_path / "best")
        assert equal(state, self.NEWER)
        assert config == {"r": 3}
        assert self.listing(tmp_path / "best") == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        assert self.listing(tmp_path) == ["best"]

    @pytest.mark.parametrize("fails", ["write_text", "write_bytes", "first move", "second move"])
    def test_a_failure_while_saving_keeps_the_old_adapter(
        self, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_folder(tmp_path / "best", GOOD, self.CONFIG, "old")
        real_replace, moves = os.replace, []

        def failing(*_: object, **__: object) -> int:
            raise OSError("disk full")

        def move(source: Path, target: Path) -> None:
            moves.append(target)
            if len(moves) == {"first move": 1, "second move": 2}.get(fails):
                raise OSError("disk full")
            real_replace(source, target)

        with monkeypatch.context() as patched:
            if "move" in fails:
                patched.setattr(os, "replace", move)
            else:
                patched.setattr(Path, fails, failing)
            with pytest.raises(OSError, match="disk full"):
                save_folder(tmp_path / "best", self.NEWER, {"r": 3}, "new")
        state, config = read_folder(tmp_path / "best")
        assert equal(state, GOOD)
        assert config == self.CONFIG
        assert self.listing(tmp_path) == ["best"], "a draft was left behind"

    def test_a_draft_of_a_killed_process_is_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / ".best-old").mkdir()
        (tmp_path / ".best-old" / "adapter_config.json").write_text("{}")
        save_folder(tmp_path / "best", GOOD, self.CONFIG, "")
        assert equal(read_folder(tmp_path / "best")[0], GOOD)

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FedummError, match=r"^Adapter folder not found: .*nowhere$"):
            read_folder(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("adapter_model.safetensors", None),
            ("adapter_model.safetensors", b"garbage"),
            ("adapter_config.json", None),
            ("adapter_config.json", b"{not json"),
            ("adapter_config.json", b"\xff\xfe"),
            ("adapter_config.json", json.dumps([1]).encode()),
        ],
    )
    def test_a_folder_without_an_adapter_is_named(self, file: str, content: bytes | None, tmp_path: Path) -> None:
        save_folder(tmp_path / "best", GOOD, self.CONFIG, "")
        (tmp_path / "best" / file).unlink()
        if content is not None:
            (tmp_path / "best" / file).write_bytes(content)
        with pytest.raises(FedummError, match="does not hold an adapter") as refusal:
            read_folder(tmp_path / "best")
        assert str(tmp_path / "best") in str(refusal.value)


@pytest.mark.parametrize("odd", range(1, 8))
def test_where_the_bytes_lay_does_not_matter(odd: int) -> None:
    """Kernels may round otherwise at other addresses: what is decoded begins where PyTorch's own tensors begin."""
    state = {f"t{i}": torch.randn(odd, 2 * i + 1) for i in range(9)}
    found = decode(encode(state))
    assert all(t.data_ptr() % 64 == 0 and torch.equal(t, state[name]) for name, t in found.items())
