"""Texts that hold special tokens of a model are found before a run, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fedumm.cli.main import main
from support.vlm_families import save

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_they_are_named_by_their_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    rows = ["image,question,answer"]
    for number in range(20):
        Image.new("RGB", (40, 40), (number * 10, 0, 0)).save(folder / f"{number}.png")
        asked = "what <image> is it?" if number in (3, 11) else "what is it?"
        rows.append(f"{number}.png,{asked},{'</s>' if number == 5 else 'a dot'}")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    model = str(save("llava", tmp_path / "model"))
    assert main(["check", str(folder), "--model_backend", "hf_vlm", "--model_name_or_path", model])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "3 texts hold special tokens of this model" in line
    assert "'<image>' in 'what <image> is it?'" in line
    assert "(multiple_choice_answer): '</s>'" in line
