"""The table of published models is what its command writes."""

from __future__ import annotations

import pytest

import models
from support.pages import ROOT


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_page_has_the_table_that_the_command_writes() -> None:
    page = models.PAGE.read_text(encoding="utf-8")
    assert models.PAGE == ROOT / "docs" / "models.md"
    assert page.count(models.START) == 1
    assert models.written(page) == page
