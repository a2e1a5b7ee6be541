"""Slurm's nodes for a federation: which part of a node a site gets, and the steps in which server and sites run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.texts import one_line

_SECONDS = 60
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

_STEP = ("srun", "--nodes=1", "--ntasks=1", "--mem=0", "--mpi=none", "--input=none", "--export=ALL")
"""One process, with the job's environment, whatever ``sbatch --export`` was, and a share in all of the job's memory on
its node: of an amount of its own, each step would have to say how much."""


@dataclass(frozen=True)
class Share:
    """What a site gets of its node: cores and GPUs that no other site has."""

    cpus: int
    gpus: int


def share_of(config: FederateConfig, nodes: int, cpus: int, gpus: int) -> Share:
    """What each site of ``config`` gets, where the sites are dealt out to ``nodes`` nodes in turn.

    Args:
        cpus, gpus: of each node.

    Raises:
        FedummError: a node would be left without a site, a site without a core or a GPU, or a GPU without a site.
    """
    sites = config.num_clients
    if nodes > sites:
        raise FedummError(f"--nodes {nodes} is more than --num_clients {sites} can use: each node has a site or more.")
    most = ceil(sites / nodes)
    if cpus < most:
        raise FedummError(f"--cpus {cpus}: a node has up to {most} sites, each of which needs a core or more.")
    if config.gpu not in ("", "cpu"):
        raise FedummError(f"--gpu {one_line(config.gpu, 40)}: leave it out, Slurm says which GPU a site has.")
    if gpus and (gpus < most or (gpus > most and not config.device_map)):
        each = "GPUs" if config.device_map else "a GPU"
        raise FedummError(
            f"--gpus {gpus}: a node has up to {most} site(s), each with {each} of its own. Ask for --gpus {most}, or "
            "for other --nodes; --gpus 0 is for runs without."
        )
    return Share(cpus // most, gpus // most)


def _step(name: str, node: str, *more: str) -> list[str]:
    return [*_STEP, f"--job-name={name}", f"--nodelist={node}", *more]


@dataclass(frozen=True)
class Allocation:
    """What a batch job has.

    Attributes:
        nodes: their names, first that of the batch script, on which the server runs.
        host: the address by which Slurm reaches that node, and so the sites their server.
        cpus, gpus: of the job on each node.
    """

    nodes: tuple[str, ...]
    host: str
    cpus: int
    gpus: int

    def places(self, sites: Sequence[str]) -> dict[str, str]:
        """The node of each site: they are dealt out in turn."""
        return {site: self.nodes[number % len(self.nodes)] for number, site in enumerate(sites)}

    def share(self, config: FederateConfig) -> Share:
        """What each site gets (:func:`share_of`)."""
        return share_of(config, len(self.nodes), self.cpus, self.gpus)

    def steps(self, server: str, sites: Sequence[str], config: FederateConfig) -> dict[str, list[str]]:
        """By name, the command that starts what follows it as a step of the job. The server takes no site's place."""
        share = self.share(config)
        gpus = f"gpu:{share.gpus}" if share.gpus else "none"
        own = ["--exact", f"--cpus-per-task={share.cpus}", f"--gres={gpus}"]
        steps = {server: _step(server, self.nodes[0], "--overlap", "--cpus-per-task=1", "--gres=none")}
        return steps | {site: _step(site, node, *own) for site, node in self.places(sites).items()}


def this_allocation() -> Allocation:
    """That of the batch job in which this process runs, on its first node.

    Raises:
        FedummError: it runs in none, or Slurm does not say what is needed.
    """
    if not os.environ.get("SLURM_JOB_NODELIST"):
        raise FedummError("--slurm is for a Slurm job: 'fedumm slurm --nodes N -- ...' writes its batch script.")
    nodes = _asked("hostnames", os.environ["SLURM_JOB_NODELIST"]).split()
    here = os.environ.get("SLURMD_NODENAME", "")
    if here not in nodes or not all(map(_NAME.fullmatch, nodes)):
        raise FedummError("--slurm is for the batch script of a Slurm job, which runs on one of the job's nodes.")
    address = re.search(r"\bNodeAddr=(\S+)", _asked("node", here))
    if not address:
        raise FedummError(f"Slurm does not say by which address the node {here} is reached (scontrol show node).")
    nodes = [here, *(node for node in nodes if node != here)]
    cpus = _number("SLURM_CPUS_PER_TASK") or _number("SLURM_CPUS_ON_NODE")
    return Allocation(tuple(nodes), address[1], cpus, _number("SLURM_GPUS_ON_NODE"))


def _asked(*what: str) -> str:
    """What ``scontrol show`` says."""
    try:
        done = subprocess.run(
            ["scontrol", "show", *what], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FedummError(f"Slurm's scontrol does not answer ({type(error).__name__}).") from error
    if done.returncode:
        raise FedummError(f"scontrol show {' '.join(what)}: {one_line(done.stderr)}")
    return done.stdout


def _number(name: str) -> int:
    """Of a variable that Slurm sets; 0 without it."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
