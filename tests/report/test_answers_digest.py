"""A run goes on with the answers that it began with, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedumm.cli.resume import resumed
from fedumm.errors import FedummError
from fedumm.report.answers_digest import DIGEST
from fedumm.report.run_folder import create
from support.toy import toy_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of a run with a file of answers beside it."""
    (tmp_path / "answers.txt").write_text("red\nblue\n")
    config = toy_config(answers=str(tmp_path / "answers.txt"), plugin="", model_backend="blip_vqa")
    create(tmp_path / "run", config, "a test").release()
    return tmp_path / "run"


def test_the_folder_holds_a_digest_and_no_answer(run: Path) -> None:
    assert len((run / DIGEST).read_text().strip()) == 64
    assert not [file for file in run.iterdir() if b"blue" in file.read_bytes()]
    (run.parent / "answers.txt").write_text("red\n\n  blue\nred\n")
    assert resumed({"resume": str(run)}).answers == str(run.parent / "answers.txt"), "the same answers"


def test_other_answers_would_change_the_scores(run: Path) -> None:
    for content in ("red\n", "blue\nred\n"):
        (run.parent / "answers.txt").write_text(content)
        with pytest.raises(FedummError, match="--answers"):
            resumed({"resume": str(run)})
    (run.parent / "answers.txt").unlink()
    with pytest.raises(FedummError, match="--answers"):
        resumed({"resume": str(run)})


def test_a_damaged_digest_is_no_leave(run: Path) -> None:
    (run / DIGEST).write_bytes(b"\xff\xfe")
    with pytest.raises(FedummError, match="--answers"):
        resumed({"resume": str(run)})


def test_a_run_without_answers_keeps_none(tmp_path: Path) -> None:
    create(tmp_path / "run", toy_config(plugin="", model_backend="blip_vqa"), "a test").release()
    assert not (tmp_path / "run" / DIGEST).exists()
