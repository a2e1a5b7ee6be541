"""What happens when memory runs out, simulated: nothing is lost, scored twice, or kept alive, and it is said once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedumm.backends.protocol import SampleScore
from fedumm.config import CentralConfig
from fedumm.errors import FedummError
from fedumm.training.backbone import Backbone
from fedumm.training.evaluation import evaluate
from fedumm.training.fitting import CACHE_BYTES, fitting
from fedumm.training.generation_eval import MOST_IMAGES, drawn

CPU = torch.device("cpu")
ALLOCATORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """The libraries' objects need not be looked at each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def config(**options: Any) -> CentralConfig:
    return CentralConfig(**{"model_backend": "januspro", "task": "unified", "eval_batch_size": 16, **options})


class Rows(torch.utils.data.Dataset[int]):
    """Sample i is i."""

    def __init__(self, tasks: Sequence[str], lengths: Sequence[int] | None = None) -> None:
        self.tasks, self.lengths, self.cached = tasks, lengths or [1] * len(tasks), False

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, row: int) -> int:
        return row


@dataclass
class Whole:
    """The protocol's methods only, as far as scoring goes; it holds ``room`` samples. Sample i scores 0.1 i."""

    room: int
    error: RuntimeError = field(default_factory=lambda: ALLOCATORS[0])
    asked: list[list[int]] = field(default_factory=list)

    def collate_fn(self, batch: list[int]) -> list[int]:
        return batch

    def train_step(self, *_: Any) -> torch.Tensor:
        raise NotImplementedError

    def _take(self, batch: list[int]) -> None:
        self.asked.append(batch)
        if len(batch) > self.room:
            raise type(self.error)(*self.error.args)

    def evaluate(self, model: Any, dataloader: Any, processor: Any, device: torch.device) -> float:
        rows: list[int] = []
        for batch in dataloader:
            self._take(batch)
            rows += batch
        return sum(0.1 * row for row in rows) / len(rows)

    def draw(
        self, model: Any, processor: Any, captions: Sequence[str], seeds: Sequence[int], device: torch.device, *,
        guidance: float | None = None, temperature: float = 1.0,
    ) -> list[Image.Image]:  # fmt: skip
        self._take(list(seeds))
        return [Image.new("L", (1, 1), seed) for seed in seeds]


class Each(Whole):
    """Scores samples, each in a part of its own."""

    def score_batch(self, model: Any, batch: list[int], processor: Any, device: torch.device) -> list[SampleScore]:
        self._take(batch)
        return [SampleScore(0.1 * row, str(row)) for row in batch]


class Counted(Each):
    """Knows what a token takes: an image to draw a hundredth of what keys and values may take."""

    def token_bytes(self, model: Any) -> int:
        return CACHE_BYTES // 100

    def drawn_tokens(self, model: Any, processor: Any, captions: Sequence[str], guidance: float | None) -> list[int]:
        return [int(caption) * (1 if guidance == 1 else 2) for caption in captions]


def backbone_of(backend: Any) -> tuple[Backbone, list[str]]:
    """A backbone, and what it says."""
    said: list[str] = []
    return Backbone(backend, torch.nn.Linear(1, 1), None, CPU, say=said.append), said


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 20), st.integers(1, 300))
def test_a_batch_is_as_large_as_fits_and_no_larger(tokens: list[int], most: int, budget: int) -> None:
    count = fitting(tokens, most, budget)

    def fits(n: int) -> bool:
        return n <= min(most, len(tokens)) and (n == 1 or n * max(tokens[:n]) <= budget)

    assert count == next(n for n in range(len(tokens), 0, -1) if all(fits(k) for k in range(1, n + 1)))
    assert fitting(tokens, most, None) == min(most, len(tokens))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["vqa", "t2i"]), st.integers(1, 9)), min_size=1, max_size=60), st.data())
def test_each_sample_is_scored_once_in_order_whatever_fits(samples: list[tuple[str, int]], data: Any) -> None:
    rows = Rows([task for task, _ in samples], [length for _, length in samples])
    room = data.draw(st.integers(1, 16))
    (free, silent), (tight, said) = backbone_of(Each(999)), backbone_of(Each(room))
    expected, scores = evaluate(free, rows, config()), evaluate(tight, rows, config())
    assert scores == expected, "to the last bit: the same scores, summed in the same order"
    assert sum(e.count for e in scores.values()) == len(rows)
    assert all(count == 1 for e in scores.values() for _, count in e.parts.values())
    assert not silent
    # It is not run into again.
    attempts = len(tight.backend.asked)  # type: ignore[attr-defined]
    assert evaluate(tight, rows, config()) == expected
    again = tight.backend.asked[attempts:]  # type: ignore[attr-defined]
    assert max(map(len, again)) <= room
    assert sorted(row for batch in again for row in batch) == list(range(len(rows)))
    assert len(said) == len(set(said))


@pytest.mark.parametrize("error", ALLOCATORS, ids=lambda e: str(e)[:12])
def test_it_is_said_with_the_option_that_avoids_it(error: RuntimeError) -> None:
    backbone, said = backbone_of(Each(4, error))
    evaluate(backbone, Rows(["vqa"] * 40), config())
    assert said == [
        "Out of memory on cpu, answering questions 16 at a time: going on with 8 at a time. --eval_batch_size 8 "
        "avoids the failed attempt.",
        "Out of memory on cpu, answering questions 8 at a time: going on with 4 at a time. --eval_batch_size 4 "
        "avoids the failed attempt.",
    ]
    assert [len(batch) for batch in backbone.backend.asked] == [16, 8, *[4] * 10]  # type: ignore[attr-defined]


def test_a_backend_that_scores_all_at_once_is_asked_again() -> None:
    (free, _), (tight, said) = backbone_of(Whole(999)), backbone_of(Whole(5))
    rows = Rows(["vqa"] * 37)
    assert evaluate(tight, rows, config()) == evaluate(free, rows, config())
    assert [line.split(":")[0][-20:] for line in said] == ["estions 16 at a time", "questions 8 at a time"[-20:]]
    assert tight.limits == {"vqa": 4}


@pytest.mark.parametrize("backend", [Whole, Each])
def test_one_sample_that_does_not_fit_is_a_clear_error(backend: type[Whole]) -> None:
    with pytest.raises(FedummError, match="answering questions does not fit, not even one at a time"):
        evaluate(backbone_of(backend(0))[0], Rows(["vqa"] * 5), config())
    with pytest.raises(FedummError, match="drawing images does not fit, not even one at a time"):
        list(drawn(backbone_of(backend(0))[0], ["1"], [1]))


@pytest.mark.parametrize("backend", [Whole, Each])
def test_other_errors_are_not_taken_for_it(backend: type[Whole]) -> None:
    backbone, said = backbone_of(backend(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate(backbone, Rows(["vqa"] * 5), config())
    with pytest.raises(RuntimeError, match="shapes"):
        list(drawn(backbone, ["1"] * 5, range(5)))
    assert not said


@pytest.mark.parametrize("backend", [Whole, Each])
@pytest.mark.parametrize(
    "work",
    [lambda b: evaluate(b, Rows(["vqa"] * 16), config()), lambda b: list(drawn(b, ["1"] * 16, range(16)))],
    ids=["evaluate", "draw"],
)
def test_what_the_failed_batch_held_is_free_before_the_next(
    backend: type[Whole], work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    freed: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(all(ref() is None for ref in held)))

    class Heavy(backend):  # type: ignore[misc, valid-type]
        def _take(self, batch: list[int]) -> None:
            keys = torch.zeros(len(batch), 1000)
            cycle: list[Any] = [keys]
            cycle.append(cycle)
            held.append(weakref.ref(keys))
            super()._take(batch)

    work(backbone_of(Heavy(4))[0])
    assert freed == [True, True], "tensors of the failed attempts are gone when the GPU's cache is emptied"


def test_images_are_drawn_in_order_as_many_as_fit() -> None:
    backbone, said = backbone_of(Each(5))
    images = list(drawn(backbone, ["1"] * 40, range(40), option="--batch_size"))
    assert [image.getpixel((0, 0)) for image in images] == list(range(40))
    assert said == [
        f"Out of memory on cpu, drawing images {n} at a time: going on with {n // 2} at a time. --batch_size {n // 2} "
        "avoids the failed attempt."
        for n in (16, 8)
    ]
    assert [len(b) for b in backbone.backend.asked] == [16, 8, *[4] * 10]  # type: ignore[attr-defined]
    assert list(backbone.limits) == ["geneval"], "answering has a limit of its own"


def test_images_are_drawn_by_tokens_unless_their_number_is_given() -> None:
    captions = ["4", "5", "2", "2", "2", "60", "1", "1"]
    for guidance, size, expected in ((None, 0, [5, 1, 2]), (1.0, 0, [5, 1, 2]), (None, 3, [3, 3, 2])):
        backbone, _ = backbone_of(Counted(999))
        list(drawn(backbone, captions, range(8), size, guidance=guidance))
        assert [len(b) for b in backbone.backend.asked] == expected  # type: ignore[attr-defined]
    backbone, _ = backbone_of(Counted(999))
    list(drawn(backbone, ["4"] * 40, range(40)))
    assert [len(b) for b in backbone.backend.asked] == [12, 12, 12, 4]  # type: ignore[attr-defined]
    backbone, _ = backbone_of(Counted(999))
    list(drawn(backbone, ["1"] * 40, range(40)))
    assert [len(b) for b in backbone.backend.asked] == [MOST_IMAGES, MOST_IMAGES, 8]  # type: ignore[attr-defined]


def test_evaluation_counts_tokens_unless_the_batch_size_is_given() -> None:
    rows = Rows(["vqa"] * 30, [9] * 30)
    options = {"batch_size": 4, "max_a_len": 1}
    for size, expected in ((0, [10, 10, 10]), (25, [25, 5])):
        backbone, _ = backbone_of(Counted(999))
        evaluate(backbone, rows, config(**options, eval_batch_size=size))
        assert [len(b) for b in backbone.backend.asked] == expected  # type: ignore[attr-defined]
    backbone, _ = backbone_of(Each(999))
    evaluate(backbone, rows, config(**options, eval_batch_size=0))
    assert [len(b) for b in backbone.backend.asked] == [30], "8 x 4, and no tokens to count"  # type: ignore[attr-defined]


def test_a_batch_of_wrong_scores_is_refused() -> None:
    class Short(Each):
        def score_batch(self, *args: Any) -> list[SampleScore]:
            return super().score_batch(*args)[1:]

    with pytest.raises(FedummError, match="score_batch gave 4 scores for 5 samples"):
        evaluate(backbone_of(Short(999))[0], Rows(["vqa"] * 5), config())
