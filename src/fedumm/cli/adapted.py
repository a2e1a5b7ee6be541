"""A model with an adapter, for the commands that use one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.errors import FedummError

if TYPE_CHECKING:
    from fedumm.training.backbone import Backbone

_OF_RUN = ("model_backend", "model_name_or_path", "backend_file", "lora_targets")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`load_adapted` reads."""
    parser.add_argument("--adapter", default="", help="adapter folder of a run (empty: the model without one)")
    parser.add_argument("--model_backend", default="", help="backend (default: the one the adapter was trained with)")
    parser.add_argument("--model_name_or_path", default="", help="model (default: the one the adapter was trained on)")
    parser.add_argument("--backend_file", default="", help="Python file that registers the backend")
    parser.add_argument("--gpu", default="", help="GPU id; cpu: none (default: the first, if there is one)")


def load_adapted(given: argparse.Namespace) -> Backbone:
    """The model that the options name, with its adapter.

    Raises:
        FedummError: no model is named, or the adapter does not fit it.
    """
    from fedumm.adapters.folder import read_folder
    from fedumm.backends import load_backend_file
    from fedumm.config import RunConfig
    from fedumm.training.backbone import load_backbone, pick_device

    state, peft = read_folder(given.adapter) if given.adapter else ({}, {})
    options: dict[str, Any] = _run_options(Path(given.adapter)) if given.adapter else {}
    options |= {name: getattr(given, name) for name in _OF_RUN[:3] if getattr(given, name)}
    if "model_backend" not in options:
        raise FedummError("Say which model to use: --adapter FOLDER of a run, or --model_backend.")
    if peft:
        options |= {"lora_r": peft["r"], "lora_alpha": peft["lora_alpha"]}
    config = RunConfig(**options)
    if config.backend_file:
        load_backend_file(config.backend_file)
    backbone = load_backbone(config, pick_device(given.gpu))
    if state:
        try:
            backbone.put(state)
        except ValueError as error:
            raise FedummError(
                f"{given.adapter} does not fit the model {config.model_name_or_path or 'default'!r}: {error}"
            ) from error
    return backbone


def _run_options(adapter: Path) -> dict[str, str]:
    """Model options from the ``config.yaml`` of the run (or output) folder that holds ``adapter``."""
    from fedumm.config import read_yaml

    for folder in list(adapter.resolve().parents)[:3]:
        if (folder / "config.yaml").is_file():
            values = read_yaml(folder / "config.yaml")
            # Which layers have LoRA may depend on what was learnt.
            names = (*_OF_RUN, "task") if values.get("lora_targets") == "all" else _OF_RUN
            return {name: values[name] for name in names if values.get(name)}
    return {}
