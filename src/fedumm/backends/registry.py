"""Backends by name: shipped ones, entry points of installed packages, and users' own files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fedumm.backends.protocol import REQUIRED_METHODS, Backend, HasTasks, TakesPrecision
from fedumm.config import RunConfig
from fedumm.errors import FedummError, did_you_mean

SHIPPED = {"blip_vqa": "fedumm.backends.blip_vqa", "januspro": "fedumm.backends.januspro"}
ANSWER_ONLY = ("blip_vqa",)
"""Those of them that have one task: known without importing any."""

ENTRY_POINT_GROUP = "fedumm.backends"
_registered: dict[str, Backend] = {}


def register_backend(name: str, backend: Any) -> None:
    """Make ``backend`` (an object, or a class without arguments) known as ``name``.

    A later registration replaces an earlier one.

    Raises:
        FedummError: a method of the protocol is missing.
    """
    if isinstance(backend, type):
        backend = backend()
    missing = [m for m in REQUIRED_METHODS if not callable(getattr(backend, m, None))]
    if missing:
        raise FedummError(f"Backend {name!r} lacks the method(s) {', '.join(missing)}.")
    _registered[name] = backend


def available_backends() -> list[str]:
    """Names that :func:`get_backend` knows, sorted."""
    return sorted({*SHIPPED, *_registered, *(e.name for e in entry_points(group=ENTRY_POINT_GROUP))})


def check_backend_name(name: str) -> None:
    """Raise :class:`FedummError` for an unknown name, without importing any backend."""
    if name not in available_backends():
        raise FedummError(
            f"Unknown backend {name!r}. Available: {', '.join(available_backends())}."
            f"{did_you_mean(name, available_backends())}"
            " A backend of your own is loaded with --backend_file."
        )


def check_backend_file(path: str) -> None:
    """Raise :class:`FedummError` if there is no such file, without running it."""
    if not os.path.isfile(path):
        raise FedummError(f"--backend_file {path}: no such file.")


def get_backend(name: str) -> Backend:
    """The backend called ``name``, imported on first use.

    Raises:
        FedummError: no such backend; the message lists those there are.
    """
    check_backend_name(name)
    if name not in _registered and name in SHIPPED:
        importlib.import_module(SHIPPED[name])
    elif name not in _registered:
        _load_entry_point(name)
    return _registered[name]


def backend_for(config: RunConfig) -> Backend:
    """The backend of a run, for the run's tasks and precision.

    Raises:
        FedummError: no such backend, or it can't do what ``--task`` or ``--lora_targets`` asks for.
    """
    backend = get_backend(config.model_backend)
    if isinstance(backend, TakesPrecision):
        backend = backend.for_precision(config.precision)
    if isinstance(backend, HasTasks):
        return backend.for_tasks(config.tasks, config.lora_targets)
    check_answers_only(config)
    return backend


def check_answers_only(config: RunConfig) -> None:
    """Raise :class:`FedummError` if ``config`` asks for what a backend without ``for_tasks`` can't do."""
    if config.tasks != ("vqa",):
        raise FedummError(f"--task {config.task}: the backend {config.model_backend!r} can only answer (--task vqa).")
    if config.lora_targets != "attention":
        raise FedummError(
            f"--lora_targets {config.lora_targets}: the backend {config.model_backend!r} leaves no choice."
        )


def _load_entry_point(name: str) -> None:
    """An entry point names a module that registers itself, or a backend class."""
    (point,) = list(entry_points(group=ENTRY_POINT_GROUP, name=name))[:1]
    try:
        loaded = point.load()
        if isinstance(loaded, type):
            register_backend(name, loaded)
    except FedummError:
        raise
    except Exception as error:
        raise FedummError(
            f"The entry point {point.value!r} of the backend {name!r} failed: {type(error).__name__}: {error}"
        ) from error
    if name not in _registered:
        raise FedummError(f"The entry point {point.value!r} did not register a backend called {name!r}.")


def load_backend_file(path: str) -> None:
    """Run a Python file that calls :func:`register_backend`.

    Raises:
        FedummError: the file is missing, fails, or registers nothing.
    """
    check_backend_file(path)
    file = Path(path)
    before = dict(_registered)
    module_name = f"fedumm_backend_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise FedummError(f"--backend_file {path}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    # Known by name, so that data loader workers can unpickle the file's classes.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except FedummError:
        raise
    except Exception as error:
        raise FedummError(f"--backend_file {path} failed: {type(error).__name__}: {error}") from error
    if _registered == before:
        raise FedummError(f"--backend_file {path} registered nothing: end it with register_backend(name, backend).")
