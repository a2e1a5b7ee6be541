"""What the tests share: one torch thread, and quick runs of a small backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.federation.runners.in_process import run_in_process
from fedumm.registry import REGISTRIES
from fedumm.report.run_folder import RunFolder, create, read_records
from support.toy import Run, toy_config


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features that tests keep are found by tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDUMM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _forget_registrations() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    for registry in REGISTRIES:
        for name in registry.own():
            registry.forget(name)


@pytest.fixture
def run_toy(tmp_path: Path) -> Run:
    """Runs :func:`toy_config` with the options given, in process; returns the run folder and its records."""

    def run(name: str = "run", **options: Any) -> tuple[Path, list[dict[str, Any]]]:
        config = toy_config(**options)
        create(tmp_path / name, config, "test").release()
        run_in_process(config, RunFolder(tmp_path / name, config), lambda *_: None)
        return tmp_path / name, list(read_records(tmp_path / name))

    return run
