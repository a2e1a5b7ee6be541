"""From labels to each client's rows: hold out, pool rare classes, partition, repair."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedumm.data.partition.base import Ints, Mask, Partitioner
from fedumm.errors import FedummError

RARE = "(rare)"


@dataclass(frozen=True)
class ClientShare:
    """One client's rows of the data set, ascending: to train on, and held out."""

    train: Ints
    heldout: Ints

    def __repr__(self) -> str:
        return f"{len(self.train):,} + {len(self.heldout):,} held out"


@dataclass(frozen=True)
class Partition:
    """Who has which rows, and how that was decided.

    ``fingerprint`` is a digest of labels, image ids and who got what: equal on every host that
    computed the same partition of the same data.
    """

    method: str
    shares: dict[str, ClientShare]
    fingerprint: str

    def __repr__(self) -> str:
        """The sizes: the rows themselves are thousands of numbers."""
        sizes = ", ".join(f"{client}: {share!r}" for client, share in self.shares.items())
        return f"Partition({self.method}, {sizes})"

    def counts(self, labels: Sequence[str]) -> dict[str, dict[str, int]]:
        """Training rows of each client by label."""
        return {
            client: dict(sorted(Counter(labels[row] for row in share.train).items()))
            for client, share in self.shares.items()
        }


def split_rows(
    labels: Sequence[str],
    images: Sequence[str] | None,
    clients: Sequence[str],
    partitioner: Partitioner,
    *,
    seed: int,
    holdout: float,
    keep_images_whole: bool = False,
    tasks: Sequence[str] | None = None,
) -> Partition:
    """Split rows ``0 .. len(labels) - 1`` among ``clients``.

    Every row belongs to exactly one client, to train on or held out; every client has at least
    one training row. All rows of an image are held out, or none, over all clients: no client is
    evaluated on an image that another one has trained on.

    Args:
        labels: class of each row.
        images: image id of each row; None: every row counts as an image of its own.
        clients: names, in order.
        partitioner: says whose each row is.
        seed: fixes the split.
        holdout: share of images held out, in (0, 1).
        keep_images_whole: an image's rows all go to one client.
        tasks: task of each row. Each task is then split by itself, and a client that has it has at least
            one training row of it.

    Raises:
        FedummError: more clients than training units, or nothing to split.
    """
    if not len(labels):
        raise FedummError("The training data are empty: there is nothing to split among clients.")
    rng = np.random.default_rng([seed, len(labels), len(clients)])
    image_of = _codes([str(i) for i in range(len(labels))] if images is None else images)
    row_held = _hold_out(int(image_of.max()) + 1, holdout, rng)[image_of]
    unit_of = image_of if keep_images_whole else np.arange(len(labels))
    label, held = _units(unit_of, _codes(_pool_rare(labels, 2 * len(clients))), row_held)
    # Whole images have rows of all tasks.
    groups = _groups(None if keep_images_whole else tasks, len(label), len(clients), partitioner, rng)
    owner = np.empty(len(label), np.int64)
    for name, members, eligible in groups:
        what = "images" if keep_images_whole else f"{name} samples".strip()
        owner[members] = eligible[_owners(label[members], held[members], len(eligible), what, partitioner, rng)]
    shares = _shares(owner[unit_of], row_held, clients)
    return Partition(partitioner.description, shares, _fingerprint(labels, images, [*owner[unit_of], *row_held]))


def hold_out(images: Sequence[str] | None, count: int, *, seed: int, holdout: float) -> ClientShare:
    """Rows ``0 .. count - 1`` in one place: those to train on, and those held out, of whole images.

    They are those that :func:`split_rows` holds out of a single client's rows.

    Args:
        images, seed: as there.
        holdout: share of images held out, in [0, 1); 0: none.

    Raises:
        FedummError: there is a single image, so that nothing can be held out.
    """
    if not holdout:
        return ClientShare(np.arange(count), np.arange(0))
    image_of = _codes([str(i) for i in range(count)] if images is None else images)
    rng = np.random.default_rng([seed, count, 1])
    held = _hold_out(int(image_of.max()) + 1, holdout, rng)[image_of] if count else np.zeros(0, bool)
    if not held.any():
        raise FedummError("--holdout: the training data are of one image, so nothing can be held out. Leave it out.")
    return ClientShare(np.flatnonzero(~held), np.flatnonzero(held))


def _owners(
    label: Ints, held: Mask, num_clients: int, what: str, partitioner: Partitioner, rng: np.random.Generator
) -> Ints:
    """The client of each unit of one group, training and held-out ones each repaired by themselves."""
    if (training := int((~held).sum())) < num_clients:
        raise FedummError(
            f"{num_clients} clients are too many for {training} training {what}: every client needs one. "
            "Lower --num_clients, or raise --max_train_samples."
        )
    owner = np.empty(len(label), np.int64)
    parts = partitioner.owners(label[~held], label[held], num_clients, rng)
    for units, owned in zip((~held, held), parts, strict=True):
        _check_owners(owned, int(units.sum()), num_clients, partitioner)
        owner[units] = _repair(owned, num_clients, rng)
    return owner


def _check_owners(owned: Ints, count: int, num_clients: int, partitioner: Partitioner) -> None:
    good = isinstance(owned, np.ndarray) and owned.shape == (count,) and np.issubdtype(owned.dtype, np.integer)
    if not good or not ((owned >= 0) & (owned < num_clients)).all():
        raise FedummError(
            f"The partitioner {partitioner.name!r} must give an array of {count} whole numbers from 0 to "
            f"{num_clients - 1}, a client for each unit."
        )


def _shares(owner: Ints, held: Mask, clients: Sequence[str]) -> dict[str, ClientShare]:
    """Each client's rows, given the place of each row's client."""
    return {
        name: ClientShare(np.flatnonzero((owner == k) & ~held), np.flatnonzero((owner == k) & held))
        for k, name in enumerate(clients)
    }


def _codes(names: Sequence[str]) -> Ints:
    """Each name's place among the sorted distinct names."""
    return np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _pool_rare(labels: Sequence[str], at_least: int) -> list[str]:
    """Labels with fewer than ``at_least`` rows become one class."""
    counts = Counter(labels)
    return [label if counts[label] >= at_least else RARE for label in labels]


def _hold_out(num_images: int, holdout: float, rng: np.random.Generator) -> Mask:
    """Which images are held out: the rounded share, but at least one, and never all."""
    count = min(max(1, round(holdout * num_images)), num_images - 1)
    held = np.zeros(num_images, bool)
    held[rng.permutation(num_images)[:count]] = True
    return held


def _units(unit_of: Ints, label: Ints, held: Mask) -> tuple[Ints, Mask]:
    """Class (its rows' most frequent) and held-out flag of each unit."""
    pairs, rows = np.unique(np.stack([unit_of, label]), axis=1, return_counts=True)
    by_frequency = np.lexsort((pairs[1], -rows, pairs[0]))
    units, first = np.unique(pairs[0][by_frequency], return_index=True)
    unit_held = np.zeros(len(units), bool)
    unit_held[unit_of] = held
    return pairs[1][by_frequency][first], unit_held


def _groups(
    tasks: Sequence[str] | None, units: int, num_clients: int, partitioner: Partitioner, rng: np.random.Generator
) -> Iterator[tuple[str, Mask, Ints]]:
    """Units that are split by themselves, and the clients that they are split among; without tasks all among all."""
    if tasks is None:
        yield "", np.ones(units, bool), np.arange(num_clients)
        return
    names = sorted(set(tasks))
    for name, has in zip(names, partitioner.holders(names, num_clients, rng), strict=True):
        if not has.any():
            raise FedummError(
                f"The split {partitioner.description} leaves no client with the task {name}: use more clients."
            )
        yield name, np.asarray(tasks) == name, np.flatnonzero(has)


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
