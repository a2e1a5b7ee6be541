"""Checks, before any process is started, that a run can get its model and data from the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path

from fedumm.backends.registry import BACKENDS, backend_for
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import RunConfig
from fedumm.data.configurations import split_name
from fedumm.data.source import SOURCES, available_sources, is_hub_id


def check_hub(config: RunConfig) -> None:
    """Ask the Hub, or look into the cache, for the model and the data of a shipped backend.

    Raises:
        FedummError: something is neither there nor in the cache.
    """
    if not BACKENDS.is_shipped(config.model_backend):
        return
    if model := model_on_hub(config):
        from fedumm.data.hub_access import check_model

        check_model(model)
    _check_data(config.dataset or backend_for(config).hf_dataset_name(), config)


def model_on_hub(config: RunConfig) -> str:
    """The Hub's name of a shipped backend's model; empty if it is a folder here, or of another backend."""
    if not BACKENDS.is_shipped(config.model_backend):
        return ""
    model = config.model_name_or_path or getattr(backend_for(config), "default_model", "")
    where = resolve_checkpoint(config.model_backend, model) if model else "."
    return "" if Path(where).is_dir() else where


def _check_data(dataset: str, config: RunConfig) -> None:
    from fedumm.data import hub, vqav2

    if dataset == "vqav2" and SOURCES.is_shipped(dataset):
        hub.check_split(vqav2.TRAIN, config.data_path)
        hub.check_split(vqav2.EVAL, config.data_path)
    elif (
        dataset not in available_sources() and is_hub_id(where := split_name(dataset)[0]) and not os.path.exists(where)
    ):
        hub.check_split(where, config.data_path)
