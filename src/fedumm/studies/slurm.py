"""The array job of a study: one task for each run."""

from __future__ import annotations

import os
from pathlib import Path

from fedumm.files import replacing
from fedumm.shell import quoted
from fedumm.texts import one_line

SCRIPT = "slurm.sh"

_TEXT = """#!/usr/bin/env bash
# A study as an array of Slurm jobs, one for each of its @RUNS@ runs. From the folder that fedumm sweep was called in:
#
#   mkdir -p logs
@SUBMIT@
#   fedumm sweep --collect @STUDY@
#
# The last command makes the tables, of what is finished so far. A task that is pre-empted or reaches its time limit is
# queued again and resumes; the same again does only what is left. What fits your cluster can also be said to
# sbatch (--time, --partition, --array=1-@FIRST@%4 ...), which wins over the lines below.
#SBATCH --job-name=fedumm-study
#SBATCH --array=1-@FIRST@
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=logs/%x-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
# 120 s before the time limit, to this script only: another signal than that of pre-emption and scancel.
#SBATCH --signal=B:USR1@120
##SBATCH --partition=YOUR_PARTITION
##SBATCH --account=YOUR_ACCOUNT
set -euo pipefail

# ---- What to edit, or to set before sbatch ----
# Modules to load, for example "python/3.11 cuda/12.6".
MODULES=${FEDUMM_MODULES:-}
# Folder of a virtual environment; empty: the python of the shell that ran sbatch, else .venv.
ENVIRONMENT=${FEDUMM_ENV:-}
# Where models and data are kept from job to job.
SCRATCH=${SCRATCH:-/scratch/${USER:-$(id -un)}}
# How often a task is queued again at its time limit.
MAX_RESTARTS=${FEDUMM_MAX_RESTARTS:-20}

fail() {
  printf 'slurm.sh: %s\\n' "$1" >&2
  exit 2
}

[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || fail "this is an array job: submit it with sbatch."
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
python -u -m fedumm sweep @FILE@ @FLAGS@--run "$SLURM_ARRAY_TASK_ID" &
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

# After pre-emption Slurm queues the task again by itself, after scancel it must not be.
if [ -n "$OUT_OF_TIME" ] && [ "$STATUS" -eq 143 ]; then
  [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_RESTARTS" ] ||
    fail "run $SLURM_ARRAY_TASK_ID is not finished after $MAX_RESTARTS restarts: submit it with a longer --time."
  echo "time limit: run $SLURM_ARRAY_TASK_ID is queued again"
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$STATUS"
"""


def submission(script: str, runs: int, short: int) -> list[str]:
    """The commands that submit it: of a search first its short runs, and the others when these have ended.

    Args:
        script: quoted for the shell.
        short: how many short runs come before the ``runs``.
    """
    if not short:
        return [f"sbatch {script}"]
    then = f"--array={short + 1}-{short + runs}"
    return [f"search=$(sbatch --parsable {script})", f'sbatch --dependency=afterany:"$search" {then} {script}']


def write_script(folder: Path, study_file: Path, runs: int, short: int = 0, flags: str = "") -> Path:
    """Write ``slurm.sh`` into a study's folder, and submit nothing.

    Args:
        short: as in :func:`submission`.
        study_file: as the tasks, which run where ``sbatch`` is called, name it.
        flags: options for each task that ``study_file`` does not hold, quoted for the shell.
    """
    script = folder / SCRIPT
    values = {
        "@RUNS@": str(short + runs),
        "@FIRST@": str(short or runs),
        # In comments: a line break would end them.
        "@SUBMIT@": "\n".join(f"#   {line}" for line in submission(one_line(quoted(script)), runs, short)),
        "@STUDY@": one_line(quoted(folder)),
        "@FILE@": quoted(study_file),
        "@FLAGS@": f"{flags} " if flags else "",
    }
    text = _TEXT
    for mark, value in values.items():
        text = text.replace(mark, value)
    with replacing(script) as draft:
        draft.write_text(text, encoding="utf-8")
        os.chmod(draft, 0o755)
    return script
