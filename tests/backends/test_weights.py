"""How frozen weights are loaded: the arguments for ``from_pretrained``, what is refused, and that models train so."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from fedumm.backends import weights
from fedumm.backends.registry import backend_for
from fedumm.backends.weights import WeightOptions, check_weights, count_parameters, loading_arguments, placed
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from fedumm.plugins import load_plugins
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from support.toy import TOY, toy_config

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
HALF = [torch.bfloat16, torch.float16]


@pytest.fixture
def quantiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if bitsandbytes were installed."""
    package = ModuleType("bitsandbytes")
    package.__spec__ = object()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)


def unknown() -> int:
    raise AssertionError("counting the parameters of a large model takes time, and nobody needs it here")


@pytest.mark.parametrize(
    ("options", "device", "parameters", "expected"),
    [
        (WeightOptions(), CPU, None, torch.float32),
        (WeightOptions(), GPU, 1_000_000_000, torch.float32),
        (WeightOptions(), GPU, 1_000_000_001, torch.bfloat16),
        (WeightOptions(precision="bfloat16"), GPU, 1000, torch.float32),
        (WeightOptions(precision="bfloat16"), CPU, None, torch.float32),
        (WeightOptions(precision="float32"), GPU, None, torch.float32),
        (WeightOptions("float32"), GPU, None, torch.float32),
        (WeightOptions("bfloat16"), CPU, None, torch.bfloat16),
        (WeightOptions("float16"), GPU, None, torch.float16),
    ],
    ids=str,
)
def test_the_type_of_the_weights(
    options: WeightOptions, device: torch.device, parameters: int | None, expected: torch.dtype
) -> None:
    count = unknown if parameters is None else lambda: parameters
    assert loading_arguments(options, device, count) == {"dtype": expected}


@pytest.mark.usefixtures("quantiser")
@pytest.mark.parametrize(
    ("options", "other"),
    [
        (WeightOptions(load_in_4bit=True), torch.bfloat16),
        (WeightOptions("float16", load_in_4bit=True), torch.float16),
        (WeightOptions(load_in_4bit=True, precision="float32"), torch.float32),
    ],
    ids=str,
)
def test_four_bits_are_nf4_quantised_twice(options: WeightOptions, other: torch.dtype) -> None:
    given = loading_arguments(options, GPU, unknown, ["vision_model"])
    quantised = given.pop("quantization_config")
    assert given == {"dtype": other, "device_map": {"": GPU}}
    assert quantised.load_in_4bit
    assert (quantised.bnb_4bit_quant_type, quantised.bnb_4bit_use_double_quant) == ("nf4", True)
    assert quantised.bnb_4bit_compute_dtype == other
    assert quantised.llm_int8_skip_modules == ["vision_model"]


@pytest.mark.usefixtures("quantiser")
def test_a_model_that_was_loaded_to_where_it_belongs_is_not_moved() -> None:
    several = WeightOptions(device_map="auto")
    assert loading_arguments(several, GPU, lambda: 1) == {"dtype": torch.float32, "device_map": "auto"}
    both = loading_arguments(WeightOptions(load_in_4bit=True, device_map="auto"), GPU, unknown)
    assert both["device_map"] == "auto"
    layer, meta = torch.nn.Linear(1, 1), torch.device("meta")
    for options in (several, WeightOptions(load_in_4bit=True)):
        assert placed(layer, meta, options).weight.device == CPU
    assert placed(layer, meta, WeightOptions()).weight.device == meta


REFUSED: list[tuple[WeightOptions, torch.device, str]] = [
    (
        WeightOptions("bfloat16", precision="float32"),
        GPU,
        "--precision float32 asks for float32 weights, and --dtype b",
    ),
    (WeightOptions(load_in_4bit=True), CPU, "--load_in_4bit needs a GPU with CUDA, and this run is on cpu"),
    (WeightOptions(device_map="auto"), CPU, "--device_map auto spreads a model over GPUs, and this run uses none"),
]


@pytest.mark.usefixtures("quantiser")
@pytest.mark.parametrize(("options", "device", "problem"), REFUSED, ids=[text[:24] for _, _, text in REFUSED])
def test_what_this_machine_cannot_do(options: WeightOptions, device: torch.device, problem: str) -> None:
    for check in (check_weights, lambda *given: loading_arguments(*given, unknown)):
        with pytest.raises(FedummError, match=problem):
            check(options, device)


def test_the_package_for_four_bits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FedummError, match=r"needs the package bitsandbytes: pip install 'fedumm\[4bit\]'"):
        check_weights(WeightOptions(load_in_4bit=True), GPU)


@pytest.mark.usefixtures("quantiser")
@pytest.mark.parametrize("options", [{"load_in_4bit": True}, {"dtype": "float16", "precision": "float32"}], ids=str)
def test_it_is_refused_before_data_are_read(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedumm.training.data.load_data", unknown)
    with pytest.raises(FedummError, match=f"--{next(iter(options))}"):
        load_splits(CentralConfig(model_backend="januspro", model_name_or_path="tiny", gpu="cpu", **options))


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"load_in_4bit": True}, {"device_map": "auto"}], ids=str)
def test_a_backend_that_loads_in_one_way_refuses_others(options: dict[str, Any]) -> None:
    load_plugins([str(TOY)])
    with pytest.raises(FedummError, match=f"^--{next(iter(options))}.*: the backend 'toy' does not support it"):
        backend_for(toy_config(**options))
    backend_for(toy_config(precision="bfloat16"))


def test_blip_stays_on_one_device() -> None:
    with pytest.raises(FedummError, match="--device_map auto: the backend 'blip_vqa' does not support it"):
        backend_for(CentralConfig(model_backend="blip_vqa", device_map="auto"))


def test_parameters_are_counted_without_memory() -> None:
    def build() -> torch.nn.Module:
        tied = torch.nn.Sequential(torch.nn.Embedding(10**6, 10**5), torch.nn.Linear(10**5, 10**6))
        tied[1].weight = tied[0].weight
        return tied

    assert count_parameters(build) == 10**11 + 10**6 > weights.LARGE


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(("backend", "task"), [("blip_vqa", "vqa"), ("januspro", "vqa"), ("januspro", "t2i")])
def test_a_model_of_another_type_trains_lora_in_float32(backend: str, task: str, dtype: torch.dtype) -> None:
    """Its loss and gradients are those of the float32 model, to the rounding of the weights."""
    options = {"model_backend": backend, "model_name_or_path": "tiny", "task": task, "lora_dropout": 0.0}
    columns = ("image", "question", "multiple_choice_answer", "answers", "caption")
    rows = load_data("shapes", DataRequest(columns=columns, mix={task: 1}, max_train_samples=4, max_eval_samples=4))
    found = {}
    for name in ("float32", str(dtype).removeprefix("torch.")):
        backbone = load_backbone(CentralConfig(**options, dtype=name), CPU)
        torch.manual_seed(0)
        backbone.put({key: torch.randn_like(t) / 20 for key, t in backbone.adapter().items()})
        data = backbone.backend.build_dataset(rows.train, backbone.processor, 64, 16)
        torch.manual_seed(1)
        loss = backbone.train_step(backbone.backend.collate_fn([data[i] for i in range(4)]))
        loss.backward()
        trained = [p for p in backbone.model.parameters() if p.requires_grad]
        assert {p.dtype for p in trained} == {torch.float32}
        assert loss.dtype == torch.float32
        found[name] = (loss.item(), torch.cat([p.grad.flatten() for p in trained if p.grad is not None]))
        assert torch.isfinite(found[name][1]).all()
    (loss, gradient), (other, rounded) = found.values()
    frozen = {p.dtype for p in backbone.model.parameters() if not p.requires_grad}
    assert dtype in frozen
    assert other == pytest.approx(loss, rel=0.05)
    assert torch.cosine_similarity(gradient, rounded, 0) > 0.98


@pytest.mark.parametrize("backend", ["blip_vqa", "januspro"])
def test_only_the_language_model_may_be_in_four_bits(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attention and feed-forward layers; not the tower, whose features are kept, nor the head."""
    config = CentralConfig(model_backend=backend, model_name_or_path="tiny")
    asked: list[Any] = []
    real = loading_arguments

    def listen(options: WeightOptions, device: torch.device, count: Any, keep: Any) -> dict[str, Any]:
        asked.extend(keep)
        return real(options, device, count)

    module = "blip_vqa.model" if backend == "blip_vqa" else "januspro.load"
    monkeypatch.setattr(f"fedumm.backends.{module}.loading_arguments", listen)
    model = load_backbone(config, CPU).model.get_base_model()
    names = {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    assert all(model.get_submodule(name) for name in asked)
    left = {name for name in names if not any(f"{name}.".startswith(f"{kept}.") for kept in asked)}
    stack = "text_encoder.|text_decoder.bert" if backend == "blip_vqa" else "model.language_model."
    assert left == {name for name in names if name.startswith(tuple(stack.split("|")))}
    assert len(left) > 20


@pytest.mark.filterwarnings("ignore")
def test_four_bits_train_as_the_weights_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, which the package can do where we don't offer it: the arguments mean what they should."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(weights, "check_weights", lambda *_: None)
    rows = load_data("shapes", DataRequest(columns=("image", "question", "answers"), max_train_samples=8)).train
    found = []
    for options in ({}, {"load_in_4bit": True}):
        backbone = load_backbone(CentralConfig(model_backend="januspro", model_name_or_path="tiny", **options), CPU)
        data = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
        loss = backbone.train_step(backbone.backend.collate_fn([data[i] for i in range(8)]))
        loss.backward()
        found.append((loss.item(), backbone.total))
    assert found[0][1] == found[1][1], "as many parameters, whatever they are kept in"
    assert found[0][0] != found[1][0]
    assert found[1][0] == pytest.approx(found[0][0], rel=0.2)
