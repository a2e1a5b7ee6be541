"""A data set as a user names it: a relative path, a file, a configuration, columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedumm.cli.main import main
from fedumm.cli.options import with_absolute_paths
from fedumm.config import FederateConfig
from fedumm.training.data import load_splits
from support.layouts import jsonl, pictures, reds, write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of 16 questions on 8 pictures, whose data card calls it a configuration, too."""
    names = [f"{number}.png" for number in range(8)]
    pictures(tmp_path / "scans", names)
    rows = [
        {"scan": name, "ask": f"{word} {name}?", "reply": word, "split": split}
        for split in ("train", "test")
        for name in names
        for word in ("yes", "no")
    ]
    write(tmp_path / "rows.jsonl", jsonl(rows))
    write(tmp_path / "cards" / "all.csv", "image,question,answer,split\ncard.png,?,yes,train\ncard.png,?,no,test\n")
    pictures(tmp_path / "cards", ["card.png"], 5)
    configs = "configs:\n- config_name: one\n  data_files: all.csv\n- config_name: two\n  data_files: all.csv\n"
    write(tmp_path / "cards" / "README.md", f"---\n{configs}---\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(**options: Any) -> FederateConfig:
    return with_absolute_paths(FederateConfig(model_backend="blip_vqa", model_name_or_path="tiny", **options))


def test_a_relative_folder_with_a_configuration_is_the_same_from_any_folder(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = config(dataset="cards:two", data_path=str(here / "cache"))
    assert found.dataset == f"{here / 'cards'}:two"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert reds(load_splits(found).train) == [5]


def test_the_option_for_columns_reaches_the_data(here: Path) -> None:
    found = load_splits(config(dataset="rows.jsonl", columns="image=scan,question=ask,answer=reply"))
    assert found.train["question"][:2] == ["yes 0.png?", "no 0.png?"]
    assert found.columns == {"image": "scan", "question": "ask", "answer": "reply"}


def test_one_command_shows_how_a_file_would_be_split(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dataset", "rows.jsonl", "--columns", "image=scan,question=ask,answer=reply", "--num_clients", "2"]
    assert main(["partition", *options, "--figure", str(here / "split.png")]) == 0
    assert "site-2" in capsys.readouterr().out
