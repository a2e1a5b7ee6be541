"""Labels, names and columns of a data set are shown as they are, whatever they would mean to the place they come to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table

from fedumm.cli import partition
from fedumm.config import FederateConfig
from fedumm.data import DataSplits, register_source
from fedumm.model_card import federated_card, own_card
from fedumm.report import figures
from fedumm.report.console import RunConsole, Screen
from fedumm.report.figures import LONGEST_LABEL, save_partition_figure

NASTY = [
    "[bold]",
    "[/]",
    "u$x^{$",
    "$\\frac$",
    "_hidden",
    ":smile:",
    "a\nb",
    "\x1b[2J",
    "`|",
    "[link=x]y[/link]",
    "\\[",
]


def legend(counts: dict[str, dict[str, int]], path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    seen: list[Any] = []
    real = figures._axes
    with monkeypatch.context() as patch:
        patch.setattr(figures, "_axes", lambda *size: seen.append(real(*size)) or seen[-1])
        save_partition_figure(counts, path)
    return seen[0][1][0]


@pytest.mark.parametrize("clients", [1, 101])
def test_any_label_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: int) -> None:
    counts = {f"{name}-{i}": dict.fromkeys(NASTY, 1) for i in range(clients) for name in NASTY[:1]}
    axes = legend(counts, tmp_path / "split.png", monkeypatch)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        label.encode("unicode_escape").decode() if not label.isprintable() else label for label in sorted(NASTY)
    ]
    assert (tmp_path / "split.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:Glyph")
@settings(max_examples=15, deadline=None)
@given(label=st.text(max_size=30), client=st.text(max_size=10))
def test_no_label_and_no_name_breaks_the_figure(
    tmp_path_factory: pytest.TempPathFactory, label: str, client: str
) -> None:
    save_partition_figure({client: {label: 3, "$": 1}}, tmp_path_factory.mktemp("figure") / "split.png")


def test_a_page_is_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = legend({"site-1": {"word " * 20_000: 1}}, tmp_path / "split.png", monkeypatch)
    (text,) = axes.get_legend().get_texts()
    assert len(text.get_text()) <= LONGEST_LABEL + len("...")


def test_the_command_shows_labels_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["[bold]", "[/]", ":smile:", "u$x^{$"]
    rows = Dataset.from_dict(
        {"question": ["?"] * 80, "answer": labels * 20, "image": [{"bytes": b"x", "path": None}] * 80},
    )  # fmt: skip
    register_source("nasty", lambda _: DataSplits(rows, rows))
    figure = tmp_path / "[bold].png"
    assert partition.main(["--dataset", "nasty", "--show", "answer", "--figure", str(figure)], "fedumm partition") == 0
    out = capsys.readouterr().out
    assert all(label in out for label in labels)
    assert str(figure) in out.replace("\n", "")
    assert figure.exists()


def test_a_screen_knows_no_markup() -> None:
    screen = Screen(width=100)
    screen.file = io.StringIO()
    table = Table("[bold]", "[/]", title="[/red] :smile:")
    table.add_row("[/]", ":smile: [red]x")
    screen.print(table)
    screen.print("[/] [bold]")
    out = screen.file.getvalue()
    for text in ("[bold]", "[/]", "[/red] :smile:", ":smile: [red]x", "[/] [bold]"):
        assert text in out


def test_a_bar_knows_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen(width=100)
    screen.file = io.StringIO()
    console = RunConsole(screen)
    with console:
        console.progress("training [/] [bold]x", 1, 2, "host-1")
        screen.print(*console._progress.get_renderables())
    assert isinstance(console._progress, Progress)
    assert "training [/] [bold]x" in screen.file.getvalue()


def cells(card: str) -> list[str]:
    return [line for line in card.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("text", ["a`b", "a|b", "a\nb", "a\n# Title", "<script>", "[x](y)", "**b**"])
def test_a_card_keeps_its_form(text: str) -> None:
    plain = FederateConfig(model_backend="blip_vqa", dirichlet_alpha=0.5)
    nasty = FederateConfig(
        model_backend=text, model_name_or_path=text, dataset=text, partition_by=text, dirichlet_alpha=0.5,
        plugin=f"/x/{text.replace('/', '')}.py",
    )  # fmt: skip
    for make in (lambda c, name: federated_card(c, 1, {}, name), own_card):
        before, after = make(plain, "run"), make(nasty, text)
        assert len(after.splitlines()) == len(before.splitlines())
        assert [line[:2] for line in after.splitlines()] == [line[:2] for line in before.splitlines()]
        for line in cells(after):
            assert len(line.replace("\\|", "").split("|")) == 4, line
        outside_code = "".join(part for line in after.splitlines()[8:20] for part in line.split("`")[::2])
        for sign in ("<script>", "[x](y)", "**b**"):
            assert sign not in outside_code
