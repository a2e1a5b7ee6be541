"""``make test-pythons`` says what it tried, and what it skipped does not count."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

import test_pythons


def machine(monkeypatch: pytest.MonkeyPatch, there: set[str], broken: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Pythons ``there``, those that are ``broken`` with a test that fails."""
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name.removeprefix("python") in there else None)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        fails = any(f".venv-{version}/" in command[0] for version in broken) and "compat" in command
        return subprocess.CompletedProcess(command, int(fails))

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.parametrize(
    ("there", "broken", "status"), [({"3.10", "3.12"}, set(), 0), ({"3.11", "3.13"}, {"3.13"}, 1), (set(), set(), 1)]
)
def test_the_status_is_that_of_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: set[str], broken: set[str], status: int
) -> None:
    machine(monkeypatch, there, broken)
    assert test_pythons.main() == status
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[-len(test_pythons.VERSIONS) :])
    for version in test_pythons.VERSIONS:
        result = told[f"Python {version}"]
        assert (result == "skipped, not installed") == (version not in there)
        assert result.startswith("failed: ") == (version in broken)
