"""Python files of a user's own, which register things: backends, aggregators, data sources, and so on.

Code is run only if its file is named on the command line of this very call, or belongs to an installed package. So no
function here takes a file's name from another file, and none is within reach of a job
(:mod:`fedumm.flare`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedumm.errors import FedummError
from fedumm.registry import Registration, registrations

_loaded: dict[str, tuple[str, list[Registration]]] = {}


def plugin_files(joined: str) -> tuple[str, ...]:
    """The files of a value of ``--plugin``, in which they are joined as in ``PATH``."""
    return tuple(os.path.expanduser(file) for file in joined.split(os.pathsep) if file)


def load_plugins(files: Sequence[str], again: bool = False) -> None:
    """Run Python files that register something, each once: in one process a second call only registers it again.

    Args:
        again: run them also if they were: a command begins so.

    Raises:
        FedummError: a file is missing, fails, or registers nothing.
    """
    for file in files:
        if not os.path.isfile(file):
            raise FedummError(f"--plugin {file}: no such file.")
    for file in files:
        if again:
            _loaded.pop(os.path.realpath(file), None)
        _load_once(file)


def digest_of(file: str) -> str:
    """SHA-256 of a plugin, in hexadecimal.

    Raises:
        FedummError: it can't be read.
    """
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except FileNotFoundError:
        raise FedummError(f"--plugin {file}: no such file.") from None
    except OSError as error:
        raise FedummError(f"--plugin {file} can't be read: {error}.") from error


def _load_once(file: str) -> None:
    path, digest = os.path.realpath(file), digest_of(file)
    known, own = _loaded.get(path, ("", []))
    if known == digest:
        for registry, name, item in own:
            registry.register(name, item)
        return
    with registrations() as log:
        _run(file)
    if not log:
        raise FedummError(
            f"--plugin {file} registered nothing: end it with register_backend(name, backend), or another of fedumm's "
            "register functions."
        )
    _loaded[path] = digest, log


def _run(file: str) -> None:
    # Two files of one name in different folders are two modules.
    name = f"fedumm_plugin_{Path(file).stem}_{hashlib.sha256(os.path.realpath(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise FedummError(f"--plugin {file}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    # Known by name, so that data loader workers can unpickle the file's classes.
    sys.modules[name] = module
    try:
        # Not by the loader, which takes what it compiled before for a file of the same size, changed within a second.
        exec(compile(Path(file).read_bytes(), file, "exec"), module.__dict__)
    except FedummError:
        raise
    except Exception as error:
        raise FedummError(f"--plugin {file} failed: {type(error).__name__}: {error}") from error
