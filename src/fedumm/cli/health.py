"""What a machine needs to run fedumm: each look at it finds something out, and says how to mend what is wrong."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from fedumm.libraries import likely_cause, newer_than_tested
from fedumm.texts import one_line

State = Literal["ok", "warning", "fault"]

_LITTLE_DISK, _LITTLE_MEMORY = 5e9, 4e9
"""Bytes below which a run of a published model does not fit."""

_FLARE_PORTS = {8002: "clients", 8003: "administrators"}
"""Of a server of NVIDIA FLARE, by its defaults; its simulator takes any free port."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: in a word or two.
        state: whether it will do; of a ``warning`` something works less well, of a ``fault`` something fails.
        told: what was found.
        mend: what to do about it.
    """

    what: str
    state: State
    told: str
    mend: str = ""


def look(hub: bool = True) -> Iterator[Finding]:
    """Everything, one after the other.

    Args:
        hub: ask the Hugging Face Hub whether it is in reach; without, nothing is sent anywhere.
    """
    looks: list[Callable[[], Iterator[Finding]]] = [_python, _libraries, _devices, _memory, _disk, _flare]
    for own in [*looks, *([_hub] if hub else []), _extras]:
        try:
            yield from own()
        except Exception as error:  # of whatever library it is: a look that fails is a finding, too
            yield Finding(own.__name__.strip("_"), "fault", one_line(error), likely_cause().strip())


def _python() -> Iterator[Finding]:
    from fedumm import __version__

    told = f"fedumm {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    good = sys.version_info >= (3, 10)
    yield Finding("python", "ok" if good else "fault", told, "" if good else "Install Python 3.10 or newer.")
    if sys.platform != "linux":
        mend = "Use Linux, or report what fails: fedumm was tried on Linux only."
        yield Finding("system", "warning", f"{platform.system()} is untried", mend)


def _libraries() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    missing, unfit, found = [], [], []
    for text in requires("fedumm") or ():
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            own = version(wanted.name)
        except PackageNotFoundError:
            missing.append(str(wanted))
            continue
        found.append(f"{wanted.name} {own}")
        if not wanted.specifier.contains(own, prereleases=True):
            unfit.append(f"{wanted.name} {own} ({wanted.specifier} is wanted)")
    if missing or unfit:
        told = "; ".join([*(f"{name} is missing" for name in missing), *unfit])
        yield Finding("libraries", "fault", told, f"{sys.executable} -m pip install --upgrade fedumm")
        return
    newer, cause = newer_than_tested(), likely_cause().strip().removeprefix("Likely cause: ")
    yield Finding("libraries", "warning" if cause else "ok", newer or f"{len(found)} as required", cause)


def _devices() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("cpu", "ok", f"{cores} core(s), {capability}, torch {torch.__version__}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            free, _ = torch.cuda.mem_get_info(number)
            kind = "bfloat16" if torch.cuda.is_bf16_supported() else "float32 only"
            told = f"{facts.name}, {free / 1e9:.0f} of {facts.total_memory / 1e9:.0f} GB free, {kind}"
            yield Finding(f"gpu {number}", "ok", told)
        return
    if torch.version.cuda and (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()):
        mend = "Compare the driver (nvidia-smi) with the CUDA version of torch, and install a torch that fits."
        yield Finding("gpu", "fault", f"there is one, and torch (CUDA {torch.version.cuda}) can't use it", mend)
    elif Path("/dev/nvidia0").exists():
        mend = "Install a torch with CUDA: see pytorch.org."
        yield Finding("gpu", "warning", "there is one, and this torch is built for the CPU", mend)
    else:
        yield Finding("gpu", "ok", "none: runs use the CPU (model 'tiny', or small ones)")


def _memory() -> Iterator[Finding]:
    import psutil
    import torch

    from fedumm.training.device import free_bytes

    free, total = free_bytes(torch.device("cpu")), psutil.virtual_memory().total
    told, little = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free", free < _LITTLE_MEMORY
    mend = "Close other programs, or ask for more (a container, a batch job): blip-vqa-base takes 2.6 GB."
    yield Finding("memory", "warning" if little else "ok", told, mend if little else "")


def _disk() -> Iterator[Finding]:
    from huggingface_hub import constants

    from fedumm.features.options import default_folder
    from fedumm.report.run_folder import RUNS
    from fedumm.temporary import base_for_sockets

    places = {
        "runs": (RUNS, "Change to a folder that you can write to, or give --name FOLDER."),
        "feature cache": (default_folder(), "Set FEDUMM_CACHE, or give --feature_cache_dir FOLDER."),
        "models and data": (Path(constants.HF_HOME), "Set HF_HOME to a folder that you can write to."),
        "temporary": (Path(tempfile.gettempdir()), "Set TMPDIR to a folder that you can write to."),
    }
    for what, (folder, mend) in places.items():
        yield _place(what, Path(os.path.expanduser(folder)), mend)
    base = base_for_sockets()
    yield Finding("sockets", "ok", f"can be made in {one_line(base, 80)}")


def _place(what: str, folder: Path, mend: str) -> Finding:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    told = one_line(folder, 120)
    try:
        probe = there / f".fedumm-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(what, "fault", f"{told}: {error.strerror}", mend)
    free = shutil.disk_usage(there).free
    if free < _LITTLE_DISK:
        return Finding(what, "warning", f"{told}: {free / 1e9:.1f} GB free", f"Make room. {mend}")
    return Finding(what, "ok", f"{told}: {free / 1e9:,.0f} GB free")


def _flare() -> Iterator[Finding]:
    from fedumm.federation.runners.flare.isolation import can_isolate

    importlib.import_module("nvflare")
    yield Finding("flare", "ok", f"NVIDIA FLARE {version('nvflare')}")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
    yield Finding("simulator", "ok", "loopback ports can be opened")
    if not can_isolate():
        mend = "On a machine with other users, use --in_process: they could reach the simulator's ports."
        yield Finding("isolation", "warning", "no network of its own for the simulator's processes", mend)
    taken = [f"{port} ({whose})" for port, whose in _FLARE_PORTS.items() if _is_taken(port)]
    if taken:
        told = f"taken: {', '.join(taken)}"
        yield Finding("server ports", "warning", told, "A FLARE server here needs other ports in its project.yml.")
    else:
        yield Finding("server ports", "ok", f"free: {', '.join(map(str, _FLARE_PORTS))}")


def _is_taken(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError:
            return True
    return False


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token, is_offline_mode

    from fedumm.data.hub_access import check_reachable

    offline = "Models and data must be in the cache: fedumm download, on a machine with a connection."
    where = one_line(constants.ENDPOINT, 80)
    if is_offline_mode():
        yield Finding("hub", "warning", "HF_HUB_OFFLINE is set: nothing is fetched", offline)
    elif check_reachable("model", "Salesforce/blip-vqa-base") is None:
        yield Finding("hub", "warning", f"{where} does not answer", f"{offline} Or set HF_ENDPOINT, https_proxy.")
    else:
        login = "logged in" if get_token() else "not logged in (gated and private models need it: hf auth login)"
        yield Finding("hub", "ok", f"{where} answers, {login}")


def _extras() -> Iterator[Finding]:
    names = {"pydicom": "dicom", "dp_accounting": "privacy", "bitsandbytes": "4bit"}
    there = [extra for module, extra in names.items() if importlib.util.find_spec(module)]
    others = [extra for extra in names.values() if extra not in there]
    told = f"installed: {', '.join(there) or 'none'}; not: {', '.join(others) or 'none'}"
    yield Finding("extras", "ok", told)
    found = [name for name in ("sbatch", "c++", "g++") if shutil.which(name)]
    yield Finding("programs", "ok", f"found: {', '.join(found) or 'none'} (Slurm: sbatch; --compile: a C++ compiler)")
