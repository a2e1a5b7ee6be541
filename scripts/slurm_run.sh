#!/usr/bin/env bash
# A training run as a Slurm job, from the project's folder:
#
#   mkdir -p logs
#   sbatch scripts/slurm_run.sh BACKEND [OPTIONS OF job.py]
#   sbatch scripts/slurm_run.sh blip_vqa --num_clients 8 --num_rounds 100 --dirichlet_alpha 0.5
#
# A job that is pre-empted, loses its node or reaches its time limit is queued again, and resumes after its last
# finished round. Details and arrays of jobs: docs/hpc.md. What fits your cluster can also be said to sbatch (--time,
# --partition, --gres=gpu:a100:2 ...), which wins over the lines below.
#SBATCH --job-name=fedumm
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=logs/%x-%j.out
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
# Conda or virtual environment, by name or folder; empty: the python of the shell that ran sbatch, else .venv.
ENVIRONMENT=${FEDUMM_ENV:-}
# Where models and data are kept from job to job.
SCRATCH=${SCRATCH:-/scratch/${USER:-$(id -un)}}
# Or --in_process.
RUNNER=${FEDUMM_RUNNER:---simulator}
# How often a job is queued again at its time limit.
MAX_RESTARTS=${FEDUMM_MAX_RESTARTS:-20}

fail() {
  printf 'slurm_run.sh: %s\n' "$1" >&2
  exit 2
}

[ $# -gt 0 ] || fail "say which backend: sbatch scripts/slurm_run.sh BACKEND, for example blip_vqa."
[ -n "${SLURM_JOB_ID:-}" ] || fail "this is a batch job: sbatch scripts/slurm_run.sh $*"
BACKEND=$1
shift

# Slurm runs a copy of this script, which does not know where it came from.
cd "${FEDUMM_ROOT:-$SLURM_SUBMIT_DIR}"
[ -f job.py ] || fail "$PWD has no job.py: run sbatch in the project's folder, or set FEDUMM_ROOT to it."

# ---- Python ----
if [ -n "$MODULES" ]; then
  set +u
  # shellcheck disable=SC2086 # one word for each module
  module load $MODULES
  set -u
fi
# shellcheck source-path=SCRIPTDIR source=../src/fedumm/launchers/environment.sh
. src/fedumm/launchers/environment.sh
if [ -n "$ENVIRONMENT" ]; then
  enter_environment "$ENVIRONMENT" FEDUMM_ENV
elif ! python -c 'import fedumm' 2>/dev/null && [ -d .venv ]; then
  enter_environment "$PWD/.venv" FEDUMM_ENV
fi
type -P python >/dev/null || fail "there is no python: activate an environment before sbatch, or name it in FEDUMM_ENV."

# ---- Caches ----
# Models and data stay on scratch. Features of images are read often and are soon computed again: on the node's own disk,
# where the cluster gives each job a folder there.
if [ -n "${SLURM_TMPDIR:-}" ]; then export FEDUMM_CACHE=${FEDUMM_CACHE:-$SLURM_TMPDIR/fedumm}; fi
if [ -d "$SCRATCH" ]; then
  export HF_HOME=${HF_HOME:-$SCRATCH/hf_cache} FEDUMM_CACHE=${FEDUMM_CACHE:-$SCRATCH/fedumm}
fi

# ---- The run ----
# A restarted job has the number that it had, so it finds its run. In an array, %a in an option is the task's number.
NAME=slurm-$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  NAME=slurm-${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  set -- "${@//%a/$SLURM_ARRAY_TASK_ID}"
fi
echo "$(date '+%F %T') $NAME on $(hostname), start $((${SLURM_RESTART_COUNT:-0} + 1))," \
  "HF_HOME=${HF_HOME:-} FEDUMM_CACHE=${FEDUMM_CACHE:-}"

# In the background, since a shell hears a signal only after the program in the foreground has ended.
python -u job.py --model_backend "$BACKEND" "$RUNNER" --name "$NAME" --resume_if_exists "$@" &
PROGRAM=$!
SIGNAL=
trap 'SIGNAL=TERM; kill -TERM "$PROGRAM" 2>/dev/null || true' TERM INT
trap 'SIGNAL=USR1 OUT_OF_TIME=yes; kill -TERM "$PROGRAM" 2>/dev/null || true' USR1
OUT_OF_TIME=
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
    fail "$NAME is not finished after $MAX_RESTARTS restarts: resume it with a longer --time, or set FEDUMM_MAX_RESTARTS."
  echo "$(date '+%F %T') time limit: $NAME is queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$STATUS"
