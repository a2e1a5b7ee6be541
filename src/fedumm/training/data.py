"""Load and split the rows of a run as its backend and options ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedumm.backends.protocol import Progress, ReadsSeveralImages
from fedumm.backends.registry import backend_for
from fedumm.backends.weights import WeightOptions, check_weights
from fedumm.config import CentralConfig, FederateConfig, RunConfig
from fedumm.data import DataRequest, DataSplits, load_data
from fedumm.data.partition import partitioner_for
from fedumm.data.partition.split import RARE, ClientShare, Partition, hold_out, split_rows
from fedumm.errors import FedummError, did_you_mean
from fedumm.tasks import I2T

ANSWER = "multiple_choice_answer"


def load_splits(config: RunConfig, progress: Progress | None = None, open_images: int = 0) -> DataSplits:
    """Training and evaluation rows of ``config``'s data set, or of its backend's default one.

    Args:
        progress: told of what takes long.
        open_images: see :class:`fedumm.data.DataRequest`.

    Raises:
        FedummError: the model can't be had as the options ask, or the data can't be had at all.
    """
    backend = backend_for(config)
    if (weights := WeightOptions.of(config)).asked():
        from fedumm.training.device import pick_device

        check_weights(weights, pick_device(config.gpu))
    request = DataRequest(
        cache_dir=config.data_path,
        train_split=backend.hf_train_split(),
        eval_split=backend.hf_eval_split(),
        max_train_samples=config.max_train_samples,
        max_eval_samples=config.max_eval_samples,
        columns=tuple(backend.keep_columns()),
        mix=config.mix,
        image_roots=config.image_roots,
        remote_images=config.allow_remote_images,
        eval_fraction=config.eval_fraction,
        language=config.language,
        drop_overlap=config.drop_overlap,
        skip_bad=config.skip_bad,
        open_images=open_images,
        several_images=isinstance(backend, ReadsSeveralImages) and backend.reads_several_images,
        column_names=config.column_names,
    )
    if isinstance(config, FederateConfig) and config.client_folders and not config.dataset:
        first = next(iter(config.client_folders.values()))
        raise FedummError(f"Each client has data of its own: say whose are meant, with --dataset {first}.")
    return load_data(config.dataset or backend.hf_dataset_name(), request, progress)


def references(config: RunConfig, rows: Any) -> list[list[str]]:
    """The texts of each image of ``rows``, those that all hosts evaluate on; none where no texts are written.

    CIDEr weighs words by them: the same wherever a part of the rows, or a client's own rows, are scored.
    """
    return list(rows["texts"][:]) if I2T.name in config.tasks else []


def label_column(rows: Any, by: str, flag: str = "--partition_by") -> str:
    """The column that ``flag`` means; ``answer`` is the most common human answer.

    Raises:
        FedummError: there is no such column.
    """
    # Captions have no answers, but categories.
    name = (ANSWER if ANSWER in rows.column_names else "answer_type") if by == "answer" else by
    if name not in rows.column_names:
        known = [c for c in rows.column_names if c != "image"]
        raise FedummError(f"{flag} {by}: the data have {', '.join(known)}.{did_you_mean(by, known)}")
    return name


def column_labels(rows: Any, column: str) -> list[str]:
    """The value of each row in ``column``; where it is null, the row's answer type."""
    values = rows[column][:]
    if None in values and "answer_type" in rows.column_names:
        values = [kind if value is None else value for value, kind in zip(values, rows["answer_type"][:], strict=True)]
    return [str(value) for value in values]


def row_labels(config: FederateConfig, rows: Any) -> list[str]:
    """The label of each row that the split goes by; a caption, which has no answer, has its category.

    An IID split needs no label, so there a missing answer is none.
    """
    there = {ANSWER, "answer_type"} & set(rows.column_names)
    if config.dirichlet_alpha == 0 and config.partition_by == "answer" and not there:
        return ["all"] * len(rows)
    return column_labels(rows, label_column(rows, config.partition_by))


def partition_for(
    config: FederateConfig, rows: Any, clients: Sequence[str], own: str = ""
) -> tuple[Partition, list[str]]:
    """Each client's share of ``rows`` as ``config`` asks, and the label of each row that it went by.

    Args:
        own: with ``--partition own``, the client whose rows they all are: the others' are elsewhere.

    Raises:
        FedummError: they can't be split so, or belong to none of ``clients``.
    """
    if config.own_data:
        if own not in clients:
            raise FedummError("With --partition own every site has its own data: there is nothing to split here.")
        clients = [own]
    if config.keep_images_whole and "image_id" not in rows.column_names:
        raise FedummError("--keep_images_whole needs images, or a column image_id, which the data do not have.")
    labels = row_labels(config, rows)
    partition = split_rows(
        labels,
        rows["image_id"][:] if "image_id" in rows.column_names else None,
        clients,
        partitioner_for(config),
        seed=config.seed,
        holdout=config.holdout,
        keep_images_whole=config.keep_images_whole,
        tasks=rows["task"][:] if len(config.tasks) > 1 else None,
    )
    return (replace(partition, method="own") if config.own_data else partition), labels


def central_share(config: CentralConfig, rows: Any) -> ClientShare:
    """The rows that a central run trains on, and those that it holds out.

    Raises:
        FedummError: there is nothing to hold out.
    """
    images = rows["image_id"][:] if "image_id" in rows.column_names else None
    return hold_out(images, len(rows), seed=config.seed, holdout=config.holdout)


def client_facts(
    config: FederateConfig, partition: Partition, rows: Any, labels: Sequence[str], simulated: bool = True
) -> dict[str, dict[str, Any]]:
    """By client: rows in ``train`` and ``heldout``, training rows by task in ``tasks``, and by label in ``labels``, as
    far as :func:`label_counts` tells them."""
    tasks = partition.counts(rows["task"][:])
    counts = label_counts(config, partition, rows, labels, simulated)
    return {
        name: {"train": len(own.train), "heldout": len(own.heldout), "tasks": tasks[name], "labels": counts[name]}
        for name, own in partition.shares.items()
    }


def label_counts(
    config: FederateConfig, partition: Partition, rows: Any, labels: Sequence[str], simulated: bool = True
) -> dict[str, dict[str, int]]:
    """How many training rows of which label each client has, as far as that may be told.

    ``names``: of each of ``labels``, by which the rows were split; only if all clients are ``simulated``, else as
    ``ranks``: of each answer, which is called by its place among all rows' answers, the most frequent first. An
    answer's text, or a digest of it, which whoever guesses the text can compute as well, is not in it. Answers that a
    client has few rows of are counted together. Nothing with ``none``, of a site with ``--dp local``, and with
    ``--partition own`` at real sites, where each site's ranks would be its own.
    """
    if (config.own_data and not simulated) or config.label_counts == "none" or (config.dp == "local" and not simulated):
        return {client: {} for client in partition.shares}
    if config.label_counts == "names" and simulated:
        return partition.counts(labels)
    if not {ANSWER, "answer_type"} & set(rows.column_names):
        return {client: {} for client in partition.shares}
    answers = column_labels(rows, label_column(rows, "answer"))
    order = sorted(Counter(answers).items(), key=lambda entry: (-entry[1], entry[0]))
    ranks = {answer: place for place, (answer, _) in enumerate(order, start=1)}
    return {
        client: _frequent(Counter(ranks[answers[row]] for row in share.train), config.min_label_count)
        for client, share in partition.shares.items()
    }


def _frequent(counts: Counter[int], at_least: int) -> dict[str, int]:
    kept = {f"answer {rank}": count for rank, count in sorted(counts.items()) if count >= at_least}
    rare = counts.total() - sum(kept.values())
    return kept | ({RARE: rare} if rare else {})
