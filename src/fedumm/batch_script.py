"""Slurm batch scripts: a program that is stopped in time, queued again at its time limit, and goes on where it was."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedumm.files import replacing


@dataclass(frozen=True)
class BatchScript:
    """What differs between scripts.

    Attributes:
        about: what it does and how it is submitted; comment lines, without their marks.
        asks: for what of the cluster: ``gres=gpu:1``, ``time=24:00:00``; an order of its own makes no difference.
        command: what is run, for the shell, in one line or with lines that end in a backslash.
        what: what the command does, as messages name it; for the shell, within double quotes.
        job: the job's number as ``scontrol requeue`` takes it; for the shell, within double quotes.
        needs: a variable that Slurm sets in such a job.
        kind: what such a job is called: "an array job".
    """

    about: Sequence[str]
    asks: Sequence[str]
    command: str
    what: str
    job: str = "$SLURM_JOB_ID"
    needs: str = "SLURM_JOB_ID"
    kind: str = "a batch job"

    def write(self, path: Path) -> None:
        """Write it to ``path``, for everybody to run."""
        with replacing(path) as draft:
            draft.write_text(self.text(), encoding="utf-8")
            os.chmod(draft, 0o755)

    def text(self) -> str:
        """The script, for bash."""
        asked = {line.partition("=")[0] for line in self.asks}
        values = {
            "@ABOUT@": "\n".join(f"# {line}".rstrip() for line in self.about),
            "@ASKS@": "\n".join(f"#SBATCH --{line}" for line in self.asks),
            "@MAY_ASK@": "\n".join(f"##SBATCH --{key}=YOURS" for key in ("partition", "account") if key not in asked),
            "@COMMAND@": self.command,
            "@WHAT@": self.what,
            "@JOB@": self.job,
            "@NEEDS@": self.needs,
            "@KIND@": self.kind,
        }
        # In one go: what is put in may look like another mark.
        return re.sub("|".join(values), lambda mark: values[mark[0]], _TEXT)


_TEXT = """#!/usr/bin/env bash
@ABOUT@
@ASKS@
#SBATCH --open-mode=append
#SBATCH --requeue
# 120 s before the time limit, to this script only: another signal than that of pre-emption and scancel.
#SBATCH --signal=B:USR1@120
@MAY_ASK@
set -euo pipefail

# ---- What to edit, or to set before sbatch ----
# Modules to load, for example "python/3.11 cuda/12.6".
MODULES=${FEDUMM_MODULES:-}
# Folder of a virtual environment; empty: the python of the shell that ran sbatch, else .venv.
ENVIRONMENT=${FEDUMM_ENV:-}
# Where models and data are kept from job to job.
SCRATCH=${SCRATCH:-/scratch/${USER:-$(id -un)}}
# How often a job is queued again at its time limit.
MAX_RESTARTS=${FEDUMM_MAX_RESTARTS:-20}

fail() {
  printf '%s\\n' "$1" >&2
  exit 2
}

[ -n "${@NEEDS@:-}" ] || fail "this is @KIND@: submit it with sbatch."
cd "${FEDUMM_ROOT:-$SLURM_SUBMIT_DIR}"
if [ -n "$MODULES" ]; then
  set +u
  # shellcheck disable=SC2086 # one word for each module
  module load $MODULES
  set -u
fi
if [ -z "$ENVIRONMENT" ] && ! python -c 'import fedumm' 2>/dev/null && [ -d .venv ]; then ENVIRONMENT=.venv; fi
if [ -n "$ENVIRONMENT" ]; then
  [ -f "$ENVIRONMENT/bin/activate" ] || fail "FEDUMM_ENV $ENVIRONMENT is no folder of a virtual environment."
  # shellcheck disable=SC1091 # it is made by venv
  . "$ENVIRONMENT/bin/activate"
fi
if [ -n "${SLURM_TMPDIR:-}" ]; then export FEDUMM_CACHE=${FEDUMM_CACHE:-$SLURM_TMPDIR/fedumm}; fi
if [ -d "$SCRATCH" ]; then
  export HF_HOME=${HF_HOME:-$SCRATCH/hf_cache} FEDUMM_CACHE=${FEDUMM_CACHE:-$SCRATCH/fedumm}
fi

# In the background, since a shell hears a signal only after the program in the foreground has ended.
@COMMAND@ &
PROGRAM=$!
SIGNAL=
OUT_OF_TIME=
trap 'SIGNAL=TERM; kill -TERM "$PROGRAM" 2>/dev/null || true' TERM INT
trap 'SIGNAL=USR1 OUT_OF_TIME=yes; kill -TERM "$PROGRAM" 2>/dev/null || true' USR1
STATUS=127
while
  CODE=0
  wait "$PROGRAM" || CODE=$?
  # A signal ends only the waiting. 127: waited for before.
  [ "$CODE" -eq 127 ] || STATUS=$CODE
  [ -n "$SIGNAL" ]
do SIGNAL=; done

# After pre-emption Slurm queues the job again by itself, after scancel it must not be.
if [ -n "$OUT_OF_TIME" ] && [ "$STATUS" -eq 143 ]; then
  [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_RESTARTS" ] ||
    fail "@WHAT@ is not finished after $MAX_RESTARTS restarts: submit it with a longer --time."
  echo "time limit: @WHAT@ is queued again"
  scontrol requeue "@JOB@"
fi
exit "$STATUS"
"""
