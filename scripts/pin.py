#!/usr/bin/env python
"""Write ``constraints.txt``: the versions installed here, for the same environment elsewhere.

    pip install uv
    python scripts/pin.py > constraints.txt

A version that needs a newer Python than the project does gets a marker; for the oldest Python, uv (which installs
nothing here) says what to take instead. No hashes: pip then wants them of every package, and torch's build differs by
machine.

The environment with the lowest versions that ``pyproject.toml`` allows, for ``constraints-lowest.txt``:

    python scripts/pin.py --lowest > lowest.txt
    python -m venv lowest
    lowest/bin/pip install -c lowest.txt -e '.[privacy,test]' packaging
    lowest/bin/python scripts/pin.py > constraints-lowest.txt

torch stays at the version of ``constraints.txt``: its older builds need other ones of everything.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
OLDEST, NEXT = Version("3.10"), Version("3.11")
EXTRAS = ("dicom", "privacy")
NOT_PINNED = {"fedumm", "pip", "setuptools", "wheel", "uv"}
_GPU = ("cuda-", "nvidia-", "triton")


def lower_bounds() -> Iterator[str]:
    """A pin for each requirement with a lower bound, but for the tools of the tests."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for requirement in map(Requirement, requires("fedumm") or []):
        extra = requirement.marker and not any(requirement.marker.evaluate({"extra": name}) for name in EXTRAS)
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        if bounds and not extra:
            yield f"{requirement.name}=={pinned['torch'] if requirement.name == 'torch' else bounds[0]}"


def main() -> None:
    if sys.argv[1:] == ["--lowest"]:
        print("\n".join(lower_bounds()))
        return
    print("# Written by scripts/pin.py. Used by the Makefile; a plain `pip install` needs only pyproject.toml.")
    lines = set[str]()
    for package in distributions():
        name, version = package.metadata["Name"], Version(package.version).public
        if name.lower() in NOT_PINNED:
            continue
        needs = SpecifierSet(str(package.metadata.json.get("requires_python", "")))
        lowest = next(f"3.{minor}" for minor in range(10, 20) if Version(f"3.{minor}.20") in needs)
        marker = "" if Version(lowest) == OLDEST else f' ; python_version >= "{lowest}"'
        lines.add(f"{name.lower().replace('_', '-')}=={version}{marker}")
    print("\n".join(sorted({*lines, *for_oldest(lines)})))


def for_oldest(lines: set[str]) -> Iterator[str]:
    """Pins for the oldest Python where those of ``lines`` are for newer ones. Not of torch's own for GPUs."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as known:
        known.write("\n".join(lines))
        known.flush()
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--no-annotate",
            "--all-extras",
        ]
        options = ["--python-version", str(OLDEST), "--constraint", known.name, str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    pinned = {line.partition("==")[0] for line in lines if ";" not in line}
    for line in done.stdout.splitlines():
        requirement = Requirement(line)
        if requirement.name not in pinned | NOT_PINNED and not requirement.name.startswith(_GPU):
            yield f'{requirement.name}{requirement.specifier} ; python_version < "{NEXT}"'


if __name__ == "__main__":
    main()
