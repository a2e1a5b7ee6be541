"""``docs/hpc.md`` is true: its variables are those of the script (its commands: test_pages.py)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HPC = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "scripts" / "slurm_run.sh").read_text(encoding="utf-8")


def test_the_variables_are_those_of_the_script() -> None:
    table = HPC.split("| variable |")[1].split("\n\n")[0]
    listed = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+):-", SCRIPT)) | set(re.findall(r"\b(FEDUMM_\w+)\b", SCRIPT))
    of_slurm_and_shell = {name for name in used if name.startswith("SLURM_")} | {"USER"}
    assert used - of_slurm_and_shell == listed
