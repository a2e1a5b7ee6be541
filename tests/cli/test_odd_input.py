"""Input that no honest person gives: one line, in no time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fedumm.cli.main import main
from fedumm.config import read_yaml
from fedumm.errors import FedummError
from fedumm.metrics.geneval import read_prompts
from fedumm.plain_yaml import MOST_NODES, load_plain

DEEP = "[" * 100_000


@pytest.mark.parametrize("backend", ["blip_vqa", "januspro"])
def test_a_question_that_no_model_reads_is_one_line(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    question = "what " * 5_000
    argv = ["ask", str(tmp_path / "a.png"), question, "--model_backend", backend, "--model_name_or_path", "tiny"]
    assert main(argv) == 2
    out, error = capsys.readouterr()
    assert not out
    assert "tokens, and the model reads " in error
    assert error.splitlines()[-1].startswith("fedumm ask: The question")
    assert "Traceback" not in error


@pytest.mark.parametrize("text", ["lr: &a 1\nseed: *a", "a: &a [1]\nb: {<<: [*a, *a]}", "seed: &a [*a]"])
def test_options_refer_to_no_place_of_themselves(text: str, tmp_path: Path) -> None:
    """What is doubled in each of thirty lines is a billion."""
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(FedummError, match="refers to another place of itself") as refusal:
        read_yaml(tmp_path / "o.yaml")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", [DEEP, "{a: " * 9_000, "- " * 50_000, f"[{'1,' * MOST_NODES}1]", "a: [", "\x00"])
def test_other_yaml_that_is_too_much_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        load_plain(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("line", [DEEP, "{}", "[]", '{"tag": 1}'])
def test_a_line_that_is_no_prompt_is_named(line: str, tmp_path: Path) -> None:
    good = json.dumps({"tag": "single_object", "prompt": "x", "include": [{"class": "circle", "count": 1}]})
    (tmp_path / "p.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(FedummError, match=r"^Line 2 of .* is no prompt"):
        read_prompts(tmp_path / "p.jsonl")
