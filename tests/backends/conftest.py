"""One random Janus for all tests of its backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.backends.januspro.dataset import JanusDataset
from fedumm.data import DataRequest, load_data
from make_tiny_janus import build_model, build_processor
from support.random_janus import COLUMNS, build


@pytest.fixture(scope="session")
def janus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Janus of the tiny architecture with random weights, in the native layout."""
    path = tmp_path_factory.mktemp("janus")
    torch.manual_seed(0)
    processor = build_processor()
    build_model(processor).save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def janus_rows() -> Any:
    """24 scenes with questions and captions."""
    request = DataRequest(columns=COLUMNS, mix={"vqa": 1, "t2i": 1}, max_train_samples=24, max_eval_samples=4)
    return load_data("shapes", request).train


@pytest.fixture(scope="module")
def built(janus_folder: Path) -> Any:
    """Backend, PEFT model and processor."""
    return build(janus_folder)


@pytest.fixture(scope="module")
def janus_data(built: Any, janus_rows: Any) -> JanusDataset:
    """The rows as the backend's data set."""
    backend, _, processor = built
    return backend.build_dataset(janus_rows, processor, 64, 16)  # type: ignore[no-any-return]
