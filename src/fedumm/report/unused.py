"""Run folders that nothing was recorded in."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedumm.report.answers_digest import DIGEST
from fedumm.report.partition_file import PARTITION
from fedumm.report.plugin_digest import DIGESTS
from fedumm.report.run_folder import CONFIG, LOCK
from fedumm.trackers.tracking import KNOWN

_BEFORE_THE_FIRST_RECORD = {CONFIG, LOCK, PARTITION, "partition.png", "data.json", DIGESTS, DIGEST, KNOWN}


def remove_unused(path: Path) -> None:
    """Remove the folder of a run that failed before it recorded anything, unless something is in it to look at."""
    if {entry.name for entry in path.iterdir()} <= _BEFORE_THE_FIRST_RECORD:
        shutil.rmtree(path)
