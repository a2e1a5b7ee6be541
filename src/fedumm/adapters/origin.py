"""Which model an adapter belongs to: a small file in its folder, so that a copy of the folder knows it too."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fedumm.config import RunConfig
from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

ORIGIN = "fedumm.json"
_LONGEST = 4096
_MOST_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The options of a run that its model depends on.

    ``model_name_or_path`` is empty for the backend's default. ``plugin`` holds the names of the plugins that the model
    needs, without their folders, joined as in ``PATH``: they are never looked for, since what they hold would be run.
    ``prompt`` is empty for the model's own. ``lora_r`` and ``lora_alpha`` are those of the options; where the adapter
    is one of PEFT, its own configuration has the last word.
    """

    model_backend: str
    model_name_or_path: str
    plugin: str
    lora_targets: str
    task: str
    prompt: str
    lora_r: int
    lora_alpha: int

    @classmethod
    def of(cls, config: RunConfig, plugins: Sequence[str] = ()) -> Origin:
        """That of a run's adapters; ``plugins`` are the files without which its model can't be made."""
        return cls(
            model_backend=config.model_backend,
            model_name_or_path=_absolute(config.model_name_or_path),
            plugin=os.pathsep.join(Path(file).name for file in plugins),
            lora_targets=config.lora_targets,
            task=config.task,
            prompt=config.prompt,
            lora_r=config.rank,
            lora_alpha=config.alpha,
        )

    def text(self) -> str:
        """What the file holds."""
        return json.dumps(asdict(self), indent=2) + "\n"


def _absolute(name: str) -> str:
    """A local folder by its full name; other names, which mean something to the backend, as they are."""
    path = os.path.expanduser(name)
    return os.path.realpath(path) if name not in ("", "tiny") and os.path.isdir(path) else name


def read_origin(folder: Path) -> Origin | None:
    """What the file in an adapter's ``folder`` says; None if there is none.

    Raises:
        FedummError: it is there and not what :meth:`Origin.text` writes. No text of it is shown as it is.
    """
    path = folder / ORIGIN
    try:
        if not os.path.lexists(path):
            return None
        if not path.is_file():  # opening another kind may wait for ever
            raise ValueError("it is no file")
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError(f"it is longer than {_MOST_BYTES:,} bytes")
        return _checked(json.loads(data))
    except (OSError, ValueError, RecursionError) as error:
        raise FedummError(f"{path} does not tell which model the adapter belongs to: {one_line(error)}.") from error


def _plain(name: str, value: str) -> bool:
    return (value.replace("\n", "") if name == "prompt" else value).isprintable()


def _checked(content: object) -> Origin:
    if not isinstance(content, dict):
        raise ValueError("it holds no object")
    kinds: dict[str, type] = {f.name: int if f.type == "int" else str for f in fields(Origin)}
    for name in content.keys() - kinds.keys():
        raise ValueError(f"the entry {name[:40]!r} is unknown.{did_you_mean(name[:40], kinds)}".rstrip(".?"))
    for name, kind in kinds.items():
        if name not in content:
            raise ValueError(f"it lacks {name}")
        value = content[name]
        if type(value) is not kind:
            raise ValueError(f"{name} is no {'number' if kind is int else 'text'}")
        if isinstance(value, str) and not (len(value) <= _LONGEST and _plain(name, value)):
            raise ValueError(f"{name} is longer than {_LONGEST:,} characters, or holds some that can't be printed")
    return Origin(**content)
