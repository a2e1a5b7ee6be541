"""The Python of a page runs from top to bottom, on fewer samples and in one round."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fedumm
from support.pages import ROOT, blocks

FEW = {"max_train_samples": 40, "max_eval_samples": 12, "num_rounds": 1, "num_clients": 2, "threads": 1}


@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/python.md", marks=pytest.mark.slow)])
def test_it_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("picture.png")
    federate = fedumm.federate
    monkeypatch.setattr(fedumm, "federate", lambda **given: federate(**{**given, **FEW}))
    shown: list[Any] = []
    monkeypatch.setattr(builtins, "print", lambda *values, **_: shown.extend(values))
    code = "\n".join(block for block in blocks(ROOT / page, "python") if "register_backend(" not in block)
    exec(compile(code, page, "exec"), {})
    assert any("test" in getattr(value, "columns", ()) for value in shown), "a table of rounds"
    assert any(path.suffix in (".png", ".pdf") for path in tmp_path.glob("rounds.*"))
