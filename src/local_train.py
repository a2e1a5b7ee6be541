#!/usr/bin/env python
"""Centralised baseline: the same as ``fedumm train``."""

import sys

from fedumm.cli.main import run

if __name__ == "__main__":
    sys.exit(run("train", sys.argv[1:], "python src/local_train.py"))
