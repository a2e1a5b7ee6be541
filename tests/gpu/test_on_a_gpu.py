"""On a real GPU: the numbers of the CPU, memory that runs out, and what only CUDA does. Run by ``make gpu-check``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.device import (
    ends_when_full,
    free_bytes,
    gpu_bytes,
    moved,
    pick_device,
    random_state,
    release,
    set_random_state,
    synchronize,
)
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.generation_eval import drawn
from fedumm.training.loading import loader
from fedumm.training.trainer import merging, train_epochs
from support.toy import toy_config
from support.vlm_families import save

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")
CASES = [("blip_vqa", "vqa"), ("januspro", "vqa"), ("januspro", "t2i")]


@pytest.fixture(autouse=True)
def _float32_products() -> Any:
    """Not TF32, which is compared with nothing here."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.allow_tf32 = before
    torch.cuda.set_per_process_memory_fraction(1.0)
    release()


@cache
def rows_of(task: str, count: int) -> Any:
    request = DataRequest(columns=COLUMNS, mix={task: 1}, max_train_samples=count, max_eval_samples=4)
    return load_data("shapes", request).train


def options(name: str, task: str, **others: Any) -> CentralConfig:
    given = {"model_name_or_path": "tiny", "lora_dropout": 0.0, "precision": "float32", "feature_cache": "off"}
    return CentralConfig(**{"model_backend": name, "task": task, **given, **others})


def made(
    config: CentralConfig, device: torch.device, count: int = 16, seed: int = 0
) -> tuple[Backbone, Any, list[str]]:
    """A backbone with an adapter that says something, its data, and what it will say."""
    backbone, said = load_backbone(config, device), list[str]()
    backbone.say = said.append
    torch.manual_seed(0)
    backbone.put({name: torch.randn(t.shape) / 20 for name, t in backbone.adapter().items()})
    data = backbone.backend.build_dataset(rows_of(config.tasks[0], count), backbone.processor, 64, 16)
    if config.feature_cache != "off":
        cache_features(backbone, [data], config, lambda *_: None)
    return backbone, data, said


def gradients(backbone: Backbone, data: Any, count: int = 16) -> tuple[float, torch.Tensor]:
    backbone.model.train()
    torch.manual_seed(1)
    loss = backbone.train_step(backbone.backend.collate_fn([data[i] for i in range(count)]))
    loss.backward()
    backbone.model.eval()
    found = [p.grad.flatten().cpu() for p in backbone.slot.parameters.values() if p.grad is not None]
    return loss.item(), torch.cat(found)


@pytest.mark.parametrize("feature_cache", ["off", "memory"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_loss_gradients_and_scores_are_those_of_the_cpu(name: str, task: str, feature_cache: str) -> None:
    config = options(name, task, feature_cache=feature_cache)
    found = []
    for device in (CPU, GPU):
        backbone, data, _ = made(config, device)
        scores = {task: own.loss or own.score for task, own in evaluate(backbone, data, config).items()}
        found.append((*gradients(backbone, data), scores))
    (loss, gradient, scores), (on_gpu, its_gradient, its_scores) = found
    assert on_gpu == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(its_gradient, gradient, rtol=1e-2, atol=1e-4 * float(gradient.abs().max()))
    # An answer may turn where two tokens are about as likely.
    assert its_scores == pytest.approx(scores, abs=0.13 if task == "vqa" else 1e-3)


@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize(
    "others",
    [{"precision": "auto"}, {"precision": "auto", "dtype": "bfloat16"}, {"precision": "auto", "dtype": "float16"}],
    ids=str,
)
def test_shorter_types_are_close(name: str, task: str, others: dict[str, Any]) -> None:
    exact, _, _ = made(options(name, task), GPU)
    loss, gradient = gradients(exact, made(options(name, task), GPU)[1])
    backbone, data, _ = made(options(name, task, **others), GPU)
    if others == {"precision": "auto"}:
        assert backbone.dtype == torch.bfloat16
    short, its_gradient = gradients(backbone, data)
    assert all(p.dtype == torch.float32 for p in backbone.slot.parameters.values())
    assert short == pytest.approx(loss, rel=0.05)
    assert torch.cosine_similarity(gradient, its_gradient, 0) > 0.97


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "smolvlm", "paligemma", "gemma3", "internvl", "llava"])
def test_image_text_models_compute_what_they_do_on_the_cpu(family: str, tmp_path: Path) -> None:
    """In float32, and in bfloat16 about that."""
    folder = str(save(family, tmp_path))
    found = {}
    for device, dtype in ((CPU, "float32"), (GPU, "float32"), (GPU, "bfloat16")):
        config = options(
            "hf_vlm", "vqa", model_name_or_path=folder, dtype=dtype, precision="auto" if dtype != "float32" else dtype
        )
        backbone, data, _ = made(config, device, 6)
        found[device.type, dtype] = gradients(backbone, data, 6)
    loss, gradient = found["cpu", "float32"]
    on_gpu, its_gradient = found["cuda", "float32"]
    assert on_gpu == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(its_gradient, gradient, rtol=1e-2, atol=1e-3 * float(gradient.abs().max()))
    assert found["cuda", "bfloat16"][0] == pytest.approx(loss, rel=0.05)


@pytest.mark.parametrize("backend", ["blip_vqa", "januspro"])
def test_four_bits_train(backend: str) -> None:
    pytest.importorskip("bitsandbytes")
    loss, _ = gradients(*made(options(backend, "vqa"), GPU)[:2])
    backbone, data, _ = made(options(backend, "vqa", precision="auto", load_in_4bit=True), GPU)
    assert gradients(backbone, data)[0] == pytest.approx(loss, rel=0.25)
    assert backbone.total == made(options(backend, "vqa"), GPU)[0].total


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_model_over_several_gpus() -> None:
    loss, gradient = gradients(*made(options("januspro", "vqa"), GPU)[:2])
    backbone, data, _ = made(options("januspro", "vqa", device_map="auto"), GPU)
    spread, its_gradient = gradients(backbone, data)
    assert spread == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(its_gradient, gradient, rtol=1e-2, atol=1e-4)


def test_each_host_has_a_gpu() -> None:
    count = torch.cuda.device_count()
    assert [pick_device("", host).index for host in range(2 * count)] == [*range(count)] * 2


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_activations_change_little(dropout: float) -> None:
    """Dropout repeats its random numbers."""
    plain = gradients(*made(options("januspro", "vqa", lora_dropout=dropout), GPU)[:2])
    saving = options("januspro", "vqa", lora_dropout=dropout, gradient_checkpointing=True)
    loss, gradient = gradients(*made(saving, GPU)[:2])
    assert loss == pytest.approx(plain[0], rel=1e-5)
    torch.testing.assert_close(gradient, plain[1], rtol=1e-3, atol=1e-6)


def test_random_numbers_come_again() -> None:
    state = random_state(GPU)
    first = torch.rand(9, device=GPU), torch.rand(9)
    set_random_state(GPU, state)
    assert torch.equal(torch.rand(9, device=GPU), first[0])
    assert torch.equal(torch.rand(9), first[1])


def test_batches_are_pinned_and_moved() -> None:
    config = options("blip_vqa", "vqa", feature_cache="memory")
    backbone, data, _ = made(config, GPU)
    from fedumm.training.batching import Batch

    (batch,) = loader(backbone, data, [Batch("vqa", [0, 1, 2])], config)
    tensors = [part for part in batch.values() if isinstance(part, torch.Tensor)]
    assert all(tensor.is_pinned() for tensor in tensors)
    got = moved(batch, GPU)
    synchronize(GPU)
    for before, after in zip(tensors, (p for p in got.values() if isinstance(p, torch.Tensor)), strict=True):
        assert after.device == GPU
        assert torch.equal(after.cpu(), before)


def test_free_memory_is_what_can_be_taken() -> None:
    before = free_bytes(GPU)
    assert 0 < before <= gpu_bytes(GPU)
    block = torch.empty(2**28, dtype=torch.uint8, device=GPU)
    assert before - free_bytes(GPU) == pytest.approx(block.nbytes, rel=0.1)
    del block
    assert free_bytes(GPU) == pytest.approx(before, rel=0.05), "what PyTorch keeps unused counts as free"
    survived = False
    with ends_when_full():
        torch.empty(2 * gpu_bytes(GPU), dtype=torch.uint8, device=GPU)
        survived = True
    assert not survived


def leave(room: int) -> None:
    """No more than ``room`` bytes beside what is taken now."""
    release()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(GPU) + room) / gpu_bytes(GPU))


def peak_of_a_step(config: CentralConfig, count: int) -> int:
    """Bytes that the adapter's training takes beside the model."""
    backbone, data, _ = made(config, GPU, count)
    release()
    before = torch.cuda.memory_reserved(GPU)
    train_epochs(backbone, data, config, 1, 3)
    return torch.cuda.max_memory_reserved(GPU) - before


@pytest.mark.parametrize(("name", "task"), CASES)
def test_training_goes_on_in_halves(name: str, task: str) -> None:
    """With the result of whole batches."""
    config = options(name, task, batch_size=64, grad_accum=1, lr=1e-4)
    torch.cuda.reset_peak_memory_stats(GPU)
    needed = peak_of_a_step(config, 64)
    whole, data, _ = made(config, GPU, 64)
    train_epochs(whole, data, config, 1, 3)
    expected = whole.adapter()
    del whole, data
    backbone, data, said = made(config, GPU, 64)
    leave(needed // 2)
    train_epochs(backbone, data, config, 1, 3)
    assert said
    assert said[0].startswith(f"Out of memory on {GPU}, training ({task}) 64 at a time: going on with 32")
    for key, tensor in backbone.adapter().items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=1e-4)


def test_scoring_and_drawing_go_on_in_halves() -> None:
    config = options("januspro", "vqa", eval_batch_size=256)
    backbone, data, said = made(config, GPU, 256)
    expected = evaluate(backbone, data, config)["vqa"]
    release()
    leave(60_000_000)
    got = evaluate(backbone, data, config)["vqa"]
    assert said
    assert got.count == expected.count == 256
    assert got.score == pytest.approx(expected.score, abs=0.03)
    torch.cuda.set_per_process_memory_fraction(1.0)
    painter, _, said = made(options("januspro", "t2i"), GPU)
    leave(8_000_000)
    images = list(drawn(painter, ["a red circle"] * 64, range(64), 64, "--batch_size"))
    assert len(images) == 64
    assert said


def test_one_sample_that_does_not_fit_is_a_clear_error() -> None:
    config = options("januspro", "vqa", batch_size=4)
    backbone, data, _ = made(config, GPU)
    leave(1_000_000)
    with pytest.raises(FedummError, match=r"Out of memory on cuda:0: training \(vqa\) does not fit, not even one"):
        train_epochs(backbone, data, config, 1, 3)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_merged_batches_give_the_same_result(name: str, task: str) -> None:
    found = []
    for merge in ("off", "auto"):
        config = options(name, task, batch_size=4, grad_accum=8, lr=1e-4, merge_batches=merge)
        backbone, data, _ = made(config, GPU, 64)
        assert bool(merging(backbone, config)) is (merge == "auto")
        train_epochs(backbone, data, config, 1, 3)
        found.append(backbone.adapter())
    for key, tensor in found[0].items():
        torch.testing.assert_close(found[1][key], tensor, rtol=0, atol=1e-4)


def test_a_federated_run_is_that_of_the_cpu(tmp_path: Path) -> None:
    """Toy backend and `tiny`, two rounds in this process."""
    from fedumm.federation.runners.in_process import run_in_process
    from fedumm.report.run_folder import RunFolder, create, read_records

    scores = []
    for gpu in ("cpu", "0"):
        config = toy_config(
            model_backend="blip_vqa", model_name_or_path="tiny", dataset="shapes", plugin="", gpu=gpu,
            precision="float32", lora_dropout=0.0, lr=1e-4, max_train_samples=96, max_eval_samples=48,
        )  # fmt: skip
        create(tmp_path / gpu, config, "a test").release()
        run_in_process(config, RunFolder(tmp_path / gpu, config), lambda *_: None)
        records = [record for record in read_records(tmp_path / gpu) if record["event"] == "round"]
        scores.append([(record["train_loss"], record["test"]) for record in records])
    for (loss, test), (its_loss, its_test) in zip(*scores, strict=True):
        assert its_loss == pytest.approx(loss, rel=1e-3)
        assert its_test == pytest.approx(test, abs=0.05)
