"""Options: bounds, defaults, unknown names, and the way through YAML and back."""

from __future__ import annotations

import math
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.config import (
    CODE,
    OF_ONE_RUN,
    CentralConfig,
    FederateConfig,
    RunConfig,
    option_fields,
    read_yaml,
    write_yaml,
)
from fedumm.errors import FedummError
from fedumm.run_options import from_mapping, to_mapping

SEED_DEFAULTS: dict[type[RunConfig], dict[str, Any]] = {
    FederateConfig: {"num_clients": 2, "num_rounds": 3, "local_epochs": 1, "dirichlet_alpha": 0},
    CentralConfig: {"num_epochs": 1, "output_dir": "./workspace_centralized"},
    RunConfig: {
        "model_name_or_path": "",
        "batch_size": 8,
        "grad_accum": 8,
        "lr": 5e-5,
        "weight_decay": 0.05,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "max_q_len": 64,
        "max_a_len": 16,
        "max_train_samples": -1,
        "max_eval_samples": -1,
        "data_path": "",
        "seed": 42,
    },
}

NOT_POSITIVE = (0, -1)
NO_RATE = (0.0, -5e-5, math.nan, math.inf)
NEGATIVE = (-1,)
NO_LIMIT = (0, -2)
OUT_OF_BOUNDS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["batch_size", "grad_accum", "lora_r", "lora_alpha", "max_q_len", "max_a_len"], NOT_POSITIVE),
    **dict.fromkeys(["num_clients", "num_rounds", "local_epochs"], NOT_POSITIVE),
    **dict.fromkeys(["eval_batch_size", "num_workers", "threads", "clients_per_round", "hosts"], NEGATIVE),
    **dict.fromkeys(["max_train_samples", "max_eval_samples"], NO_LIMIT),
    **dict.fromkeys(["lr", "feature_cache_gb"], NO_RATE),
    **dict.fromkeys(["weight_decay", "dirichlet_alpha"], (-0.1, math.nan, math.inf)),
    "lora_dropout": (-0.1, 1.0, 1.5, math.nan),
    "holdout": (0.0, 1.0, -0.1, math.nan),
    "seed": (-1, 2**32),
    "merge_batches": ("", "yes", "AUTO"),
    "dtype": ("", "int8", "torch.float32"),
    "device_map": ("balanced", "cuda"),
    "feature_cache": ("on", ""),
}
AT_THE_BOUND: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["eval_batch_size", "num_workers", "threads", "clients_per_round", "hosts"], (0, 1)),
    **dict.fromkeys(["max_train_samples", "max_eval_samples"], (-1, 1)),
    **dict.fromkeys(["num_rounds", "local_epochs", "num_clients", "batch_size", "lora_r"], (1,)),
    "weight_decay": (0.0,),
    "dirichlet_alpha": (0.0, 0.01, 1),
    "lora_dropout": (0.0, 0.999),
    "holdout": (1e-6, 0.999),
    "seed": (0, 2**32 - 1),
    "merge_batches": ("auto", "on", "off"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "device_map": ("", "auto"),
    "feature_cache": ("auto", "off"),
}
WRONG_TYPES: list[tuple[str, Any, str]] = [
    ("num_clients", "two", "int"),
    ("num_clients", 2.0, "int"),
    ("num_clients", True, "int"),
    ("num_clients", None, "int"),
    ("batch_size", [8], "int"),
    ("lr", "fast", "float"),
    ("lr", True, "float"),
    ("lr", None, "float"),
    ("lr", {"value": 1}, "float"),
    ("gpu", [0, 1], "str"),
    ("name", None, "str"),
    ("dataset", ["a"], "str"),
    ("simulator", "yes", "bool"),
    ("simulator", 1, "bool"),
]


def pairs(table: dict[str, tuple[Any, ...]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in table.items() for value in values]


def federate(**options: Any) -> FederateConfig:
    return from_mapping(FederateConfig, {"model_backend": "blip_vqa", **options})


@pytest.mark.parametrize("config", SEED_DEFAULTS, ids=lambda config: config.__name__)
def test_defaults_are_those_of_the_original_program(config: type[RunConfig]) -> None:
    defaults = {f.name: f.default for f in option_fields(config)}
    assert {name: defaults[name] for name in SEED_DEFAULTS[config]} == SEED_DEFAULTS[config]


@pytest.mark.parametrize("config", [FederateConfig, CentralConfig, RunConfig])
def test_only_the_backend_must_be_given(config: type[RunConfig]) -> None:
    assert [f.name for f in option_fields(config) if f.default is MISSING] == ["model_backend"]
    with pytest.raises(FedummError, match=r"^--model_backend is required \("):
        from_mapping(config, {"seed": 1})


def test_nothing_runs_unless_a_runner_is_chosen() -> None:
    config = federate()
    assert (config.simulator, config.in_process, config.export_dir, config.overwrite) == (False, False, "", False)


@pytest.mark.parametrize(("name", "value"), pairs(OUT_OF_BOUNDS))
def test_a_value_out_of_bounds_is_refused_by_its_flag(name: str, value: Any) -> None:
    with pytest.raises(FedummError, match=rf"^--{name} must be .+, not .*\.$") as refusal:
        federate(**{name: value})
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_the_epochs_of_the_baseline_are_positive(value: int) -> None:
    with pytest.raises(FedummError, match="--num_epochs must be positive"):
        from_mapping(CentralConfig, {"model_backend": "blip_vqa", "num_epochs": value})


@pytest.mark.parametrize(("name", "value"), pairs(AT_THE_BOUND))
def test_a_value_at_the_bound_is_taken(name: str, value: Any) -> None:
    assert getattr(federate(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value", "kind"), WRONG_TYPES)
def test_a_value_of_another_type_is_refused_by_its_flag(name: str, value: Any, kind: str) -> None:
    with pytest.raises(FedummError, match=rf"^--{name} must be of type {kind}, not ") as refusal:
        federate(**{name: value})
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("num_client", "num_clients"),
        ("dirichlet-alpha", "dirichlet_alpha"),
        ("learning_rat", None),
        ("lora_rank", "lora_r"),
        ("zzz", None),
        (7, None),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(key: Any, nearest: str | None) -> None:
    with pytest.raises(FedummError) as refusal:
        from_mapping(FederateConfig, {"model_backend": "blip_vqa", key: 1}, "my.yaml")
    message = str(refusal.value)
    assert message.startswith(f"Unknown option {key!r} in my.yaml.")
    assert message.partition("Did you mean ")[2] == (f"{nearest!r}?" if nearest else "")


def test_an_option_of_the_other_command_is_unknown() -> None:
    with pytest.raises(FedummError, match="Unknown option 'num_epochs'"):
        federate(num_epochs=1)
    with pytest.raises(FedummError, match="Unknown option 'num_rounds'"):
        from_mapping(CentralConfig, {"model_backend": "blip_vqa", "num_rounds": 1})


def test_no_more_clients_a_round_than_there_are() -> None:
    with pytest.raises(FedummError, match="--clients_per_round 3 is more than --num_clients 2"):
        federate(clients_per_round=3)
    assert federate(clients_per_round=3, num_clients=3).clients_per_round == 3


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("5e-5", 5e-5), ("1e-4", 1e-4), ("'0.001'", 0.001), ("0.01", 0.01), ("1", 1.0), ("2E-5", 2e-5)],
    )
    def test_a_number_is_read_as_it_was_meant(self, tmp_path: Path, text: str, value: float) -> None:
        """YAML 1.1 has no ``5e-5``: it reads a string."""
        file = tmp_path / "options.yaml"
        file.write_text(f"model_backend: blip_vqa\nlr: {text}\n")
        lr = from_mapping(FederateConfig, read_yaml(file)).lr
        assert (lr, type(lr)) == (value, float)

    @pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n"])
    def test_an_empty_file_sets_nothing(self, tmp_path: Path, content: str) -> None:
        file = tmp_path / "options.yaml"
        file.write_text(content)
        assert read_yaml(file) == {}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"- a\n- b\n", "must hold lines of the form 'name: value'"),
            (b"just words\n", "must hold lines of the form 'name: value'"),
            (b"a: [1\n", "can't be read as YAML"),
            (b"a: !!python/object/apply:os.getcwd []\n", "can't be read as YAML"),
            (b"seed: 2024-13-45\n", "can't be read as YAML"),
            (b"\xff\xfe\x00\xd8", "can't be read as YAML"),
        ],
    )
    def test_another_content_is_refused_with_the_file(self, tmp_path: Path, content: bytes, message: str) -> None:
        file = tmp_path / "options.yaml"
        file.write_bytes(content)
        with pytest.raises(FedummError, match=message) as refusal:
            read_yaml(file)
        assert str(file) in str(refusal.value)

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FedummError, match=r"^Config file not found: .*nowhere\.yaml$"):
            read_yaml(tmp_path / "nowhere.yaml")
        with pytest.raises(FedummError, match="can't be read as YAML"):
            read_yaml(tmp_path)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FEDERATE_VALUES = st.fixed_dictionaries(
    {"model_backend": NAMES},
    optional={
        "name": NAMES,
        "dataset": st.sampled_from(["easy_vqa", "null", "true", "0,1", "1e3", "2024-01-01", "~", "a: b", "- a", "#x"]),
        "gpu": st.sampled_from(["0", "0,1", "cpu", "", "0x1", "1_000", "12:30:45"]),
        "lr": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "holdout": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "dirichlet_alpha": st.one_of(st.integers(0, 5), st.floats(0, 1e300)),
        "seed": st.integers(0, 2**32 - 1),
        "max_train_samples": st.one_of(st.just(-1), st.integers(1, 10**9)),
        "simulator": st.booleans(),
    },
)
COMMANDS = [
    "",
    "python job.py",
    "python job.py --name 'a\nb: c'",
    "x --name 'a\x85b'",
    "x \x07 \udc80",
    "job \u2028é #:",
]


@settings(deadline=None, max_examples=80)
@given(values=FEDERATE_VALUES, command=st.sampled_from(COMMANDS))
def test_what_is_written_is_read_back_equal(
    values: dict[str, Any], command: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``--config`` with a run's ``config.yaml`` repeats the run, whatever the strings in it look like."""
    config = from_mapping(FederateConfig, values)
    file = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    write_yaml(to_mapping(config), file, command)
    assert from_mapping(FederateConfig, read_yaml(file)) == replace(config, name="", overwrite=False, plugin="")


@pytest.mark.parametrize("config", [FederateConfig, CentralConfig])
def test_the_file_holds_every_option_and_the_command(config: type[RunConfig], tmp_path: Path) -> None:
    written = from_mapping(config, {"model_backend": "blip_vqa"})
    write_yaml(to_mapping(written), tmp_path / "config.yaml", "python job.py --simulator")
    first = (tmp_path / "config.yaml").read_text().splitlines()[0]
    assert first == "# Repeat this run: python job.py --simulator"
    kept = [f.name for f in option_fields(config) if f.name not in (*OF_ONE_RUN, CODE)]
    assert list(read_yaml(tmp_path / "config.yaml")) == kept
    assert from_mapping(config, read_yaml(tmp_path / "config.yaml")) == written


HUGE = "9" * 5000
ODD_FILES = {
    "a number for no float": f"lr: {HUGE[:400]}",
    "a number for no int": f"num_clients: {HUGE[:400]}",
    "a number for no text": f"gpu: 0x{'f' * 6000}",
    "too many digits": f"num_clients: {HUGE}",
    "too deep a list": "[" * 5000,
    "too deep a mapping": "{a: " * 3000,
    "too long": "#" * 1_000_001,
    "half a character": 'name: "\\ud800"',
    "no character of a name": 'data_path: "a\\0b"',
    "a key of controls": '"\\e[2Jx": 1',
    "code": "!!python/object/apply:os.system ['echo']",
    "a key of a list": "? [a]\n: 1",
    "itself": "a: &a [*a]\nname: *a",
    "a date": "name: 2020-01-01",
    "bytes": "name: !!binary aGVsbG8=",
    "gigabytes": "\n".join(
        ["a0: &a0 x", *(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(9)), "name: *a9"]
    ),
}


@pytest.mark.parametrize("text", ODD_FILES.values(), ids=ODD_FILES.keys())
def test_an_odd_file_is_one_short_message(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(FedummError) as refusal:
        from_mapping(FederateConfig, {"model_backend": "b", **read_yaml(tmp_path / "odd.yaml")}, "odd.yaml")
    assert len(str(refusal.value)) < 2000
    assert "\x1b" not in str(refusal.value)


@pytest.mark.parametrize("place", [".", "/dev/zero", "/proc/self/mem"])
def test_what_is_no_file_of_options_is_one_message(place: str) -> None:
    with pytest.raises(FedummError, match="can't be read as YAML"):
        read_yaml(place)
