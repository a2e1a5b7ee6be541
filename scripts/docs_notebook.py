#!/usr/bin/env python
"""Carry out ``docs/notebooks/first_run.ipynb`` again, and keep its output.

    python scripts/docs_notebook.py

It runs in an empty folder, whose path is left out of what is kept.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "first_run.ipynb"
QUIET = "ignore:IProgress not found"
"""tqdm asks for a library that shows its bars, of which there are none here, and names the folder it is in."""


def executed(folder: Path) -> Any:
    """The notebook after all of its cells were run in ``folder``, an :class:`nbformat.NotebookNode`.

    Raises:
        CellExecutionError: a cell of it fails (``nbclient.exceptions``).
    """
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    # By files, not by ports, which other users of the machine could listen to.
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(folder / "kernel"))
    client = NotebookClient(notebook, timeout=240, km=manager, resources={"metadata": {"path": str(folder)}})
    with mock.patch.dict(os.environ, PYTHONWARNINGS=QUIET, OMP_NUM_THREADS="1"):
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("data") != {"text/plain": ""}]
    return nbformat.from_dict(_without(f"{folder.resolve()}/", notebook))


def _without(folder: str, node: Any) -> Any:
    if isinstance(node, dict):
        # When each cell was run says nothing to a reader, and differs each time.
        return {key: _without(folder, value) for key, value in node.items() if key != "execution"}
    if isinstance(node, list):
        return [_without(folder, value) for value in node]
    return node.replace(folder, "") if isinstance(node, str) else node


def main() -> None:
    """Entry point."""
    import nbformat

    with tempfile.TemporaryDirectory(prefix="fedumm-notebook-") as folder:
        notebook = executed(Path(folder))
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
