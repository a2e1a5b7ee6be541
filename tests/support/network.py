"""What only root may do on Linux: a network of a site's own, whose cable can be cut, and a small disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def root_needed(*programs: str) -> None:
    """Skip the test unless this is root and has ``programs``; with ``CI`` set it fails instead."""
    missing = [program for program in programs if not shutil.which(program)]
    if os.geteuid() or missing:
        why = "needs root" if os.geteuid() else f"needs {' and '.join(missing)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


class Cable:
    """Between this machine and a namespace.

    Attributes:
        here: this machine's address on it.
        enter: begins a command that is to run at the other end.
    """

    def __init__(self, name: str, subnet: str) -> None:
        self.here, self._there = f"{subnet}.1", f"{subnet}.2"
        self._name, self._end = name, f"{name}a"
        self.enter = ["ip", "netns", "exec", name]

    def lay(self) -> None:
        """Make the namespace and connect it."""
        other = f"{self._name}b"
        _ip("netns", "add", self._name)
        _ip("link", "add", self._end, "type", "veth", "peer", "name", other, "netns", self._name)
        _ip("addr", "add", f"{self.here}/24", "dev", self._end)
        _ip("-n", self._name, "addr", "add", f"{self._there}/24", "dev", other)
        _ip("-n", self._name, "link", "set", "lo", "up")
        _ip("-n", self._name, "link", "set", other, "up")
        self.mend()

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told."""
        _ip("link", "set", self._end, "down")

    def mend(self) -> None:
        """It passes again."""
        _ip("link", "set", self._end, "up")

    def remove(self) -> None:
        """With its namespace."""
        subprocess.run(["ip", "netns", "del", self._name], check=False)
        subprocess.run(["ip", "link", "del", self._end], check=False, stderr=subprocess.DEVNULL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def cable() -> Iterator[Cable]:
    """One, which is gone after the block."""
    root_needed("ip")
    number = os.getpid()
    laid = Cable(f"fd{number}", f"10.213.{number % 250}")
    try:
        laid.lay()
        yield laid
    finally:
        laid.remove()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """``folder``, with what is in it, lies on a file system of its own within the block."""
    root_needed("mount", "umount")
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.copytree(folder, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write into ``file`` until its disk is full."""
    with open(file, "wb", buffering=0) as writing:
        try:
            while writing.write(bytes(4096)):
                pass
        except OSError:
            return
