"""Files are replaced whole or not at all, and nobody who lists a folder takes a draft for a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedumm.files import replacing, write_atomically


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.json"
    write_atomically(file, "old")
    write_atomically(file, "größer")
    assert file.read_text(encoding="utf-8") == "größer"

    def failing(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, "new")
    assert file.read_text(encoding="utf-8") == "größer"


@pytest.mark.parametrize("name", ["host-1.json", "000001.safetensors", "rounds.png", "part.tmp", "metrics.jsonl"])
def test_a_draft_is_no_file_of_its_kind(tmp_path: Path, name: str) -> None:
    """Other processes list folders by patterns while a file is written."""
    with replacing(tmp_path / name) as draft:
        draft.write_text("half")
        assert draft.parent == tmp_path
        assert not list(tmp_path.glob(f"*{Path(name).suffix}"))
    assert list(tmp_path.glob("*")) == [tmp_path / name]
