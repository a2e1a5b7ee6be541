"""Splitting rows among clients: nothing lost, nothing shared, nobody empty, and the skew that was asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedumm.data.partition import Partitioner
from fedumm.data.partition.dirichlet import Dirichlet
from fedumm.data.partition.iid import Iid
from fedumm.data.partition.split import Partition, split_rows
from fedumm.data.partition.task_share import TaskShare
from fedumm.errors import FedummError


@dataclass(frozen=True)
class Case:
    labels: list[str]
    images: list[str] | None
    clients: int
    alpha: float
    seed: int
    holdout: float
    whole: bool


def names(count: int) -> list[str]:
    return [f"site-{i + 1}" for i in range(count)]


def by_labels(alpha: float) -> Partitioner:
    return Dirichlet(alpha) if alpha else Iid()


def split(case: Case) -> Partition:
    return split_rows(
        case.labels,
        case.images,
        names(case.clients),
        by_labels(case.alpha),
        seed=case.seed,
        holdout=case.holdout,
        keep_images_whole=case.whole,
    )


def image_of(case: Case) -> list[str]:
    return case.images or [str(row) for row in range(len(case.labels))]


def rows_by_client(partition: Partition) -> list[tuple[list[int], list[int]]]:
    return [(share.train.tolist(), share.heldout.tolist()) for share in partition.shares.values()]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    # A power of uniform numbers: a few frequent classes and a tail of rare ones.
    classes = (rng.random(count) ** 3 * draw(st.integers(1, 80))).astype(int)
    kind = draw(st.sampled_from(["none", "shared", "one row each"]))
    images = {
        "none": None,
        "shared": [f"i{n}" for n in rng.integers(0, draw(st.integers(1, 150)), count)],
        "one row each": [f"i{n}" for n in rng.permutation(count)],
    }[kind]
    return Case(
        labels=[f"label {c}" for c in classes],
        images=images,
        clients=draw(st.integers(1, 64)),
        alpha=draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 100.0])),
        seed=draw(st.integers(0, 2**32 - 1)),
        holdout=draw(st.floats(0.01, 0.99)),
        whole=draw(st.booleans()),
    )


def held_out_images(count: int, holdout: float) -> int:
    """The rounded share, but at least one, and never all."""
    return min(max(1, round(holdout * count)), count - 1)


def check_refusal(case: Case) -> None:
    """A refusal is right only if there are fewer training units than clients."""
    per_image = sorted(Counter(image_of(case)).values())
    kept = len(per_image) - held_out_images(len(per_image), case.holdout)
    fewest = kept if case.whole else sum(per_image[:kept])
    assert fewest < case.clients


def check(case: Case) -> None:
    try:
        partition = split(case)
    except FedummError:
        check_refusal(case)
        return
    shares, image = rows_by_client(partition), image_of(case)
    train, held = (sorted(row for share in shares for row in share[part]) for part in (0, 1))
    assert sorted(train + held) == list(range(len(case.labels))), "a row was lost or given twice"
    assert all(mine for mine, _ in shares), "a client has nothing to train on"
    assert all(part == sorted(part) for share in shares for part in share)
    held_images = {image[row] for row in held}
    assert held_images.isdisjoint(image[row] for row in train), "an image is both trained on and held out"
    assert len(held_images) == held_out_images(len(set(image)), case.holdout)
    owners = {(image[row], client) for client, (mine, own) in enumerate(shares) for row in (*mine, *own)}
    held_units = len(held_images) if case.whole else len(held)
    if held_units >= case.clients:
        assert all(own for _, own in shares), "a client has nothing to be evaluated on"
    if case.whole:
        assert len(owners) == len(set(image)), "an image is split between clients"
    if case.alpha == 0 and not case.whole:
        for part in (0, 1):
            sizes = [len(share[part]) for share in shares]
            assert max(sizes) - min(sizes) <= 1


# Found by these tests: with one row an image, an image's label was looked up as if it were a row's.
UNSORTED = Case(
    ["a", "b"] * 50, [f"i{(37 * row) % 100}" for row in range(100)], 40, alpha=0.1, seed=3, holdout=0.3, whole=True
)


@settings(max_examples=250, deadline=None)
@given(cases())
@example(UNSORTED)
def test_every_row_has_one_owner_every_client_can_train_and_no_image_is_on_both_sides(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("alpha", [0.0, 0.01])
@pytest.mark.parametrize("whole", [False, True])
def test_as_many_clients_as_training_units_get_one_each_and_one_more_is_refused(alpha: float, whole: bool) -> None:
    labels, images = ["yes"] * 72, [str(n) for n in range(72)]  # a ninth is held out: 64 to train on
    case = Case(labels, images, 64, alpha, seed=1, holdout=1 / 9, whole=whole)
    assert [len(train) for train, _ in rows_by_client(split(case))] == [1] * 64
    with pytest.raises(
        FedummError, match=f"65 clients are too many for 64 training {'images' if whole else 'samples'}"
    ):
        split(Case(labels, images, 65, alpha, seed=1, holdout=1 / 9, whole=whole))


def test_no_data_are_refused() -> None:
    with pytest.raises(FedummError, match="training data are empty"):
        split(Case([], None, 2, 0.5, seed=0, holdout=0.1, whole=False))


def test_a_single_image_is_trained_on_not_held_out() -> None:
    assert rows_by_client(split(Case(["a", "b"], ["x", "x"], 1, 0.0, seed=0, holdout=0.9, whole=True))) == [
        ([0, 1], [])
    ]


SKEWED = Case(
    labels=[f"label {row % 7}" for row in range(400)],
    images=[f"image {row // 3}" for row in range(400)],
    clients=5,
    alpha=0.5,
    seed=42,
    holdout=0.2,
    whole=False,
)
CHANGES = {
    "seed": {"seed": 43},
    "alpha": {"alpha": 0.4},
    "clients": {"clients": 6},
    "holdout": {"holdout": 0.3},
    "images kept whole": {"whole": True},
}


def test_the_same_arguments_give_the_same_split() -> None:
    """Every host computes the partition by itself: they must agree."""
    assert rows_by_client(split(SKEWED)) == rows_by_client(split(SKEWED))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_each_option_changes_the_split(change: dict[str, object]) -> None:
    changed = Case(**{**vars(SKEWED), **change})  # type: ignore[arg-type]
    assert rows_by_client(split(changed)) != rows_by_client(split(SKEWED))


@pytest.mark.parametrize(("alpha", "method"), [(0.0, "iid"), (0.01, "dirichlet"), (100.0, "dirichlet")])
def test_the_method_is_named(alpha: float, method: str) -> None:
    assert split(Case(**{**vars(SKEWED), "alpha": alpha})).method == method


def test_counts_are_those_of_the_training_rows() -> None:
    partition = split(SKEWED)
    expected: dict[str, dict[str, int]] = {}
    for client, (train, _) in zip(names(5), rows_by_client(partition), strict=True):
        expected[client] = {}
        for row in train:
            label = SKEWED.labels[row]
            expected[client][label] = expected[client].get(label, 0) + 1
    assert partition.counts(SKEWED.labels) == expected
    assert all(list(own) == sorted(own) for own in partition.counts(SKEWED.labels).values())


class TestFingerprint:
    """Hosts with other data, or that split them otherwise, must be found out."""

    def of(self, **change: object) -> str:
        return split(Case(**{**vars(SKEWED), **change})).fingerprint  # type: ignore[arg-type]

    @pytest.mark.parametrize("change", [*CHANGES.values(), {"alpha": 0.0}])
    def test_changes_with_the_split(self, change: dict[str, object]) -> None:
        assert self.of(**change) != self.of()

    def test_is_that_of_equal_splits(self) -> None:
        assert self.of() == self.of()

    def test_changes_with_one_label(self) -> None:
        assert self.of(labels=["other", *SKEWED.labels[1:]]) != self.of()

    def test_changes_with_the_order_of_labels(self) -> None:
        assert self.of(labels=SKEWED.labels[::-1]) != self.of()

    def test_changes_with_the_images(self) -> None:
        assert SKEWED.images is not None
        assert len({self.of(), self.of(images=None), self.of(images=["other", *SKEWED.images[1:]])}) == 3

    def test_label_boundaries_count(self) -> None:
        first, second = (Case(labels, None, 1, 0.0, 0, 0.5, False) for labels in (["ab", "c"], ["a", "bc"]))
        assert split(first).fingerprint != split(second).fingerprint


class TestDirichlet:
    @pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5, 1.0, 5.0])
    def test_shares_have_the_variance_of_the_asked_concentration(self, alpha: float) -> None:
        """E[p^2] = (alpha + 1) / (K (K alpha + 1)), estimated without bias by n (n - 1) / (N (N - 1)).

        Solved for alpha; half or twice the asked one is well outside the tolerance.
        """
        clients, classes, size = 16, 400, 300
        labels = np.repeat(np.arange(classes), size)
        owners, _ = Dirichlet(alpha).owners(labels, labels[:0], clients, np.random.default_rng(7))
        counts = np.bincount(labels * clients + owners, minlength=classes * clients).astype(float)
        second_moment = float(np.mean(counts * (counts - 1)) / (size * (size - 1)))
        estimate = (1 - clients * second_moment) / (clients**2 * second_moment - 1)
        assert estimate == pytest.approx(alpha, rel=0.2)
        assert counts.reshape(classes, clients).mean(0) / size == pytest.approx(np.full(clients, 1 / 16), abs=0.04)

    def test_held_out_units_follow_the_shares_of_the_training_units(self) -> None:
        clients, size = 4, 4000
        labels = np.repeat(np.arange(6), size)
        parts = Dirichlet(0.5).owners(labels, labels, clients, np.random.default_rng(0))
        train, held = (np.bincount(labels * clients + part, minlength=24) / size for part in parts)
        # Standard error of a difference: at most sqrt(2 * 0.25 / 4000) = 0.011.
        assert np.abs(train - held).max() < 0.05
        assert np.ptp(train.reshape(6, clients), axis=1).min() > 0.1, "the shares are not skewed: nothing was tested"

    def test_classes_of_one_unit_are_spread_over_all_clients(self) -> None:
        """Cutting at rounded cumulative shares would give all 1,600 to the last one."""
        singletons = np.arange(1600)
        owners, _ = Dirichlet(1.0).owners(singletons, singletons[:0], 16, np.random.default_rng(0))
        sizes = np.bincount(owners, minlength=16)
        # Binomial(1600, 1/16): mean 100, standard deviation 9.7.
        assert sizes.min() > 60
        assert sizes.max() < 140


def dominant(rows: list[int], shares: list[tuple[list[int], list[int]]]) -> tuple[int, float]:
    """The client with most of the training rows in ``rows``, and its part of them."""
    wanted = set(rows)
    found = [len(wanted.intersection(train)) for train, _ in shares]
    return int(np.argmax(found)), max(found) / sum(found)


class TestRareClasses:
    """Labels with fewer than 2 K rows are one class; at alpha = 0.01 a class goes almost whole to one client."""

    CLIENTS = 8
    COMMON = tuple(f"common {n % 60}" for n in range(60 * 20))  # so that no client is empty, and none repaired

    def owners(self, rare: list[str], seed: int) -> list[tuple[list[int], list[int]]]:
        labels = [*rare, *self.COMMON]
        return rows_by_client(split(Case(labels, None, self.CLIENTS, 0.01, seed, 0.1, False)))

    def test_are_pooled_and_go_to_another_client_each_time(self) -> None:
        rare = [f"rare {n}" for n in range(200)]
        found = [dominant(list(range(200)), self.owners(rare, seed)) for seed in range(24)]
        assert np.median([part for _, part in found]) > 0.9, "one class: its rows stay together"
        receivers = Counter(client for client, _ in found)
        assert len(receivers) >= 5
        assert receivers[self.CLIENTS - 1] < 8, "the last client is no dump"

    @pytest.mark.parametrize(("size", "pooled"), [(15, True), (16, False)])
    def test_are_those_with_fewer_rows_than_two_for_each_client(self, size: int, pooled: bool) -> None:
        rare = ["x"] * size + ["y"] * size
        together = 0
        for seed in range(20):
            shares = self.owners(rare, seed)
            x, y = (dominant(list(range(start, start + size)), shares)[0] for start in (0, size))
            together += x == y
        # One class: the same owner. Two classes: the same owner in one case of eight.
        assert together >= 18 if pooled else together <= 8


class TestImagesKeptWhole:
    @pytest.mark.parametrize("rows_of_image", ["aac", "a"])
    def test_an_image_belongs_to_its_most_frequent_label(self, rows_of_image: str) -> None:
        """Half of the images have ``aac`` (or ``a``), the others ``bbc`` (or ``b``); ids are in no order.

        By their least frequent label all would be one class, and go to one client.
        """
        swap = str.maketrans("ab", "ba")
        order = np.random.default_rng(0).permutation(400)
        image = [f"{n}" for n in order for _ in rows_of_image]
        labels = [label for n in order for label in (rows_of_image if n % 2 else rows_of_image.translate(swap))]
        owners = set()
        for seed in range(5):
            shares = rows_by_client(split(Case(labels, image, 4, 0.001, seed, holdout=0.1, whole=True)))
            for parity in (0, 1):
                mine = [row for row, name in enumerate(image) if int(name) % 2 == parity]
                owner, part = dominant(mine, shares)
                assert part > 0.9
                owners.add((seed, owner))
        assert len(owners) > 5, "both classes always went to the same client"


def test_iid_deals_each_part_evenly_and_at_random() -> None:
    train, held = np.zeros(103, np.int64), np.zeros(10, np.int64)
    first = Iid().owners(train, held, 4, np.random.default_rng(0))
    second = Iid().owners(train, held, 4, np.random.default_rng(1))
    assert np.bincount(first[0]).tolist() == [26, 26, 26, 25]
    assert np.bincount(first[1]).tolist() == [3, 3, 2, 2]
    assert first[0].tolist() != second[0].tolist()
    assert first[0].tolist() != (np.arange(103) % 4).tolist()


class TestTasks:
    """``--partition task:SHARE``: some clients have a single task."""

    TASKS: ClassVar = ["t2i", "vqa"]

    @staticmethod
    def split(
        clients: int, share: float, alpha: float = 0.5, rows: int = 600, seed: int = 0
    ) -> tuple[Partition, list[str]]:
        rng = np.random.default_rng(seed)
        tasks = [str(task) for task in rng.choice(["vqa", "t2i"], rows)]
        labels = [f"{task}-{rng.integers(4)}" for task in tasks]
        images = [str(i // 3) for i in range(rows)]
        partition = split_rows(
            labels,
            images,
            names(clients),
            TaskShare(share, by_labels(alpha)) if share else by_labels(alpha),
            seed=seed,
            holdout=0.2,
            tasks=tasks,
        )
        return partition, tasks

    @given(
        clients=st.integers(2, 12),
        share=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
        alpha=st.sampled_from([0.0, 0.1, 1.0]),
        seed=st.integers(0, 50),
    )
    @settings(deadline=None, max_examples=60)
    def test_the_share_of_clients_has_one_task_in_turn_and_the_others_both(
        self, clients: int, share: float, alpha: float, seed: int
    ) -> None:
        partition, tasks = self.split(clients, share, alpha, seed=seed)
        has = [{tasks[row] for row in own.train} for own in partition.shares.values()]
        single = Counter(next(iter(own)) for own in has if len(own) == 1)
        count = round(share * clients)
        # The first of the two gets the odd one.
        assert (single["t2i"], single["vqa"]) == (-(-count // 2), count // 2)
        for own, allowed in zip(partition.shares.values(), has, strict=True):
            assert {tasks[row] for row in own.heldout} <= allowed, "held-out rows of a task that is not trained"
        every = [row for own in partition.shares.values() for row in (*own.train, *own.heldout)]
        assert sorted(every) == list(range(len(tasks)))

    def test_the_single_ones_are_drawn_at_random(self) -> None:
        single = Counter()
        for seed in range(200):
            partition, tasks = self.split(4, 0.5, 0.0, rows=60, seed=seed)
            single.update(name for name, own in partition.shares.items() if len({tasks[row] for row in own.train}) == 1)
        assert all(70 < single[name] < 130 for name in names(4)), "100 expected, standard deviation 7"

    def test_one_task_is_split_as_if_there_were_no_tasks(self) -> None:
        rng = np.random.default_rng(0)
        labels = [str(label) for label in rng.integers(5, size=200)]
        plain, tasked = (
            split_rows(labels, None, names(4), by_labels(0.3), seed=1, holdout=0.1, tasks=tasks)
            for tasks in (None, ["vqa"] * 200)
        )
        assert plain.fingerprint == tasked.fingerprint

    def test_whole_images_take_their_caption_along(self) -> None:
        tasks = ["vqa", "vqa", "t2i"] * 50
        images = [str(i // 3) for i in range(150)]
        partition = split_rows(
            tasks, images, names(3), by_labels(0.5), seed=1, holdout=0.1, keep_images_whole=True, tasks=tasks
        )
        for own in partition.shares.values():
            counts = Counter(tasks[row] for row in own.train)
            assert counts["vqa"] == 2 * counts["t2i"] > 0

    def test_the_method_says_so(self) -> None:
        assert self.split(4, 0.5)[0].method == "task:0.5 and dirichlet"
        assert self.split(4, 0.0)[0].method == "dirichlet"

    def test_a_task_that_nobody_would_have_is_an_error(self) -> None:
        with pytest.raises(FedummError, match=r"task:1 and dirichlet leaves no client with the task vqa"):
            self.split(1, 1.0)

    def test_more_clients_than_rows_of_a_task_is_an_error(self) -> None:
        tasks = ["vqa"] * 50 + ["t2i"] * 2
        with pytest.raises(FedummError, match=r"4 clients are too many for \d training t2i samples"):
            split_rows(tasks, None, names(4), by_labels(0.0), seed=1, holdout=0.1, tasks=tasks)


@pytest.mark.parametrize(
    ("options", "fingerprint"),
    [
        ({"alpha": 0}, "12afaaddb865aa98"),
        ({"alpha": 0.3}, "e2af6e170af991d3"),
        ({"alpha": 0.3, "whole": True}, "542a57c0c5edc211"),
        ({"alpha": 0.3, "tasks": True}, "e1deeba5579f3e8b"),
        ({"alpha": 0, "share": 0.4, "tasks": True}, "cb08aa08c1c3d135"),
        ({"alpha": 0.3, "share": 0.4, "tasks": True}, "faecab6f7fc57b0b"),
    ],
)
def test_splits_keep_their_bits(options: dict[str, Any], fingerprint: str) -> None:
    """What earlier versions of this program split so: a run that goes on must find the rows that it had."""
    rng = np.random.default_rng(3)
    labels = [f"l{k}" for k in (rng.random(300) ** 3 * 20).astype(int)]
    images = [f"i{k}" for k in rng.integers(0, 120, 300)]
    tasks = [str(task) for task in rng.choice(["vqa", "t2i"], 300)]
    alpha, share = options["alpha"], options.get("share", 0)
    partitioner = TaskShare(share, by_labels(alpha)) if share else by_labels(alpha)
    partition = split_rows(
        labels, images, names(5), partitioner, seed=7, holdout=0.2, keep_images_whole=options.get("whole", False),
        tasks=tasks if options.get("tasks") else None,
    )  # fmt: skip
    assert partition.fingerprint == fingerprint


def test_a_split_is_shown_by_its_sizes() -> None:
    partition = split_rows(["a"] * 1000, None, names(2), Iid(), seed=1, holdout=0.1)
    assert repr(partition) == "Partition(iid, site-1: 450 + 50 held out, site-2: 450 + 50 held out)"
