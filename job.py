#!/usr/bin/env python
"""Federated fine-tuning: the same as ``fedumm federate``."""

import shlex
import sys
from pathlib import Path

try:
    from fedumm.cli.main import run
except ModuleNotFoundError as error:
    install = [sys.executable, "-m", "pip", "install", "-e", str(Path(__file__).resolve().parent)]
    print(f"python job.py: {error}. Install what it needs with: {shlex.join(install)}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(run("federate", sys.argv[1:], "python job.py"))
