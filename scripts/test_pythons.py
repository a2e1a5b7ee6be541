#!/usr/bin/env python
"""Run the tests marked ``compat`` with every Python from 3.10 on that is installed (``make test-pythons``).

Each gets a virtual environment of its own, ``.venv-3.X``. What was skipped is said, and does not count as tried.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = [f"3.{minor}" for minor in range(10, 16)]


def main() -> int:
    results = {version: tried(version) for version in VERSIONS}
    print("\n".join(f"Python {version}: {result}" for version, result in results.items()))
    return 0 if set(results.values()) <= {"passed", MISSING} and "passed" in results.values() else 1


MISSING = "skipped, not installed"


def tried(version: str) -> str:
    """What became of one version."""
    python = shutil.which(f"python{version}")
    # A launcher of pyenv is there for versions that are not.
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        return MISSING
    folder = ROOT / f".venv-{version}"
    install = ["-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", "--editable", ".[privacy,test]"]
    for command in (
        [python, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), *install],
        [str(folder / "bin" / "pytest"), "-m", "compat"],
    ):
        print(f"Python {version}: {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode:
            return f"failed: {' '.join(command)}"
    return "passed"


if __name__ == "__main__":
    sys.exit(main())
