"""The numbers of a round's record, against means over single samples."""

from __future__ import annotations

from statistics import fmean

import pytest

from fedumm.features.report import CacheReport
from fedumm.federation.protocol.messages import ClientUpdate, RoundReply, RoundTask, TensorPayload
from fedumm.federation.server.metrics_records import folded_record, join_caches, round_record
from fedumm.metrics.evaluation import Evaluation

# By client: samples of each task, and their mean losses. What was drawn is few, and so are steps.
ROWS = {"site-1": {"vqa": 3, "t2i": 9}, "site-2": {"vqa": 40}, "site-3": {"vqa": 1, "t2i": 1}}
LOSSES = {"site-1": {"vqa": 2.0, "t2i": 5.0}, "site-2": {"vqa": 0.5}, "site-3": {"vqa": 8.0, "t2i": 7.0}}
STEPS = {"site-1": 50, "site-2": 2, "site-3": 9}
TASK = RoundTask(
    round=4,
    train=True,
    adapter=TensorPayload("values", bytes(100)),
    assignments={},
    change=bytes(20),
    control=TensorPayload("delta", bytes(3)),
)


def samples(client: str) -> list[float]:
    """The loss of every sample."""
    return [LOSSES[client][task] for task, count in ROWS[client].items() for _ in range(count)]


def scores(score: float, count: int) -> dict[str, Evaluation]:
    return {"vqa": Evaluation(score, count, {})}


def updates() -> list[ClientUpdate]:
    return [
        ClientUpdate(
            client=client,
            round=4,
            adapter=bytes(1000),
            untrained=[],
            num_samples=len(samples(client)),
            steps=STEPS[client],
            train_loss=fmean(samples(client)),
            train_losses=LOSSES[client],
            before=scores(0.1 * k, 10 * k),
            after=scores(0.2 * k, 10 * k),
            control=bytes(10 * k),
        )
        for k, client in enumerate(ROWS, start=1)
    ]


def test_losses_are_means_over_samples() -> None:
    """Of all of them, and of each task's; not over clients, and not over steps."""
    record = round_record(TASK, updates(), [1.0], ROWS, 0)
    every = [loss for client in ROWS for loss in samples(client)]
    assert record["train_loss"] == pytest.approx(fmean(every))
    assert record["train_losses"] == pytest.approx(
        {task: fmean([LOSSES[c][task] for c in ROWS for _ in range(ROWS[c].get(task, 0))]) for task in ("vqa", "t2i")}
    )


def test_of_an_update_that_did_not_count_nothing_is_in_the_losses() -> None:
    record = round_record(TASK, updates()[1:2], [1.0], ROWS, 0)
    assert record["train_loss"] == 0.5
    assert record["train_losses"] == {"vqa": 0.5}


def test_scores_bytes_and_seconds_of_a_round() -> None:
    """The adapter goes to each host once, however many clients it has; scores are means over held-out rows."""
    record = round_record(TASK, updates(), [2.0, 5.5], ROWS, 7)
    assert record["clients"] == 3
    assert record["bytes_down"] == 2 * (100 + 20 + 3) + 7
    assert record["bytes_up"] == 3 * 1000 + 10 + 20 + 30
    assert record["seconds_host"] == 5.5
    assert record["heldout_before"] == pytest.approx((0.1 * 10 + 0.2 * 20 + 0.3 * 30) / 60)
    assert record["heldout_after"] == pytest.approx((0.2 * 10 + 0.4 * 20 + 0.6 * 30) / 60)


def test_what_folding_lost_is_the_worst_hosts_and_of_the_round_before() -> None:
    errors = (None, 0.25, float("nan"), 0.5, float("inf"), -1.0)
    replies = [RoundReply([], folding_error=error) for error in errors]
    assert folded_record(TASK, replies) == {"event": "folded", "round": 3, "folding_error": 0.5}
    assert folded_record(TASK, replies[:1]) is None


@pytest.mark.parametrize(
    ("kept", "one_machine", "size", "images"),
    [("disk", True, 500, 7), ("disk", False, 800, 11), ("memory", True, 800, 11), ("memory", False, 800, 11)],
)
def test_hosts_share_what_is_on_the_disk_of_one_machine(kept: str, one_machine: bool, size: int, images: int) -> None:
    reports = [CacheReport("pixels", kept, 500, 7, 5, "", 1), CacheReport("pixels", kept, 300, 4, 2, "slow", 2)]
    assert join_caches(reports, one_machine) == CacheReport("pixels", kept, size, images, 7, "slow", 3)
