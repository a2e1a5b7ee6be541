"""What training needs of a device: nothing is left on the CPU, and limits of memory are seen, of whomever they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.training import device as devices
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.device import ends_when_full, free_bytes, keeps_within, moved, random_state, set_random_state
from fedumm.training.feature_cache import cache_features
from support.stand_in_gpu import GPU, MixedDevices, StandInGpu, mark, put, there

CPU, META = torch.device("cpu"), torch.device("meta")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")
CASES = [("blip_vqa", "vqa"), ("januspro", "vqa"), ("januspro", "t2i")]


def test_every_tensor_of_a_batch_is_moved() -> None:
    class Own:
        def to(self, device: torch.device) -> str:
            return f"moved to {device}"

    batch = {
        "ids": torch.ones(2, 3, dtype=torch.int64), "texts": ["a", "b"], "number": 4, "own": Own(), "none": None,
        "parts": [torch.zeros(2), (torch.zeros(1), {"deep": torch.zeros(5)})],
    }  # fmt: skip
    got = moved(batch, META)
    assert (got["ids"].device, got["ids"].shape, got["ids"].dtype) == (META, (2, 3), torch.int64)
    assert got["parts"][0].device == got["parts"][1][0].device == got["parts"][1][1]["deep"].device == META
    assert isinstance(got["parts"], list)
    assert isinstance(got["parts"][1], tuple)
    assert (got["texts"], got["number"], got["own"], got["none"]) == (["a", "b"], 4, "moved to meta", None)
    assert batch["ids"].device == CPU, "the batch itself stays"  # type: ignore[union-attr]
    assert moved(batch, CPU) is batch


@cache
def rows_of(task: str) -> Any:
    return load_data(
        "shapes", DataRequest(columns=COLUMNS, mix={task: 1}, max_train_samples=6, max_eval_samples=4)
    ).train


def backbone_and_batch(backend: str, task: str, cached: bool, **options: Any) -> tuple[Backbone, Any]:
    config = CentralConfig(
        model_backend=backend, model_name_or_path="tiny", task=task, lora_dropout=0.0,
        feature_cache="memory" if cached else "off", **options,
    )  # fmt: skip
    backbone = load_backbone(config, CPU)
    torch.manual_seed(0)
    backbone.put({name: torch.randn_like(t) / 20 for name, t in backbone.adapter().items()})
    data = backbone.backend.build_dataset(rows_of(task), backbone.processor, 64, 16)
    if cached:
        cache_features(backbone, [data], config, lambda *_: None)
    return backbone, backbone.backend.collate_fn([data[i] for i in range(6)])


@pytest.mark.parametrize("cached", [False, True], ids=["pixels", "features"])
@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize("options", [{}, {"train_answers": "all"}, {"gradient_checkpointing": True}], ids=str)
def test_a_step_leaves_no_tensor_on_the_cpu(name: str, task: str, cached: bool, options: dict[str, Any]) -> None:
    """And its loss and gradients are those of the CPU."""
    if task == "t2i" and "train_answers" in options:
        pytest.skip("captions have no answers")
    backbone, batch = backbone_and_batch(name, task, cached, **options)
    backbone.model.train()
    torch.manual_seed(1)
    expected = backbone.train_step(batch)
    expected.backward()
    gradients = {key: p.grad.clone() for key, p in backbone.slot.parameters.items() if p.grad is not None}
    backbone.model.zero_grad(set_to_none=True)

    put(backbone.model)
    backbone.device = GPU
    torch.manual_seed(1)
    with StandInGpu():
        loss = backbone.train_step(batch)
        assert there(loss)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    if not options.get("gradient_checkpointing"):  # which calls the forward pass again, in the backward pass
        loss.backward()
        for key, gradient in gradients.items():
            torch.testing.assert_close(backbone.slot.parameters[key].grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True], ids=["pixels", "features"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_scoring_leaves_no_tensor_on_the_cpu(name: str, task: str, cached: bool) -> None:
    backbone, batch = backbone_and_batch(name, task, cached)
    backend: Any = backbone.backend
    expected = backend.score_batch(backbone.model, batch, backbone.processor, CPU)
    put(backbone.model)
    with StandInGpu():
        got = backend.score_batch(backbone.model, moved(batch, GPU), backbone.processor, GPU)
    assert [sample.part for sample in got] == [sample.part for sample in expected]
    assert [sample.score for sample in got] == pytest.approx([sample.score for sample in expected], rel=1e-5)


@pytest.mark.parametrize("name", ["blip_vqa", "januspro"])
def test_ranking_leaves_no_tensor_on_the_cpu(name: str, tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("red\nblue\nyes\nno\n1\n2\n", encoding="utf-8")
    options = {"answer_mode": "rank", "answers": str(tmp_path / "answers.txt")}
    backbone, batch = backbone_and_batch(name, "vqa", False, **options)
    backend: Any = backbone.backend
    expected = backend.score_batch(backbone.model, batch, backbone.processor, CPU)
    put(backbone.model)
    with StandInGpu():
        assert backend.score_batch(backbone.model, moved(batch, GPU), backbone.processor, GPU) == expected


def test_drawing_leaves_no_tensor_on_the_cpu() -> None:
    backbone, _ = backbone_and_batch("januspro", "t2i", False)
    backend: Any = backbone.backend
    given = (backbone.model, backbone.processor, ["a red circle", "a cat"], [1, 2])
    expected = backend.draw(*given, CPU)
    put(backbone.model)
    with StandInGpu():
        got = backend.draw(*given, GPU)
    assert [image.tobytes() for image in got] == [image.tobytes() for image in expected]


def test_the_stand_in_notices_what_a_gpu_would_refuse() -> None:
    on, left, index = mark(torch.ones(3)), torch.ones(3), torch.tensor([0, 2])
    with StandInGpu():
        for wrong in (
            lambda: on + left,
            lambda: torch.cat([on, left]),
            lambda: torch.nn.functional.linear(on[None], left[None]),
            lambda: torch.where(on > 0, left, left),
            lambda: left[mark(index.clone())],
            lambda: on * torch.zeros(3),
        ):
            with pytest.raises(MixedDevices):
                wrong()
        with pytest.raises(TypeError, match="to numpy"):
            on.numpy()
        assert on.device == (on * 2).device == on[index].device == torch.zeros(3, device=on.device).device == GPU
        assert (on + torch.tensor(1.0)).device == left.to(on).device == left.to(GPU, torch.float64).device == GPU
        assert on.cpu().device == on.to("cpu").device == left.device == CPU
        assert on.tolist() == [1, 1, 1]
    backbone, batch = backbone_and_batch("blip_vqa", "vqa", False)
    put(backbone.model)
    with StandInGpu(), pytest.raises(MixedDevices):
        backbone.train_step(batch)


@pytest.mark.parametrize("cached", [False, True], ids=["pixels", "features"])
@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize(
    "options",
    [
        # Of products in bfloat16 a CPU makes a hundred times the work.
        *(pytest.param(own, marks=pytest.mark.slow) for own in ({"precision": "bfloat16"}, {"dtype": "bfloat16"})),
        {"dtype": "float16"},
        pytest.param({"dtype": "bfloat16", "precision": "bfloat16"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_types_fit_each_other(name: str, task: str, cached: bool, options: dict[str, Any]) -> None:
    """As on a GPU: in training, with checkpointed activations, too, and in scoring."""
    exact, batch = backbone_and_batch(name, task, cached)
    backbone, own = backbone_and_batch(name, task, cached, gradient_checkpointing=True, **options)
    backbone.dtype = devices.pick_dtype(options.get("precision", "auto"), CPU, backbone.model)
    backend: Any = backbone.backend
    losses = []
    for each, given in ((exact, batch), (backbone, own)):
        torch.manual_seed(1)
        each.model.train()
        losses.append(each.train_step(given))
        losses[-1].backward()
        each.model.eval()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.1)
    for key, p in backbone.slot.parameters.items():
        assert p.dtype == torch.float32
        assert p.grad is None or (p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all()), key
    with backbone.autocast():
        scores = backend.score_batch(backbone.model, own, backbone.processor, CPU)
    assert len(scores) == 6


def test_random_numbers_come_again() -> None:
    state = random_state(CPU)
    first = torch.rand(5)
    set_random_state(CPU, state)
    assert torch.equal(torch.rand(5), first)


def test_what_a_forward_pass_keeps_is_counted() -> None:
    """A product keeps its input for the weight's gradient, tanh its result; weights and what needs no gradient don't
    count, and what is kept twice counts once."""
    model = torch.nn.Sequential(torch.nn.Linear(100, 30), torch.nn.Tanh(), torch.nn.Linear(30, 20))
    inputs, kept = torch.randn(50, 100), 4 * 50 * (100 + 30)
    with keeps_within(kept, model):
        model(inputs).sum().backward()
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"), keeps_within(kept - 1, model):
        model(inputs)
    with torch.no_grad(), keeps_within(0, model):
        model(inputs)
    went_on = False
    with ends_when_full(), keeps_within(kept - 1, model):
        model(inputs)
        went_on = True
    assert not went_on


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Control groups of a machine with 1,000 free bytes: a folder for them."""
    monkeypatch.setattr(devices, "_CGROUPS", tmp_path)
    monkeypatch.setattr(devices, "_OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    return tmp_path


def group(folder: Path, limit: str, used: int, files: int = 0, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'total_' * (version == 1)}inactive_file {files}\n")


def test_free_memory_without_limits(machine: Path) -> None:
    assert free_bytes(CPU) == 1000, "another system: there is no file"
    (machine / "cgroup").write_text("0::/user.slice/session\n")
    assert free_bytes(CPU) == 1000, "no controller of memory"
    group(machine / "user.slice" / "session", "max", 400)
    assert free_bytes(CPU) == 1000


@pytest.mark.parametrize(("own", "job", "expected"), [("700", "900", 330), ("max", "900", 400), ("5000", "max", 1000)])
def test_the_tightest_limit_of_a_job_counts(machine: Path, own: str, job: str, expected: int) -> None:
    """A scheduler limits the job, of which this process is in a part; files that are cached can be let go."""
    (machine / "cgroup").write_text("0::/slurm/job_7/step_0\n")
    group(machine / "slurm" / "job_7" / "step_0", own, 400, files=30)
    group(machine / "slurm" / "job_7", job, 500)
    assert free_bytes(CPU) == expected


def test_limits_of_the_first_version(machine: Path) -> None:
    (machine / "cgroup").write_text("12:cpu,cpuacct:/x\n5:memory:/docker/abc\n1:name=systemd:/docker/abc\n")
    group(machine / "memory" / "docker" / "abc", "800", 300, files=10, version=1)
    assert free_bytes(CPU) == 510


def test_a_limit_that_is_passed_leaves_something(machine: Path) -> None:
    (machine / "cgroup").write_text("0::/\n")
    group(machine, "800", 900)
    assert free_bytes(CPU) == 1
