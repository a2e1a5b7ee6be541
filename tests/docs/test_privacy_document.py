"""``docs/privacy.md`` is true: its command prints its table."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")


def test_the_command_prints_the_table() -> None:
    (command,) = [shlex.split(block) for block in re.findall(r"```bash\n(python .*?)```", PAGE, re.DOTALL)]
    result = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") > 5
    assert f"|---|\n{result.stdout}\n" in PAGE
