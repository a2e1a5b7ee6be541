"""Intervals are those of SciPy where it can compute them, and of a plain loop where images have several questions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fedumm.metrics import bootstrap
from fedumm.metrics.bootstrap import estimate


def test_with_one_question_an_image_it_is_scipys() -> None:
    scores = np.random.default_rng(3).choice([0.0, 0.3, 0.6, 1.0], 83)
    ours = estimate(scores.tolist(), range(83), seed=11, resamples=999)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(11)
    ).confidence_interval
    assert ours.mean == pytest.approx(scores.mean(), abs=1e-15)
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_whole_images_are_drawn() -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 30, 200)
    scores, names = rng.random(200), [f"image {n}" for n in images]
    order = list(dict.fromkeys(names))
    draws, means = np.random.default_rng(7), []
    for _ in range(400):
        total = count = 0.0
        for drawn in draws.integers(0, len(order), len(order)):
            own = [score for score, name in zip(scores, names, strict=True) if name == order[drawn]]
            total, count = total + sum(own), count + len(own)
        means.append(total / count)
    found = estimate(scores.tolist(), names, seed=7, resamples=400)
    assert found.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert (found.count, found.groups) == (200, len(order))


def test_copies_of_a_question_add_no_certainty() -> None:
    scores, images = [0.0, 1.0] * 20, list(range(40))
    once = estimate(scores, images, seed=1)
    again = estimate(scores * 5, images * 5, seed=1)
    assert again.interval == pytest.approx(once.interval)
    singly = estimate(scores * 5, range(200), seed=1)
    assert np.ptp(singly.interval) < 0.6 * np.ptp(once.interval), "drawn singly, they seem to"


def test_tasks_count_alike() -> None:
    values, tasks = [1.0] * 9 + [0.0], ["vqa"] * 9 + ["t2i"]
    assert estimate(values, range(10), strata=tasks).mean == 0.5
    shared = estimate([0.2, 0.4, 0.6, 0.8], ["a", "a", "b", "b"], strata=["x", "y", "x", "y"], resamples=50)
    assert shared.interval == pytest.approx((0.3, 0.7))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).random(50).tolist()
    whole = estimate(scores, range(50), seed=2)
    monkeypatch.setattr(bootstrap, "_MOST_DRAWN", 333)
    assert estimate(scores, range(50), seed=2) == whole


def test_of_one_image_nothing_is_said() -> None:
    assert estimate([0.0, 1.0], ["a", "a"]).interval is None
    with pytest.raises(ValueError, match="no value"):
        estimate([], [])
