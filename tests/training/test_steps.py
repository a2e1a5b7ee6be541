"""A training step whose memory runs out, simulated: begun again in halves, with the gradient of the whole."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from fedumm.training import steps
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.trainer import merging, train_epochs

CPU, WIDTH = torch.device("cpu"), 5
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """The libraries' objects need not be looked at each time."""
    gc.freeze()
    yield
    gc.unfreeze()


class Rows(torch.utils.data.Dataset[int]):
    cached = False

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> int:
        return row


class Net(torch.nn.Module):
    """Two layers, of which the last one's gradient is there before the first one's is made."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = torch.nn.Linear(WIDTH, WIDTH).double(), torch.nn.Linear(WIDTH, 1).double()
        self.dropout = torch.nn.Dropout(dropout)


@dataclass
class Mean:
    """Mean squares of random numbers that each row has; memory for ``room`` of them in the pass ``fails``."""

    room: int = 999
    fails: str = "forward"
    loss_is_sample_mean: bool = True
    error: type[RuntimeError] = torch.OutOfMemoryError
    asked: list[list[int]] = field(default_factory=list)

    def collate_fn(self, rows: list[int]) -> list[int]:
        return rows

    def train_step(self, model: Net, rows: list[int], device: torch.device) -> torch.Tensor:
        self.asked.append(rows)
        numbers = [
            torch.randn(WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(row)) for row in rows
        ]
        hidden = model.dropout(model.first(torch.stack(numbers)).tanh())

        def full(*_: Any) -> None:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.")

        if len(rows) > self.room:
            hidden.register_hook(full) if self.fails == "backward" else full()
        return model.last(hidden).square().mean()


def config(**options: Any) -> CentralConfig:
    return CentralConfig(**{"model_backend": "mine", "lr": 1e-2, "merge_batches": "off", **options})


@dataclass
class Run:
    """A training run: gradients of each step, what was said, the last weights."""

    backend: Any
    dropout: float = 0.0
    limits: dict[str, int] = field(default_factory=dict)

    def __call__(self, rows: int, options: CentralConfig, epochs: int = 1) -> Run:
        self.said: list[str] = []
        self.gradients: list[torch.Tensor] = []
        self.model = Net(self.dropout)
        self.backbone = Backbone(self.backend, self.model, None, CPU, say=self.said.append, limits=self.limits)

        def keep() -> None:
            self.gradients.append(torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]))

        self.result = train_epochs(self.backbone, Rows(rows), options, epochs, 7, hooks=[keep])
        return self


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 60), st.integers(1, 12), st.integers(1, 4), st.integers(1, 12),
    st.sampled_from(["forward", "backward"]), st.sampled_from(["on", "off"]),
)  # fmt: skip
def test_gradients_and_losses_are_those_of_whole_batches(
    rows: int, size: int, accumulate: int, room: int, fails: str, merge: str
) -> None:
    options = config(batch_size=size, grad_accum=accumulate, merge_batches=merge)
    whole, cut = Run(Mean())(rows, options, 2), Run(Mean(room, fails))(rows, options, 2)
    assert len(cut.gradients) == len(whole.gradients) == cut.result.steps
    for expected, got in zip(whole.gradients, cut.gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert cut.result.loss == pytest.approx(whole.result.loss, rel=1e-9)
    assert cut.result.losses == {"vqa": pytest.approx(whole.result.loss, rel=1e-9)}
    # Once a size is known to be too large, it is not asked for again.
    sizes = [len(batch) for batch in cut.backend.asked]
    too_large = [size for size in sizes if size > room]
    assert too_large == sorted(set(too_large), reverse=True)
    assert len(cut.said) == len(too_large)


def test_it_is_said_with_the_options_that_make_the_same_step() -> None:
    cut = Run(Mean(10))(64, config(batch_size=16, grad_accum=2))
    assert cut.said == [
        "Out of memory on cpu, training (vqa) 16 at a time: going on with 8 at a time. --batch_size 8 --grad_accum 4 "
        "--merge_batches off avoids the failed attempt."
    ]
    assert [len(batch) for batch in cut.backend.asked] == [16, *[8] * 8]
    assert cut.backbone.limits == {"training (vqa)": 8}, "scoring has a limit of its own"


@pytest.mark.parametrize("fails", ["forward", "backward"])
def test_random_numbers_are_those_the_step_began_with(fails: str) -> None:
    """So a run whose first step fails has the bits of one that knew the limit before."""
    options = config(batch_size=16, grad_accum=2)
    failed = Run(Mean(10, fails), dropout=0.5)(64, options, 2)
    knew = Run(Mean(10, fails), dropout=0.5, limits={"training (vqa)": 8})(64, options, 2)
    assert failed.said
    assert not knew.said
    for name, weight in knew.model.state_dict().items():
        assert torch.equal(failed.model.state_dict()[name], weight), name
    assert failed.result.loss == knew.result.loss


def test_a_step_in_the_middle_fails_without_a_trace() -> None:
    """What came before it counts once, and the rest of the epoch comes in order."""

    class Later(Mean):
        def train_step(self, model: Net, rows: list[int], device: torch.device) -> torch.Tensor:
            self.room = 4 if len(self.asked) >= 5 else 999
            return super().train_step(model, rows, device)

    options = config(batch_size=8, grad_accum=2)
    whole, cut = Run(Mean())(48, options), Run(Later())(48, options)
    assert [len(batch) for batch in cut.backend.asked] == [8] * 6 + [4] * 4
    assert cut.backend.asked[5] == whole.backend.asked[5]
    again = [row for batch in cut.backend.asked[6:] for row in batch]
    assert again == [row for batch in whole.backend.asked[4:] for row in batch], "from the step's beginning"
    for expected, got in zip(whole.gradients, cut.gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_no_mean_over_samples_is_not_cut() -> None:
    with pytest.raises(FedummError, match=r"'mine' does not say that it is a mean .* --batch_size 4 --grad_accum 6"):
        Run(Mean(4, loss_is_sample_mean=False))(16, config(batch_size=8, grad_accum=3))


def test_one_sample_that_does_not_fit_is_a_clear_error() -> None:
    run = Run(Mean(0))
    with pytest.raises(FedummError, match=r"training \(vqa\) does not fit, not even one at a time"):
        run(16, config(batch_size=8))
    assert all(p.grad is None for p in run.model.parameters()), "nothing is left for the next client"


def test_other_errors_are_not_taken_for_it() -> None:
    class Wrong(Mean):
        def train_step(self, *_: Any) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Run(Wrong())(8, config())


def trained(monkeypatch: pytest.MonkeyPatch, free: Callable[..., int], **options: Any) -> tuple[Backbone, list[str]]:
    """A small model after an epoch on a CPU with so much free memory."""
    monkeypatch.setattr(steps, "free_bytes", free)
    given = {"model_name_or_path": "tiny", "lora_dropout": 0.0, "batch_size": 8, "grad_accum": 4, "lr": 1e-4}
    options = CentralConfig(**{**given, **options})
    mix = dict.fromkeys(options.tasks, 1)
    rows = load_data("shapes", DataRequest(columns=COLUMNS, mix=mix, max_train_samples=32, max_eval_samples=4)).train
    backbone, said = load_backbone(options, CPU), list[str]()
    backbone.say = said.append
    train_epochs(backbone, backbone.backend.build_dataset(rows, backbone.processor, 64, 16), options, 1, 3)
    return backbone, said


@pytest.mark.parametrize(
    ("options", "memory", "works"),
    [
        ({"model_backend": "blip_vqa"}, 8_000_000, ["training (vqa)"]),
        ({"model_backend": "januspro", "task": "unified"}, 30_000_000, ["training (t2i)", "training (vqa)"]),
    ],
    ids=["blip_vqa", "januspro"],
)
def test_on_a_cpu_batches_keep_to_a_budget(
    options: dict[str, Any], memory: int, works: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the kernel ends the process: a third of the free memory may be kept for the backward pass."""
    free, silent = trained(monkeypatch, lambda _: 2**40, **options)
    assert silent == []
    tight, said = trained(monkeypatch, lambda _: memory, **options)
    assert sorted(tight.limits) == works
    assert all(1 < limit <= 16 for limit in tight.limits.values())
    assert all(line.startswith("Out of memory on cpu, training (") for line in said)
    for name, tensor in free.adapter().items():
        torch.testing.assert_close(tight.adapter()[name], tensor, rtol=0, atol=2e-5)
    with pytest.raises(FedummError, match="does not fit, not even one at a time"):
        trained(monkeypatch, lambda _: memory // 1000, **options)


def test_memory_is_looked_at_for_batches_larger_than_any_before(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[torch.device] = []
    trained(monkeypatch, lambda device: looked.append(device) or 2**40, model_backend="blip_vqa", grad_accum=1)
    assert 1 <= len(looked) < 4, "of four batches of about one size"


def test_watching_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = trained(monkeypatch, lambda _: 2**40, model_backend="blip_vqa", lora_dropout=0.2)
    monkeypatch.setattr(steps, "keeps_within", None)
    monkeypatch.setattr(steps.Steps, "_watched", lambda *_: steps.nullcontext())
    unwatched, _ = trained(monkeypatch, lambda _: 0, model_backend="blip_vqa", lora_dropout=0.2)
    for name, tensor in unwatched.adapter().items():
        assert torch.equal(plain.adapter()[name], tensor)


@pytest.mark.parametrize(
    ("option", "mean", "memory", "expected"),
    [
        ("auto", True, 0, 1), ("on", True, 0, 1), ("off", True, 0, 0), ("auto", False, 0, 0), ("on", False, 0, 0),
        ("auto", True, 8 * 10**9, 1), ("auto", True, 85 * 10**9, 4), ("on", True, 85 * 10**9, 1),
        ("off", True, 85 * 10**9, 0), ("auto", False, 85 * 10**9, 0),
    ],
)  # fmt: skip
def test_what_is_merged(option: str, mean: bool, memory: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, where no GPU's memory is found, batches of the same size as ever."""
    monkeypatch.setattr("fedumm.training.trainer.gpu_bytes", lambda _: memory)
    backbone = Backbone(Mean(loss_is_sample_mean=mean), Net(0.0), None, CPU)  # type: ignore[arg-type]
    assert merging(backbone, config(merge_batches=option)) == expected
