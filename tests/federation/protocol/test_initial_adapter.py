"""The adapter that a run begins with is everybody's, and its configuration the run's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedumm.adapters import encode, spec_of
from fedumm.checkpoints import resolve_checkpoint
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.federation.protocol.initial_adapter import (
    adapter_digest,
    check_alike,
    odd_ones,
    outliers,
    own_adapter_config,
    unlike,
)
from fedumm.federation.protocol.messages import InitReply
from support.toy import lora_options, toy_config

STATE = {"w": torch.tensor([1.0, 2.0])}
PEFT: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ["q"], "base_model_name_or_path": "owner/model"}
CONFIG = toy_config(**lora_options())


def ready(**changes: Any) -> InitReply:
    digest = adapter_digest(STATE)
    own = InitReply(
        spec=spec_of(STATE),
        adapter_config=PEFT,
        trainable=2,
        total=9,
        adapter=encode(STATE),
        test_samples=0,
        cache=[CacheReport()],
        device="cpu",
        digest=digest,
        fingerprint="a" * 32,
    )
    return replace(own, **changes)


def test_one_who_differs_is_named_and_without_majority_all() -> None:
    assert outliers({"a": 1, "b": 1, "c": 2}, abs) == ["c"]
    assert outliers({"a": 1, "b": 2}, abs) == ["a", "b"]
    assert outliers({"a": 1}, abs) == []
    assert outliers({"a": 1, "b": 1, "c": 2, "d": 2}, abs) == ["a", "b", "c", "d"]
    assert outliers({"a": 1, "b": 1, "c": 2, "d": 3}, abs) == ["a", "b", "c", "d"], "half is no majority"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"spec": {"w": ((3,), "float32")}}, "site-1 differs from the others in the adapter's shape"),
        ({"digest": adapter_digest({"w": torch.tensor([50.0, 50.0])})}, "site-1 differs from the others in the first"),
        ({"adapter_config": {**PEFT, "lora_alpha": 60000}}, "site-1 has an adapter of another rank or alpha"),
        ({"adapter_config": {**PEFT, "r": 0}}, "site-1 has an adapter of another rank or alpha"),
        ({"adapter_config": {**PEFT, "use_rslora": True}}, "site-1 differs from the others in PEFT's configuration"),
        ({"adapter_config": {**PEFT, "target_modules": ["v"]}}, "site-1 differs from the others in PEFT's"),
        ({"fingerprint": "b" * 32}, r"others in the frozen weights: .* is bbbbbbbb\.\.\., not aaaaaaaa\.\.\. "),
    ],
)
def test_no_site_alone_decides_what_everybody_begins_with(changes: dict[str, Any], why: str) -> None:
    """Least of all the first one, whose adapter is sent to all."""
    answers = {"site-1": ready(), "site-2": ready(adapter=b""), "site-3": ready(adapter=b"")}
    check_alike(answers, CONFIG)
    with pytest.raises(FedummError, match=why):
        check_alike({**answers, "site-1": ready(**changes)}, CONFIG)


def test_frozen_weights_are_compared_where_they_are_told() -> None:
    """Weights that are not in memory have no fingerprint."""
    untold, other = ready(fingerprint=""), ready(fingerprint="b" * 32)
    check_alike({"site-1": ready(), "site-2": ready(), "site-3": untold}, CONFIG)
    assert unlike(untold, ready()) == unlike(other, untold) == ""
    assert "it differs in the frozen weights: the model is another one." in unlike(other, ready())
    with pytest.raises(FedummError, match="site-1, site-2 differ in the frozen weights"):
        odd_ones({"site-1": ready(), "site-2": other, "site-3": untold}, CONFIG)


def test_each_odd_one_is_found_though_others_differ_in_something_else() -> None:
    answers = {f"site-{i}": ready() for i in range(1, 6)}
    answers["site-2"] = ready(spec={"w": ((3,), "float32")}, digest="another")
    answers["site-4"] = ready(fingerprint="b" * 32)
    odd = odd_ones(answers, CONFIG)
    assert sorted(odd) == ["site-2", "site-4"]
    assert odd["site-2"].startswith("differs from the others in the adapter's shape")


def test_a_model_may_lie_anywhere_and_the_run_names_it() -> None:
    answers = {f"site-{i}": ready(adapter_config={**PEFT, "base_model_name_or_path": f"/site/{i}"}) for i in (1, 2, 3)}
    check_alike(answers, CONFIG)
    named = toy_config(**lora_options(model_backend="blip_vqa", plugin="", model_name_or_path="tiny"))
    assert own_adapter_config(answers, named) == {
        **PEFT, "base_model_name_or_path": resolve_checkpoint("blip_vqa", "tiny"),
    }  # fmt: skip
    known_to_sites = toy_config(**lora_options(model_name_or_path="/models/ours"))
    assert own_adapter_config(answers, known_to_sites)["base_model_name_or_path"] == "/models/ours"
    assert own_adapter_config(answers, CONFIG)["base_model_name_or_path"] is None, "nobody's folder"
    assert own_adapter_config({"site-1": ready(), "site-2": ready()}, CONFIG) == PEFT
    assert own_adapter_config({"site-1": ready(adapter_config={})}, CONFIG) == {}
