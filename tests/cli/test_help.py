"""Help by topic, what options may be, and completion in a shell."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedumm.cli.completion import command_parser
from fedumm.cli.main import COMMANDS, main

_COMPLETE = """
source "$1"
read -ra COMP_WORDS <<< "$2"
[[ "$2" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="$2"; COMP_POINT=${#COMP_LINE}
_shtab_fedumm
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_help_of_one_topic_has_its_options_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["federate", "--help"]) == 0
    whole = capsys.readouterr().out
    topics = re.search(r"One topic only: fedumm federate --help ([\w |]+)", whole)
    assert topics
    seen: set[str] = set()
    for topic in topics[1].split(" | "):
        assert main(["federate", "--help", topic]) == 0
        own = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE))
        assert own
        assert not own & seen
        seen |= own
    assert seen == set(re.findall(r"^  (--\w+)", whole, re.MULTILINE))
    assert main(["train", "--help", "priv"]) == 2
    assert "no such topic. There are: model, training, data, execution." in capsys.readouterr().err


def test_help_shows_what_an_option_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["federate", "--help", "training"]) == 0
    assert "--lr_schedule {constant,linear,cosine}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shtab

    file = tmp_path_factory.mktemp("shell") / "fedumm"
    file.write_text(shtab.complete(command_parser(), "bash"))
    return file


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("fedumm ev", {"evaluate"}),
        ("fedumm federate --aggregator fle", set()),
        ("fedumm federate --aggregator flo", {"flora"}),
        ("fedumm train --lr_s", {"--lr_schedule"}),
        ("fedumm train --task ", {"vqa", "i2t", "t2i", "unified"}),
        ("fedumm evaluate --format ", {"vqa"}),
        ("fedumm completion z", {"zsh"}),
    ],
)
def test_a_shell_completes(typed: str, found: set[str], script: Path) -> None:
    done = subprocess.run(["bash", "-c", _COMPLETE, "bash", script, typed], capture_output=True, text=True, timeout=30)
    assert set(done.stdout.split()) == found, done.stderr


def test_every_command_is_in_the_script(script: Path) -> None:
    text = script.read_text()
    assert all(f"_shtab_fedumm_{command.replace('-', '_')}" in text for command in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_scripts_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "federate" in capsys.readouterr().out
