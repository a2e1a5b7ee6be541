"""Commands that are printed work when they are pasted into a shell."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedumm.config import FederateConfig
from fedumm.model_card import federated_card
from fedumm.report.console import RunConsole
from fedumm.shell import quoted

ODD = ["my run", "it's", 'say "x"', "$HOME", "`id`", "-v", "a;b&c", "größe", "line\nbreak", "*", "~", "#1", "[bold]"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_name_is_one_argument_and_no_option(name: str) -> None:
    (argument,) = shlex.split(quoted(name))
    assert os.path.normpath(argument) == os.path.normpath(name)
    assert not argument.startswith("-")


@pytest.mark.parametrize("name", ODD)
def test_the_shell_agrees(name: str) -> None:
    done = subprocess.run(["sh", "-c", f"printf %s {quoted(name)}"], capture_output=True, text=True, check=True)
    assert done.stdout in (name, f"./{name}")


@pytest.mark.parametrize("name", [name for name in ODD if "\n" not in name])
def test_how_to_use_the_adapter_can_be_pasted(name: str) -> None:
    file = io.StringIO()
    RunConsole(Console(file=file, width=80, highlight=False)).finished(Path(name), None, ["vqa", "t2i"])
    ask, draw = (line.split(": ", 1)[1].strip() for line in file.getvalue().splitlines()[-2:])
    for command, own in ((ask, ["fedumm", "ask"]), (draw, ["fedumm", "draw"])):
        argv = shlex.split(command)
        assert argv[:2] == own
        assert argv[-2] == "--adapter"
        assert Path(argv[-1]) == Path(name) / "adapter" / "best"
        assert not argv[-1].startswith("-")


def test_the_cards_commands_can_be_pasted_in_its_folder() -> None:
    config = FederateConfig(model_backend="b", task="unified", plugin="/srv/my backends/it's.py")
    (block,) = re.findall(r"```\n(.*?)```", federated_card(config, 1, {}, "run", plugins=config.plugins), re.DOTALL)
    assert [shlex.split(line)[-4:] for line in block.splitlines()] == 2 * [["--adapter", ".", "--plugin", "it's.py"]]


def test_a_card_is_one_table_whatever_names_hold() -> None:
    config = FederateConfig(model_backend="b", model_name_or_path="/a|b`c\n/x: y", dataset="d|`e")
    card = federated_card(config, 1, {}, "r`u|n")
    assert [row for row in card.splitlines() if row.startswith("| Base model")] == [
        "| Base model | `/a\\|b'c\\n/x: y` (backend `b`) |"
    ]
    assert "base_model" not in card
    assert "# Adapter of the run `r'u\\|n`" in card
