"""The table of scored answers in ``docs/data.md`` is what the shipped tokenizer and the official rule say."""

from __future__ import annotations

import re

import pytest

from fedumm.backends.blip_vqa import BlipVqaBackend
from fedumm.metrics import vqa_score
from support.pages import ROOT

TABLE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").split("| human answers |")[1].split("\n\n")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.split("\n")[2:]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row))
def test_an_answer_is_scored_as_the_page_says(row: list[str]) -> None:
    references = [text for count, text in re.findall(r"(\d+) x `([^`]+)`", row[0]) for text in [text] * int(count)]
    backend = BlipVqaBackend()
    speller = backend.speller(backend.load_processor("tiny"))
    (ids,) = speller.encode([row[1].strip("`") if row[1] != "nothing" else ""])
    text = speller.say(ids, references)
    assert text == row[2].strip("`").replace("(empty)", "")
    assert f"{100 * vqa_score(text, references):.0f} %" == row[3]


def test_the_table_has_rows() -> None:
    assert len(ROWS) == 10
