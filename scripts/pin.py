#!/usr/bin/env python
"""Write ``constraints.txt``: the versions installed here, for the same environment elsewhere.

    python scripts/pin.py > constraints.txt

A version that needs a newer Python than the project does gets a marker, so that an older
Python resolves that package by itself.
"""

from __future__ import annotations

from importlib.metadata import distributions

from packaging.specifiers import SpecifierSet
from packaging.version import Version

OLDEST = Version("3.10")
NOT_PINNED = {"fedumm", "pip", "setuptools", "wheel"}


def main() -> None:
    print("# Written by scripts/pin.py. Used by the Makefile; a plain `pip install` needs only pyproject.toml.")
    lines = set()
    for package in distributions():
        name, version = package.metadata["Name"], Version(package.version).public
        if name.lower() in NOT_PINNED:
            continue
        needs = SpecifierSet(str(package.metadata.json.get("requires_python", "")))
        lowest = next(f"3.{minor}" for minor in range(10, 20) if Version(f"3.{minor}.20") in needs)
        marker = "" if Version(lowest) == OLDEST else f' ; python_version >= "{lowest}"'
        lines.add(f"{name.lower().replace('_', '-')}=={version}{marker}")
    print("\n".join(sorted(lines)))


if __name__ == "__main__":
    main()
