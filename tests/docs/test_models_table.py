"""The table of published models is what its command writes."""

from __future__ import annotations

import pytest

import models
from published_models import PUBLISHED
from support.pages import ROOT

PAGE = models.PAGE.read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def shown() -> list[list[str]]:
    """The rows of the page's table."""
    assert models.PAGE == ROOT / "docs" / "models.md"
    assert PAGE.count(models.START) == 1
    part = PAGE[PAGE.index(models.START) :]
    lines = [line for line in part[: part.index(models.END)].splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines]


def test_the_page_has_all_models_in_order(shown: list[list[str]]) -> None:
    assert shown[0] == models.COLUMNS
    assert [cells[0] for cells in shown[2:]] == list(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_is_what_the_command_writes(shown: list[list[str]], name: str) -> None:
    assert models.row(name, PUBLISHED[name]) in shown


def test_the_command_leaves_the_rest_of_the_page_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "table", lambda: "| a |")
    page = models.written(PAGE)
    before, after = PAGE.split(models.START)[0], PAGE.split(models.END)
    assert page.startswith(before)
    assert f"{models.START}\n\n| a |\n\n{models.END}" in page
    assert page.endswith(after[-1])
