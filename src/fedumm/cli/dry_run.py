"""``--dry_run``: what a run would be and take, told before anything long, and nothing written."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from fedumm.config import CentralConfig, FederateConfig
from fedumm.errors import FedummError

if TYPE_CHECKING:
    from fedumm.config import RunConfig
    from fedumm.data import DataSplits
    from fedumm.report.console import RunConsole
    from fedumm.training.rehearsal import Rehearsal


@dataclass(frozen=True)
class Work:
    """How much a run does.

    Attributes:
        steps: optimiser steps, of all clients and rounds, if no client is stopped before it is through.
        scored: samples that are scored, again and again.
        hosts: that work side by side.
        clients: by name, the rows that they train on; none of a central run.
        transfers: adapters down and updates up, in a round.
    """

    steps: int
    scored: int
    hosts: int = 1
    clients: tuple[int, ...] = ()
    transfers: tuple[int, int] = (0, 0)


def dry_run(config: RunConfig) -> int:
    """Check, measure, tell.

    Raises:
        FedummError: what a run would stop at.
    """
    from fedumm.report.console import RunConsole
    from fedumm.training.rehearsal import rehearse

    _check_place(config)
    console = RunConsole()
    with console:
        splits, images = _data(config, console)
        work = work_of(config, splits)
        wire = (config.down, config.up) if isinstance(config, FederateConfig) else ("float32", "float32")
        whose = max(splits, key=lambda client: len(splits[client].train))
        found = rehearse(_of_client(config, whose), splits[whose], wire, work.hosts, console.progress)
        for line in (*found.findings, *lines(config, images, work, found)):
            console.line(line)
    return 0


def _data(config: RunConfig, console: RunConsole) -> tuple[dict[str, DataSplits], int]:
    """The rows, by client where each has data of its own, else for the empty name; and how many images they have."""
    from fedumm.federation.assignment import data_owners
    from fedumm.training.data_check import check_data, data_to_check
    from fedumm.training.data_words import say

    found: dict[str, DataSplits] = {}
    images = 0
    for client in data_owners(config) if isinstance(config, FederateConfig) else [""]:
        mine = _of_client(config, client)
        try:
            found[client] = data_to_check(mine, console.progress)
            report = check_data(mine, found[client], console.progress)
        except FedummError as error:
            raise (FedummError(f"{client}: {error}") if client else error) from error
        say(report, mine, console.line, client)
        images += report.train.contents + report.eval.contents
    return found, images


def _of_client(config: RunConfig, client: str) -> RunConfig:
    return config.of_client(client) if client and isinstance(config, FederateConfig) else config


def _check_place(config: RunConfig) -> None:
    """Whether the run could begin where it would write; one that is resumed goes on in its own folder."""
    if isinstance(config, CentralConfig):
        from fedumm.report.central_folder import check_output

        check_output(Path(config.output_dir), config.overwrite)
    elif isinstance(config, FederateConfig):
        from fedumm.report.run_folder import check_free, folder_for

        if config.name and not (config.resume or config.resume_if_exists or config.export_dir):
            check_free(folder_for(config), config.overwrite)


def work_of(config: RunConfig, splits: Mapping[str, DataSplits]) -> Work:
    """What a run with these rows does.

    Args:
        splits: by client where each has data of its own, else for the empty name.

    Raises:
        FedummError: the rows can't be split so, or are not here.
    """
    in_a_step = config.batch_size * config.grad_accum
    if isinstance(config, CentralConfig):
        from fedumm.training.data import central_share

        own = central_share(config, splits[""].train)
        steps = math.ceil(len(own.train) / in_a_step) * config.num_epochs
        return Work(steps, (len(splits[""].eval) + len(own.heldout)) * (config.num_epochs + 1))
    assert isinstance(config, FederateConfig)
    from fedumm.federation.assignment import host_count, names_of
    from fedumm.training.data import partition_for

    names = names_of(config)
    shares = [
        share
        for client, own in splits.items()
        for share in partition_for(config, own.train, names, client)[0].shares.values()
    ]
    sizes = [(len(share.train), len(share.heldout)) for share in shares]
    drawn = config.clients_per_round or len(sizes)
    share, rounds, hosts = drawn / len(sizes), config.num_rounds, host_count(config)
    each = sum(math.ceil(rows / in_a_step) for rows, _ in sizes) * config.local_epochs
    heldout = sum(own for _, own in sizes) * (2 * rounds * share + 1)
    scored = heldout + sum(len(own.eval) for own in splits.values()) * (rounds + 1)
    return Work(round(each * rounds * share), round(scored), hosts, tuple(rows for rows, _ in sizes), (hosts, drawn))


def lines(config: RunConfig, images: int, work: Work, found: Rehearsal) -> list[str]:
    """What is told of a run on data with so many images."""
    from fedumm.report.console import duration

    told = []
    if work.clients:
        few, many = min(work.clients), max(work.clients)
        told.append(
            f"{len(work.clients)} clients on {work.hosts} host(s), with {few:,} to {many:,} training samples "
            f"(median {median(work.clients):,.0f})"
        )
    share = 100 * found.trainable / found.total
    told.append(f"trainable: {found.trainable:,} / {found.total:,} ({share:.4f}%); device {found.device}")
    if work.clients:
        down, up = (count * size for count, size in zip(work.transfers, (found.down, found.up), strict=True))
        told.append(f"a round: {down / 1e6:,.2f} MB down, {up / 1e6:,.2f} MB up")
    encoding = 0.0
    if found.image_bytes:
        size = images * found.image_bytes
        encoding = images * found.encoded / work.hosts
        told.append(
            f"features of up to {images:,} images: {size / 1e9:,.2f} GB, {duration(encoding)} to compute; "
            f"{_free(config) / 1e9:,.0f} GB are free in the cache's folder (--feature_cache {config.feature_cache})"
        )
    steps = work.steps
    if isinstance(config, FederateConfig) and config.round_minutes:
        steps, line = _within(config, work, found.step)
        told.append(line)
    training, scoring = steps * found.step / work.hosts, work.scored * found.scored / work.hosts
    in_a_step = config.batch_size * config.grad_accum
    told.append(
        f"measured: {found.step:.3g} s a step of {in_a_step} samples (mean of {found.steps}), "
        f"{_rate(1 / found.scored)} samples scored a second, {found.load:.3g} s to load the model"
    )
    if found.peak:
        told.append(f"peak memory of this try: {found.peak / 1e9:.1f} GB (a run has {work.hosts} such process(es))")
    total = training + scoring + encoding + found.load
    told.append(
        f"the run: about {duration(total)} ({steps:,} steps {duration(training)}, "
        f"{work.scored:,} samples scored {duration(scoring)}); drawing images is not counted"
    )
    told.append("Dry run: nothing was written. Leave out --dry_run to start it.")
    return told


def _within(config: FederateConfig, work: Work, seconds: float) -> tuple[int, str]:
    """The steps of a run whose clients stop when their minutes are over, and a line on who is stopped.

    Args:
        seconds: that a step takes.
    """
    from fedumm.federation.protocol.client_view import steps_of

    planned = [steps_of(config, rows) for rows in work.clients]
    most = max(1, math.ceil(60 * config.round_minutes / seconds))
    cut = [own for own in planned if own > most]
    left = sum(min(own, most) for own in planned) / sum(planned)
    told = f"--round_minutes {config.round_minutes:g} has room for {most:,} steps: "
    if not cut:
        return work.steps, f"{told}no client is cut, at this speed"
    text = f"{told}{len(cut)} of {len(planned)} clients are cut, the largest of them from {max(cut):,}, at this speed"
    return round(work.steps * left), text


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _free(config: RunConfig) -> int:
    from fedumm.features.options import default_folder

    folder = Path(os.path.expanduser(config.feature_cache_dir)) if config.feature_cache_dir else default_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
