"""How the backbone is held: mapped from its file, in which arithmetic, with which activations kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BlipForQuestionAnswering, BlipProcessor

from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from fedumm.plugins import load_plugins
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.device import pick_dtype
from fedumm.training.trainer import train_epochs
from support.toy import TOY, toy_config

CPU = torch.device("cpu")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers")


def backbone_of(**options: Any) -> Backbone:
    return load_backbone(CentralConfig(**{"model_backend": "blip_vqa", "model_name_or_path": "tiny", **options}), CPU)


@pytest.fixture(scope="module")
def rows() -> Any:
    return load_data("shapes", DataRequest(max_train_samples=24, max_eval_samples=4, columns=COLUMNS)).train


def mapped(path: Path) -> list[range]:
    """Where in this process's memory the file is."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            found.append(range(start, end))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_frozen_weights_are_the_file_and_no_copy(tmp_path: Path) -> None:
    """So that hosts on one machine share them."""
    tiny = resolve_checkpoint("blip_vqa", "tiny")
    BlipForQuestionAnswering.from_pretrained(tiny, dtype=torch.float32).save_pretrained(tmp_path)
    BlipProcessor.from_pretrained(tiny).save_pretrained(tmp_path)
    model = backbone_of(model_name_or_path=str(tmp_path)).model
    places = mapped(tmp_path / "model.safetensors")
    assert places
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    copies = {name: p.nbytes for name, p in frozen.items() if not any(p.data_ptr() in place for place in places)}
    assert sum(copies.values()) <= 0.01 * sum(p.nbytes for p in frozen.values()), copies


def losses(backbone: Backbone, rows: Any, config: CentralConfig) -> list[float]:
    data = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
    seen: list[float] = []
    train_epochs(backbone, data, config, 2, 0, progress=lambda done, _, loss: seen.append(done * loss))
    return seen


@pytest.mark.compat
def test_gradient_checkpointing_changes_nothing(rows: Any) -> None:
    """Not even with dropout: its random numbers come again."""
    config = CentralConfig(model_backend="blip_vqa", batch_size=4, grad_accum=1, lr=1e-3)
    plain, saving = backbone_of(), backbone_of(gradient_checkpointing=True)
    assert losses(saving, rows, config) == losses(plain, rows, config)
    for name, tensor in plain.adapter().items():
        assert torch.equal(saving.adapter()[name], tensor)


@pytest.mark.parametrize("task", ["vqa", "t2i"])
def test_gradient_checkpointing_of_janus_changes_nothing(task: str) -> None:
    request = DataRequest(columns=(*COLUMNS, "caption"), mix={task: 1}, max_train_samples=8, max_eval_samples=4)
    own = load_data("shapes", request).train
    config = CentralConfig(model_backend="januspro", task=task, batch_size=4, grad_accum=1, lr=1e-3)
    plain, saving = (
        backbone_of(model_backend="januspro", task=task, gradient_checkpointing=saved) for saved in (False, True)
    )
    assert losses(saving, own, config) == losses(plain, own, config)
    for name, tensor in plain.adapter().items():
        assert torch.equal(saving.adapter()[name], tensor)


def test_janus_attends_by_the_fused_function(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each layer of tower and language model: on GPUs that is what keeps the memory of attention small."""
    real, calls = torch.nn.functional.scaled_dot_product_attention, []

    def attend(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        return real(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    backbone = backbone_of(model_backend="januspro")
    data = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
    backbone.train_step(backbone.backend.collate_fn([data[0], data[1]]))
    base = backbone.model.get_base_model().config
    assert len(calls) == base.text_config.num_hidden_layers + base.vision_config.num_hidden_layers


def test_gradient_checkpointing_of_a_model_that_cannot_is_an_error() -> None:
    load_plugins([str(TOY)])
    with pytest.raises(FedummError, match="--gradient_checkpointing"):
        load_backbone(toy_config(gradient_checkpointing=True), CPU)


def test_bfloat16_is_close_and_leaves_weights_in_float32(rows: Any) -> None:
    config = CentralConfig(model_backend="blip_vqa", batch_size=8, grad_accum=1, lr=1e-3)
    exact, rounded = backbone_of(), backbone_of(precision="bfloat16")
    expected, got = losses(exact, rows, config), losses(rounded, rows, config)
    assert got != expected
    assert got == pytest.approx(expected, rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in rounded.adapter().values())


def test_auto_is_float32_on_the_cpu() -> None:
    model = torch.nn.Linear(1, 1)
    assert pick_dtype("auto", CPU, model) == pick_dtype("float32", CPU, model) == torch.float32
    assert pick_dtype("bfloat16", CPU, model) == torch.bfloat16


def test_auto_on_a_gpu_leaves_models_of_another_type_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    gpu = torch.device("cuda")
    assert pick_dtype("auto", gpu, torch.nn.Linear(1, 1)) == torch.bfloat16
    assert pick_dtype("auto", gpu, torch.nn.Linear(1, 1).half()) == torch.float32
    assert pick_dtype("float32", gpu, torch.nn.Linear(1, 1)) == torch.float32


def test_compiling_without_a_compiler_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FedummError, match="--compile"):
        backbone_of(compile=True)


def test_a_compiled_step_is_the_one_that_trains(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def compile_step(step: Any, **options: Any) -> Any:
        def compiled(*args: Any) -> Any:
            calls.append(options)
            return step(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_step)
    config = CentralConfig(model_backend="blip_vqa", batch_size=8, grad_accum=1)
    assert losses(backbone_of(compile=True), rows, config) == losses(backbone_of(), rows, config)
    assert calls == [{"dynamic": True}] * 6


def test_parts_of_a_pool_share_what_was_prepared(rows: Any) -> None:
    backbone = backbone_of()
    used = [3, 4, 9, 10, 20]
    pool = DatasetPool(backbone, rows, CentralConfig(model_backend="blip_vqa"), used)
    part = pool.part([20, 4])
    assert part.questions is pool.whole.questions
    alone = backbone.backend.build_dataset(rows.select([20, 4]), backbone.processor, 64, 16)
    assert len(part) == 2
    assert part.lengths == alone.lengths
    for ours, theirs in zip((part[i] for i in range(2)), (alone[i] for i in range(2)), strict=True):
        assert ours.keys() == theirs.keys()
        assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
        assert {k: v for k, v in ours.items() if k != "pixel_values"} == {
            k: v for k, v in theirs.items() if k != "pixel_values"
        }
    assert pool.part([]) is None
    assert part.subset([1]).questions is part.questions
    assert part.subset([1])[0]["question_ids"] == part[1]["question_ids"]


def test_a_backend_without_a_frozen_stage_builds_each_part(rows: Any) -> None:
    load_plugins([str(TOY)])
    config = toy_config()
    pool = DatasetPool(load_backbone(config, CPU), rows, config, range(len(rows)))
    assert pool.whole is None
    assert len(pool.part([5, 7, 2])) == 3
