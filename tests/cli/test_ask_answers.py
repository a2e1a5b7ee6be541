"""``fedumm ask`` writes known answers as the user does, and chooses among them if it is to."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fedumm.cli.main import main
from support.vlm_families import save


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("shape.png")


def ask(*options: str) -> int:
    model = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--gpu", "cpu"]
    return main(["ask", "shape.png", "what color is the shape?", *model, *options])


def test_a_known_answer_is_written_as_the_file_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask() == 0
    said = capsys.readouterr().out.strip()
    Path("answers.txt").write_text(f"other\n{said.upper()}\n")
    assert ask("--answers", "answers.txt") == 0
    assert capsys.readouterr().out.strip() == said.upper() != said


@pytest.mark.parametrize("choices", [["X-Ray", "no, thanks"], ["Don't know"]])
def test_the_answer_is_one_of_the_file(choices: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers.txt").write_text("\n".join(choices))
    assert ask("--answers", "answers.txt", "--answer_mode", "rank") == 0
    assert capsys.readouterr().out.strip() in choices


@pytest.mark.parametrize(
    "options",
    [["--answer_mode", "rank"], ["--answers", "missing.txt"], ["--answers", "shape.png"], ["--answer_mode", "guess"]],
)
def test_what_can_t_be_ranked_is_an_error_before_a_model_is_loaded(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedumm.cli.ask.load_adapted", lambda *_: pytest.fail("a model was loaded"))
    assert ask(*options) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert "--answer" in errors


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_without_its_chat_template_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save("llava", tmp_path / "model")
    asked = [
        "ask",
        "shape.png",
        "What?",
        "--model_backend",
        "hf_vlm",
        "--model_name_or_path",
        str(folder),
        "--gpu",
        "cpu",
    ]
    assert main(asked) == 0
    assert "chat template" not in capsys.readouterr().err
    for file in folder.glob("chat_template*"):
        file.unlink()
    assert main(asked) == 0
    assert "No chat template in the model's files" in capsys.readouterr().err
