"""From labels to each client's rows: hold out, pool rare classes, partition, repair."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedumm.data.partition.dirichlet import Dirichlet
from fedumm.data.partition.iid import Iid
from fedumm.errors import FedummError

Ints = NDArray[np.int64]
RARE = "(rare)"


class Partitioner(Protocol):
    """Decides which client owns each unit (a row, or an image with all its rows)."""

    name: str

    def owners(self, train: Ints, held: Ints, num_clients: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The client of each training and of each held-out unit, given their classes."""
        ...


@dataclass(frozen=True)
class ClientShare:
    """One client's rows of the data set, ascending: to train on, and held out."""

    train: Ints
    heldout: Ints


@dataclass(frozen=True)
class Partition:
    """Who has which rows, and how that was decided.

    ``fingerprint`` is a digest of labels, image ids and who got what: equal on every host that
    computed the same partition of the same data.
    """

    method: str
    shares: dict[str, ClientShare]
    fingerprint: str

    def counts(self, labels: Sequence[str]) -> dict[str, dict[str, int]]:
        """Training rows of each client by label."""
        return {
            client: dict(sorted(Counter(labels[row] for row in share.train).items()))
            for client, share in self.shares.items()
        }


def partitioner_for(alpha: float) -> Partitioner:
    """``iid`` for 0, else ``dirichlet``."""
    return Dirichlet(alpha) if alpha > 0 else Iid()


def split_rows(
    labels: Sequence[str],
    images: Sequence[str] | None,
    clients: Sequence[str],
    *,
    alpha: float,
    seed: int,
    holdout: float,
    keep_images_whole: bool = False,
    tasks: Sequence[str] | None = None,
    task_share: float = 0.0,
) -> Partition:
    """Split rows ``0 .. len(labels) - 1`` among ``clients``.

    Every row belongs to exactly one client, to train on or held out; every client has at least
    one training row. All rows of an image are held out, or none, over all clients: no client is
    evaluated on an image that another one has trained on.

    Args:
        labels: class of each row.
        images: image id of each row; None: every row counts as an image of its own.
        clients: names, in order.
        alpha: Dirichlet concentration; 0 is IID.
        seed: fixes the split.
        holdout: share of images held out, in (0, 1).
        keep_images_whole: an image's rows all go to one client.
        tasks: task of each row. Each task is then split by itself, and a client that has it has at least
            one training row of it.
        task_share: share of the clients, drawn at random, that have a single task: the first one of
            ``tasks`` in alphabetical order, the second one, and so on in turn.

    Raises:
        FedummError: more clients than training units, or nothing to split.
    """
    if not len(labels):
        raise FedummError("The training data are empty: there is nothing to split among clients.")
    rng = np.random.default_rng([seed, len(labels), len(clients)])
    image_of = _codes([str(i) for i in range(len(labels))] if images is None else images)
    held_image = _hold_out(int(image_of.max()) + 1, holdout, rng)
    unit_of = image_of if keep_images_whole else np.arange(len(labels))
    unit_label, unit_held = _units(unit_of, _codes(_pool_rare(labels, 2 * len(clients))), held_image[image_of])
    partitioner = partitioner_for(alpha)
    owner = np.empty(len(unit_label), np.int64)
    # Whole images have rows of all tasks.
    unit_task = None if keep_images_whole else tasks
    for name, members, eligible in _groups(unit_task, len(unit_label), len(clients), task_share, rng):
        train, held = members & ~unit_held, members & unit_held
        what = "images" if keep_images_whole else f"{name} samples".strip()
        _check_enough(int(train.sum()), len(eligible), what)
        parts = partitioner.owners(unit_label[train], unit_label[held], len(eligible), rng)
        for mask, owned in zip((train, held), parts, strict=True):
            owner[mask] = eligible[_repair(owned, len(eligible), rng)]
    row_owner, row_held = owner[unit_of], held_image[image_of]
    shares = {
        name: ClientShare(np.flatnonzero((row_owner == k) & ~row_held), np.flatnonzero((row_owner == k) & row_held))
        for k, name in enumerate(clients)
    }
    method = f"task:{task_share:g} and {partitioner.name}" if task_share else partitioner.name
    return Partition(method, shares, _fingerprint(labels, images, [*row_owner, *row_held]))


def _codes(names: Sequence[str]) -> Ints:
    """Each name's place among the sorted distinct names."""
    return np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _pool_rare(labels: Sequence[str], at_least: int) -> list[str]:
    """Labels with fewer than ``at_least`` rows become one class."""
    counts = Counter(labels)
    return [label if counts[label] >= at_least else RARE for label in labels]


def _hold_out(num_images: int, holdout: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which images are held out: the rounded share, but at least one, and never all."""
    count = min(max(1, round(holdout * num_images)), num_images - 1)
    held = np.zeros(num_images, bool)
    held[rng.permutation(num_images)[:count]] = True
    return held


def _units(unit_of: Ints, label: Ints, held: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.bool_]]:
    """Class (its rows' most frequent) and held-out flag of each unit."""
    pairs, rows = np.unique(np.stack([unit_of, label]), axis=1, return_counts=True)
    by_frequency = np.lexsort((pairs[1], -rows, pairs[0]))
    units, first = np.unique(pairs[0][by_frequency], return_index=True)
    unit_held = np.zeros(len(units), bool)
    unit_held[unit_of] = held
    return pairs[1][by_frequency][first], unit_held


def _groups(
    tasks: Sequence[str] | None, units: int, num_clients: int, share: float, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.bool_], Ints]]:
    """Units that are split by themselves, and the clients that they are split among; without tasks all among all."""
    if tasks is None:
        yield "", np.ones(units, bool), np.arange(num_clients)
        return
    names, has = sorted(set(tasks)), np.ones((len(set(tasks)), num_clients), bool)
    order: Sequence[int] = rng.permutation(num_clients).tolist() if share else []
    for place, client in enumerate(order[: round(share * num_clients)]):
        has[:, client] = False
        has[place % len(names), client] = True
    for name, own in zip(names, has, strict=True):
        if not own.any():
            raise FedummError(f"--partition task:{share:g} leaves no client with the task {name}: use more clients.")
        yield name, np.asarray(tasks) == name, np.flatnonzero(own)


def _check_enough(units: int, clients: int, what: str) -> None:
    if units < clients:
        raise FedummError(
            f"{clients} clients are too many for {units} training {what}: every client needs one. "
            "Lower --num_clients, or raise --max_train_samples."
        )


def _repair(owner: Ints, num_clients: int, rng: np.random.Generator) -> Ints:
    """Give each client without a unit one of the largest client's, as far as there are enough."""
    sizes = np.bincount(owner, minlength=num_clients)
    for client in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        if sizes[largest] < 2:
            break
        moved = rng.choice(np.flatnonzero(owner == largest))
        owner[moved] = client
        sizes[largest] -= 1
        sizes[client] += 1
    return owner


def _fingerprint(labels: Sequence[Any], images: Sequence[Any] | None, split: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for column in (labels, images or (), split):
        digest.update("\0".join(map(str, column)).encode() + b"\1")
    return digest.hexdigest()[:16]
