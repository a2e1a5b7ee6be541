"""The order of samples: each once, tasks in their proportions, batches of one task and a bounded size."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.config import CentralConfig
from fedumm.training.batching import Batch, epoch_steps, evaluation_batches


class Samples:
    """A data set as far as order goes."""

    def __init__(self, tasks: list[str], lengths: list[int] | None = None) -> None:
        self.tasks, self.lengths = tasks, lengths or [10] * len(tasks)

    def __len__(self) -> int:
        return len(self.tasks)


def config(**options: Any) -> CentralConfig:
    return CentralConfig(
        **{"model_backend": "januspro", "task": "unified", "batch_size": 4, "grad_accum": 3, **options}
    )


TASKS = st.lists(st.sampled_from(["vqa", "t2i"]), min_size=1, max_size=120)


@settings(deadline=None)
@given(TASKS, st.integers(0, 99), st.booleans(), st.sampled_from(["5:4", "1:1", "1:7"]))
def test_steps_hold_tasks_in_their_proportions_and_batches_one_task(
    tasks: list[str], seed: int, merge: bool, mix: str
) -> None:
    options = config(task_mix=mix)
    steps = epoch_steps(Samples(tasks), options, merge, seed)
    drawn = [sum(len(batch.rows) for batch in step) for step in steps]
    assert drawn == [12] * (len(tasks) // 12) + [len(tasks) % 12] * (len(tasks) % 12 > 0)
    seen: list[str] = []
    for step in steps:
        for batch in step:
            assert {tasks[row] for row in batch.rows} == {batch.task}
            assert len(batch.rows) <= (12 if merge else 4)
            seen += [batch.task] * len(batch.rows)
        if len(set(tasks)) == 2:
            parts = options.mix
            share = parts["vqa"] / sum(parts.values())
            # After every step, as near to the proportions as whole numbers can be.
            assert abs(seen.count("vqa") - share * len(seen)) <= 1


@settings(deadline=None)
@given(TASKS, st.integers(0, 99))
def test_within_a_task_samples_come_round_evenly(tasks: list[str], seed: int) -> None:
    counts = Counter(row for step in epoch_steps(Samples(tasks), config(), True, seed) for b in step for row in b.rows)
    for task in set(tasks):
        own = [counts[row] for row, name in enumerate(tasks) if name == task]
        assert max(own) - min(own) <= 1
    if len(set(tasks)) == 1:
        assert set(counts.values()) == {1}


def test_a_data_set_without_tasks_is_shuffled_and_cut_and_nothing_else() -> None:
    rows = SimpleNamespace(lengths=list(range(50, 0, -1)), __len__=lambda: 50)
    data: Any = type("Rows", (), {"__len__": lambda self: 50, "lengths": rows.lengths})()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(7)).tolist()
    steps = epoch_steps(data, config(task="vqa"), False, 7)
    assert [row for step in steps for batch in step for row in batch.rows] == order
    assert {len(b.rows) for step in steps[:-1] for b in step} == {4}
    merged = epoch_steps(data, config(task="vqa"), True, 7)
    assert [b.rows for step in merged for b in step] == [order[i : i + 12] for i in range(0, 50, 12)]


def test_merged_batches_hold_a_bounded_number_of_tokens() -> None:
    """600 tokens a sample: 13 fit; of 100 tokens 64 samples do; never fewer than the batch size."""
    options = config(batch_size=4, grad_accum=32)
    lengths = [600] * 64 + [100] * 64
    steps = epoch_steps(Samples(["vqa"] * 64 + ["t2i"] * 64, lengths), options, True, 0)
    for step in steps:
        for batch in step:
            tokens = max(lengths[row] for row in batch.rows) * len(batch.rows)
            assert tokens <= 8192
            assert len(batch.rows) <= 64
    assert {len(b.rows) for s in steps for b in s if b.task == "vqa"} >= {13}
    long = epoch_steps(Samples(["vqa"] * 8, [9000] * 8), config(batch_size=4, grad_accum=2), True, 0)
    assert [len(b.rows) for b in long[0]] == [4, 4]


def test_samples_of_a_length_share_a_batch() -> None:
    lengths = [5, 50, 6, 49, 7, 48]
    (step,) = epoch_steps(Samples(["vqa"] * 6, lengths), config(batch_size=3, grad_accum=2), False, 0)
    assert [sorted(lengths[row] for row in batch.rows) for batch in step] == [[48, 49, 50], [5, 6, 7]]


@settings(deadline=None)
@given(TASKS, st.integers(1, 20))
def test_evaluation_sees_every_sample_once(tasks: list[str], size: int) -> None:
    batches = evaluation_batches(Samples(tasks, [i % 7 + 1 for i in range(len(tasks))]), config(), size)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(tasks)))
    assert all({tasks[row] for row in b.rows} == {b.task} and len(b.rows) <= size for b in batches)
    assert isinstance(batches[0], Batch)


@settings(deadline=None)
@given(TASKS, st.integers(1, 20), st.integers(1, 99), st.integers(1, 8))
def test_evaluation_batches_keep_to_their_tokens(tasks: list[str], most: int, budget: int, answer: int) -> None:
    """Counted padded, and with the longest answer that may be given."""
    data, options = Samples(tasks, [i * i % 31 + 1 for i in range(len(tasks))]), config(max_a_len=answer)
    batches = evaluation_batches(data, options, most, budget)
    assert [row for b in batches for row in b.rows] == [
        row for b in evaluation_batches(data, options, most) for row in b.rows
    ]
    for batch in batches:
        longest = max(data.lengths[row] for row in batch.rows) + answer
        assert len(batch.rows) == 1 or len(batch.rows) * longest <= budget
        assert len(batch.rows) <= most
    bare: Any = type("Rows", (), {"__len__": lambda self: 50})()
    assert [len(b.rows) for b in evaluation_batches(bare, config(task="vqa"), 20, 1)] == [20, 20, 10]
