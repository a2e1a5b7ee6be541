"""Runs steps in a process of its own, so that ``HF_ENDPOINT`` and ``HF_HOME`` take effect.

Its argument is a folder: ``steps.json`` there holds a list of steps, and in the end
``results.json`` what became of them. Before each step the Hugging Face libraries are as at
the start.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load(name: str, **request: Any) -> dict[str, Any]:
    """Rows of a data set; the images are read too."""
    from fedumm.data import DataRequest, load_data, read_image

    columns = ("image", "question", "multiple_choice_answer", "answers")
    splits = load_data(name, DataRequest(columns=columns, **request))
    return {
        kind: {
            "rows": rows.num_rows,
            "columns": sorted(rows.column_names),
            "first": {name: value for name, value in rows[0].items() if name != "image"},
            "sizes": [list(read_image(rows, row).size) for row in (0, len(rows) - 1)],
        }
        for kind, rows in (("train", splits.train), ("eval", splits.eval))
    }


def raw(name: str, configuration: str = "", **request: Any) -> dict[str, Any]:
    """Rows as the data set has them; of an image, how large it is. None for a split that is not there."""
    from fedumm.data import DataRequest
    from fedumm.data.hub import load_hub
    from fedumm.data.request import RowChoice

    splits = load_hub(name, DataRequest(**request), configuration)
    parts: dict[str, Any] = {"train": splits.train, "eval": splits.eval}
    for kind, rows in parts.items():
        if isinstance(rows, RowChoice):
            parts[kind] = rows.table.select(rows.numbers)
    return {kind: None if rows is None else [_without_pixels(row) for row in rows] for kind, rows in parts.items()}


def _without_pixels(row: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value.size) if hasattr(value, "size") else value for name, value in row.items()}


def prefetch(name: str, **options: Any) -> dict[str, Any]:
    """What a user may have done to fill the cache."""
    from datasets import load_dataset

    return {"splits": sorted(load_dataset(name, **options))}


def model(name: str) -> dict[str, Any]:
    """The parameters of a BLIP model."""
    from fedumm.backends.blip_vqa.model import load_pretrained

    return {"parameters": sum(p.numel() for p in load_pretrained(name)[0].parameters())}


def command(*argv: str) -> dict[str, Any]:
    """``fedumm`` with these arguments."""
    from fedumm.cli.main import main

    return {"status": main(argv)}


KINDS: dict[str, Callable[..., dict[str, Any]]]
KINDS = {"load": load, "raw": raw, "prefetch": prefetch, "model": model, "command": command}


def run(kind: str, *args: str, **options: Any) -> dict[str, Any]:
    """One step: its result or its error, what it printed, and how long it took (seconds)."""
    import datasets
    from huggingface_hub import constants

    from fedumm.data import hub_access
    from fedumm.errors import FedummError

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE, hub_access._found_away
    out, err = io.StringIO(), io.StringIO()
    start = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            result = KINDS[kind](*args, **options)
        except FedummError as error:
            result = {"error": str(error)}
    constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE, hub_access._found_away = before
    return {**result, "out": out.getvalue(), "err": err.getvalue(), "seconds": time.monotonic() - start}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    steps = json.loads((folder / "steps.json").read_text())
    if any(kind in ("model", "command") for kind, _, _ in steps):
        # Their seconds are not the step's.
        import fedumm.backends.blip_vqa
        import fedumm.training.centralized  # noqa: F401
    (folder / "results.json").write_text(json.dumps([run(kind, *args, **options) for kind, args, options in steps]))
