#!/usr/bin/env python
"""Centralised baseline: the same as ``fedumm train``."""

import shlex
import sys
from pathlib import Path

try:
    from fedumm.cli.main import run
except ModuleNotFoundError as error:
    install = [sys.executable, "-m", "pip", "install", "-e", str(Path(__file__).resolve().parents[1])]
    print(f"python src/local_train.py: {error}. Install what it needs with: {shlex.join(install)}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(run("train", sys.argv[1:], "python src/local_train.py"))
