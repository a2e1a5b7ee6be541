#!/usr/bin/env python
"""Run benchmarks and rewrite ``docs/benchmarks.md``, and tables in other pages, from all results there are.

python benchmarks/report.py                 # all of them, one after the other
python benchmarks/report.py cache wire      # only these; the others' last results stay
python benchmarks/report.py none            # only write
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT

NAMES = (
    "startup", "overhead", "connection", "memory", "cache", "cache_types", "images", "attention", "wire", "scale",
    "threads",
    "profile_step", "answers", "tiny_janus", "unified", "aggregation", "attacks", "hostile", "rounding", "janus_pro_1b",
    "loading", "full_size", "secure_sum",
)  # fmt: skip
ON_GPUS = ("gpu_check",)
"""Those that need a GPU: run when they are named (or by ``make gpu-check``), and shown where they were."""
PAGE = ROOT / "docs" / "benchmarks.md"
OTHERS = tuple(ROOT / "docs" / f"{name}.md" for name in ("aggregation", "unified", "privacy"))
"""Pages with the tables of a benchmark between ``<!-- NAME.json -->`` and ``<!-- end -->``."""
HEAD = """# Benchmarks

Written by `python benchmarks/report.py` (`make benchmarks`) from what each command below printed; do not edit. Ratios
are of numbers measured in one run. The models are the shipped `tiny` (64 px), `mid` (192 px, 6 layers, width 384) and
`base` (the architecture of blip-vqa-base, 384 px), the latter two with random weights: nothing is downloaded. What was
found, and what was tried without gain: [performance.md](performance.md).
"""


def section(name: str, content: dict[str, Any]) -> str:
    """One benchmark's text, tables and machine."""
    title, _, rest = content["text"].partition("\n")
    command = f"python benchmarks/{name}.py"
    rest = rest.strip().replace(command, f"```bash\n{command}\n```", 1)
    return "\n\n".join([f"## {title.rstrip('.')}", rest, tables(content)])


def tables(content: dict[str, Any]) -> str:
    """One benchmark's tables, and the machine that they were made on."""
    parts = []
    for table in content["tables"]:
        lines = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
        parts.append(f"**{table['title']}**\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    machine = content["machine"]
    gpu = "" if machine["gpu"] == "none" else f", {machine['gpu']}"
    parts.append(
        f"{machine['date']}, {machine['processor']}, {machine['memory']}{gpu}, {machine['software']}; "
        f"the command took {content['minutes']} minutes."
    )
    return "\n\n".join(parts)


def with_tables(page: str) -> str:
    """``page`` with the tables of the last results."""

    def block(match: re.Match[str]) -> str:
        content = json.loads((RESULTS / match[1]).read_text())
        return f"<!-- {match[1]} -->\n\n{tables(content)}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+\.json) -->.*?<!-- end -->", block, page, flags=re.DOTALL)


def main(chosen: list[str]) -> None:
    for name in (*NAMES, *ON_GPUS):
        if name in (chosen or NAMES):
            print(f"--- {name}", flush=True)
            subprocess.run([sys.executable, str(Path(__file__).parent / f"{name}.py")], check=True, cwd=ROOT)
    found = {name: RESULTS / f"{name}.json" for name in (*NAMES, *ON_GPUS)}
    sections = [section(name, json.loads(path.read_text())) for name, path in found.items() if path.exists()]
    PAGE.write_text("\n\n".join([HEAD.strip(), *sections]) + "\n")
    for page in OTHERS:
        page.write_text(with_tables(page.read_text()))
    print(f"{PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main(sys.argv[1:])
