"""The array job of a study: one task for each run."""

from __future__ import annotations

from pathlib import Path

from fedumm.batch_script import BatchScript
from fedumm.shell import quoted
from fedumm.texts import one_line

SCRIPT = "slurm.sh"


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
    script, first = folder / SCRIPT, short or runs
    more = f"{flags} " if flags else ""
    BatchScript(
        about=[
            f"A study as an array of Slurm jobs, one for each of its {short + runs} runs. From the folder that fedumm "
            "sweep was called in:",
            "",
            "  mkdir -p logs",
            # In comments: a line break would end them.
            *(f"  {line}" for line in submission(one_line(quoted(script)), runs, short)),
            f"  fedumm sweep --collect {one_line(quoted(folder))}",
            "",
            "The last command makes the tables, of what is finished so far. A task that is pre-empted or reaches its",
            "time limit is queued again and resumes; the same again does only what is left. What fits your cluster can",
            f"also be said to sbatch (--time, --partition, --array=1-{first}%4 ...), which wins over the lines below.",
        ],
        asks=[
            "job-name=fedumm-study", f"array=1-{first}", "gres=gpu:1", "cpus-per-task=8", "mem=32G", "time=24:00:00",
            "output=logs/%x-%A_%a.out",
        ],
        command=f'python -u -m fedumm sweep {quoted(study_file)} {more}--run "$SLURM_ARRAY_TASK_ID"',
        what="run $SLURM_ARRAY_TASK_ID",
        job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        needs="SLURM_ARRAY_TASK_ID",
        kind="an array job",
    ).write(script)  # fmt: skip
    return script
