"""A model with an adapter, for the commands that use one."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli.options import Joined
from fedumm.errors import FedummError
from fedumm.tasks import I2T
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.adapters import AdapterState
    from fedumm.adapters.origin import Origin
    from fedumm.config import RunConfig
    from fedumm.training.backbone import Backbone

_GIVEN = ("model_backend", "model_name_or_path", "plugin", "answers", "answer_mode", "prompt")
_UNSUPPORTED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "layer_replication")
"""Settings of PEFT that change what an adapter does, and that fedumm does not support."""


def add_model_options(parser: argparse._ActionsContainer) -> None:
    """The options that :func:`load_adapted` reads."""
    parser.add_argument("--adapter", default="", help="adapter folder of a run (empty: the model without one)")
    parser.add_argument("--model_backend", default="", help="backend (default: the one the adapter was trained with)")
    parser.add_argument("--model_name_or_path", default="", help="model (default: the one the adapter was trained on)")
    parser.add_argument(
        "--plugin", action=Joined, default="", help="Python file that registers the backend; it is run; may be repeated"
    )
    parser.add_argument("--gpu", default="", help="GPU id; cpu: none (default: the first, if there is one)")


def load_adapted(given: argparse.Namespace) -> Backbone:
    """The model that the options name, with its adapter.

    What the options leave out is taken from the adapter's folder, and told on stderr. No code is taken from there, and
    nothing is fetched that only the folder names.

    Raises:
        FedummError: no model is named, or the adapter does not fit it.
    """
    config, state = adapted_config(given)
    check_named(given, config)
    return with_adapter(given, config, state)


def with_adapter(
    given: argparse.Namespace,
    config: RunConfig,
    state: AdapterState,
    candidates: Sequence[str] = (),
    references: Sequence[Sequence[str]] = (),
) -> Backbone:
    """The model of ``config`` with the adapter ``state``, both of :func:`adapted_config`.

    Args:
        candidates, references: see :func:`fedumm.training.backbone.load_backbone`.

    Raises:
        FedummError: the adapter does not fit the model.
    """
    from fedumm.training.backbone import load_backbone
    from fedumm.training.device import pick_device

    device = pick_device(given.gpu)
    line = _said(given, config) if given.adapter else ""
    if line:
        print(line, file=sys.stderr)
    backbone = load_backbone(config, device, candidates, references)
    for warning in backbone.warnings():
        print(one_line(warning), file=sys.stderr)
    if given.adapter:
        try:
            backbone.put(state)
        except ValueError as error:
            raise FedummError(
                f"{given.adapter} does not fit the model {config.model_name_or_path or 'default'!r}: {one_line(error)}"
            ) from error
    return backbone


def check_named(given: argparse.Namespace, config: RunConfig) -> None:
    """Raise :class:`FedummError` for a model that only the adapter names, and that is not on this machine."""
    if not given.model_name_or_path and config.model_name_or_path != _default_model(config):
        _check_named(config.model_name_or_path)


def _default_model(config: RunConfig) -> str:
    from fedumm.backends import get_backend

    return str(getattr(get_backend(config.model_backend), "default_model", ""))


def _said(given: argparse.Namespace, config: RunConfig) -> str:
    """Which model it is, where the adapter says so, or says another one; else nothing."""
    from fedumm.adapters.origin import read_origin

    model = config.model_name_or_path
    line = f"Model: {one_line(model or _default_model(config) or 'the default')} (backend {config.model_backend})"
    if not given.model_name_or_path:
        return f"{line}, as the adapter says"
    origin = read_origin(Path(given.adapter))
    trained = origin.model_name_or_path if origin else ""
    # Of a folder that is not here, the named one may be a copy.
    moved = os.path.isabs(trained) and not os.path.isdir(trained)
    if not trained or moved or os.path.realpath(os.path.expanduser(model)) == os.path.realpath(trained):
        return ""
    return f"{line}. The adapter was trained on {one_line(trained)}: of another model, its answers mean nothing."


def adapted_config(given: argparse.Namespace) -> tuple[RunConfig, AdapterState]:
    """The options of the model, and the adapter's weights (none without ``--adapter``). No model is loaded.

    Raises:
        FedummError: no model is named, or the adapter's folder is damaged.
    """
    from fedumm.adapters.folder import read_folder
    from fedumm.adapters.origin import ORIGIN
    from fedumm.config import RunConfig

    options: dict[str, Any] = {name: getattr(given, name) for name in _GIVEN if getattr(given, name, "")}
    if not given.adapter:
        if "model_backend" not in options:
            raise FedummError("Say which model to use: --adapter FOLDER of a run, or --model_backend.")
        return RunConfig(**options), {}
    state, peft = read_folder(given.adapter)
    options = _of_folder(given) | _of_peft(given.adapter, peft, state) | options
    try:
        return RunConfig(**options), state
    except FedummError as error:
        raise FedummError(f"{Path(given.adapter) / ORIGIN}: {one_line(error)}") from error


def _of_folder(given: argparse.Namespace) -> dict[str, Any]:
    """What the adapter's folder tells of its model; with the backend from a file, only if the user names a backend."""
    from fedumm.adapters.origin import ORIGIN, read_origin

    origin = read_origin(Path(given.adapter))
    if origin is None:
        if given.model_backend:
            return {}
        raise FedummError(
            f"{given.adapter} holds no {ORIGIN}, so it does not say which model it belongs to. Add --model_backend, "
            "and --model_name_or_path if that is not the backend's default."
        )
    if origin.plugin and not (given.plugin or given.model_backend):
        raise FedummError(
            f"{given.adapter} was trained with the backend {origin.model_backend!r} and the plugin {origin.plugin!r}. "
            "Such a file is run only if you name it: --plugin FILE."
        )
    return _model_options(origin)


def _model_options(origin: Origin) -> dict[str, Any]:
    names = ["model_backend", "model_name_or_path", "lora_targets", "lora_r", "lora_alpha", "prompt"]
    if origin.lora_targets == "all" or origin.task == I2T.name:
        # Which layers have LoRA, and what is asked, depends on what was learnt.
        names.append("task")
    return {name: getattr(origin, name) for name in names}


def _of_peft(folder: str, peft: Mapping[str, Any], state: AdapterState) -> dict[str, Any]:
    """Rank and alpha by ``adapter_config.json``, which is empty for a model without PEFT."""
    from fedumm.adapters.factors import factor_of
    from fedumm.adapters.folder import CONFIG

    if not peft:
        return {}
    for name in _UNSUPPORTED:
        if peft.get(name) not in (None, False, "none", {}, []):
            raise FedummError(f"{folder}/{CONFIG} sets {name}, which fedumm does not support.")
    rank, alpha = peft.get("r"), peft.get("lora_alpha")
    for name, value in (("r", rank), ("lora_alpha", alpha)):
        if type(value) is not int or not 0 < value < 10**8:
            raise FedummError(f"{folder}/{CONFIG}: {name} must be a positive whole number.")
    # A layer of another rank would be made, of whatever size, before it is seen that the weights do not fit.
    ranks = {t.shape[0] if t.dim() else 0 for name, t in state.items() if factor_of(name) == "A"}
    if ranks != {rank}:
        found = ", ".join(map(str, sorted(ranks)[:5])) or "no LoRA"
        raise FedummError(f"{folder}/{CONFIG} says rank {rank}, but the weights beside it have {found}.")
    return {"lora_r": rank, "lora_alpha": alpha}


def _check_named(name: str) -> None:
    """A model that only the adapter names must be on this machine.

    Raises:
        FedummError: it is not.
    """
    if name in ("", "tiny") or (os.path.isabs(name) and os.path.exists(name)) or _in_hub_cache(name):
        return
    if os.path.isabs(name):
        raise FedummError(
            f"The adapter was trained on the model in {name}, which is not there. Say where it is now: "
            "--model_name_or_path FOLDER."
        )
    raise FedummError(
        f"The adapter was trained on the model {name!r}, which is not on this machine. To fetch it, name it yourself: "
        f"--model_name_or_path {shlex.quote(name)}"
    )


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # not a name that the Hub could have
        return False
