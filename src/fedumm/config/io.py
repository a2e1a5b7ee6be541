"""Options from and to mappings and YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

from fedumm.config.fields import Options, coerced, option_fields
from fedumm.config.run import RunConfig
from fedumm.errors import FedummError
from fedumm.files import write_atomically
from fedumm.texts import one_line

REPEAT = "# Repeat this run:"
"""How every ``config.yaml`` of a run begins."""

OF_ONE_RUN = ("name", "overwrite", "resume", "resume_if_exists", "dry_run")
"""Options that a repetition must not inherit: it has a run folder of its own."""

CODE = "plugin"
"""The option that names code. No file holds it: whoever reads a file of options must not run what its author chose."""

_LONGEST_FILE = 1_000_000

AnyOptions = TypeVar("AnyOptions", bound=Options)
AnyConfig = TypeVar("AnyConfig", bound=RunConfig)


def build(options: type[AnyOptions], values: Mapping[str, Any], **more: Any) -> AnyOptions:
    """An instance of values as YAML or a command line gives them, with ``more`` fields that are no options.

    Raises:
        FedummError: an option is missing, or has a value that it can't have.
    """
    known = {f.name: f for f in option_fields(options)}
    for name, f in known.items():
        if name not in values and f.default is MISSING:
            raise FedummError(f"--{name} is required ({f.metadata['help']}).")
    return options(**{name: coerced(known[name], value) for name, value in values.items()}, **more)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Options from a YAML file of ``name: value`` lines; none of them may name code."""
    from fedumm.plain_yaml import load_plain

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST_FILE + 1)
        if len(text) > _LONGEST_FILE:
            raise ValueError(f"it is longer than {_LONGEST_FILE:,} characters")
        content = load_plain(text)
    except FileNotFoundError:
        raise FedummError(f"Config file not found: {path}") from None
    except (OSError, ValueError) as error:
        raise FedummError(f"Config file {path} can't be read as YAML: {one_line(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise FedummError(f"Config file {path} must hold lines of the form 'name: value'.")
    if content.pop(CODE, None):
        raise FedummError(
            f"Config file {path} names a {CODE}, and code is run only if you name it yourself: take that line out, and "
            f"add --{CODE} FILE to the command."
        )
    return content


def write_yaml(options: Mapping[str, Any], path: Path, command: str) -> None:
    """Write every option but the run folder's and code, with the command that repeats the run as a comment."""
    import yaml

    kept = {name: value for name, value in options.items() if name not in (*OF_ONE_RUN, CODE)}
    text = yaml.safe_dump(kept, sort_keys=False)
    # A line break or control character in an argument would end the comment.
    comment = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in command)
    write_atomically(path, f"{REPEAT} {comment}\n{text}")


def command_of(text: str) -> str:
    """The command that the text of such a file begins with."""
    return text.split("\n", 1)[0].removeprefix(REPEAT).strip()


def is_ours(path: Path) -> bool:
    """Whether ``path`` is a file of :func:`write_yaml`: many programs have a ``config.yaml``."""
    return path.is_file() and path.read_bytes().startswith(REPEAT.encode())
