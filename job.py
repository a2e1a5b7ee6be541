#!/usr/bin/env python
"""Federated fine-tuning: the same as ``fedumm federate``."""

import sys

from fedumm.cli.main import run

if __name__ == "__main__":
    sys.exit(run("federate", sys.argv[1:], "python job.py"))
