"""Programs that some tests take and not every machine has."""

from __future__ import annotations

import os
import shutil

import pytest

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""Debian keeps daemons where only root looks."""


def needed(*programs: str) -> str:
    """The place of the first of ``programs``; without one of them the test is skipped, or with ``CI`` set it fails."""
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")
    return str(shutil.which(programs[0], path=PATH))


def needed_browser() -> str:
    """Chromium, by whichever name; without it the test is skipped, or with ``CI`` set it fails."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((place for name in names if (place := shutil.which(name, path=PATH))), "")
    return found or needed(names[0])
