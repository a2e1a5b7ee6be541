"""The page of a run in which each client trained alone, from made-up records: unfinished, hostile, of many clients."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fedumm.report.page.alone import with_means
from fedumm.report.page.history import read_history
from fedumm.report.page.making import make_report
from fedumm.report.page.render import page
from support.recorded_run import HOSTILE


def scores(place: str, value: Any) -> dict[str, Any]:
    return {
        place: value,
        f"{place}_tasks": {"vqa": {"score": value, "count": 4, "parts": {"yes/no": value, "color": value}}},
    }


def recorded(
    folder: Path, count: int, *, over: bool = True, client: str = "", more: dict[str, Any] | None = None
) -> Path:
    """Client n of ``count`` reaches n / count on the test set, and begins at half of that on its held-out rows."""
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "# Repeat this run: fedumm sweep --compare local_only --name NAME\n"
        f"model_backend: blip_vqa\nnum_clients: {count}\n"
    )
    names = [client or "site-1", *(f"site-{n}" for n in range(2, count + 1))]
    sizes = {name: {"train": 8, "heldout": 4} for name in names}
    records: list[dict[str, Any]] = [
        {"event": "setup", "local_only": True, "epochs": 3, "clients": sizes, "seconds": 1.0}
    ]
    for place, name in enumerate(names, start=1):
        value = place / count
        own = scores("heldout_before", value / 2) | scores("heldout", value) | scores("test", value)
        records.append(
            {"event": "local", "client": name, "steps": 6, "train_loss": 0.5, "seconds": 2.0, **own, **(more or {})}
        )
    if over:
        records.append({"event": "summary", "untrained": scores("test", 0.125), "local_only": {}, "seconds": 9.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_means_count_each_client_once(tmp_path: Path) -> None:
    run = with_means(read_history(recorded(tmp_path / "run", 4))).run
    assert run.scores["best"]["test_tasks"]["vqa"]["score"] == (0.25 + 0.5 + 0.75 + 1) / 4
    assert run.scores["untrained"]["heldout_tasks"]["vqa"]["parts"]["color"] == (0.25 + 0.5 + 0.75 + 1) / 8
    assert run.scores["untrained"]["test_tasks"]["vqa"]["score"] == 0.125


def test_spread_and_worst_client_are_told(tmp_path: Path) -> None:
    text = page(read_history(recorded(tmp_path / "run", 4)))
    # Of 1/4, 2/4, 3/4, 1: spread 75 points; Gini 2 (1 + 4 + 9 + 16) / (4 * 10) - 5 / 4 = 0.25
    assert "<td>75.00</td>" in text
    assert text.count("<td>0.2500</td>") == 3, "untrained, held-out and common test"
    tile = re.search(
        r'Worst client, common test set</p>\s*<p class="value"><b>(.*?)</b></p>\s*<p class="note ">(.*?)<', text
    )
    assert tile
    assert tile.groups() == ("25.00 %", "site-1")
    assert "each alone, 3 epochs" in text


def test_one_that_is_not_over_has_what_there_is(tmp_path: Path) -> None:
    text = page(read_history(recorded(tmp_path / "run", 3, over=False)))
    assert "stopped: after client 3 of 3" in text
    assert "site-3" in text
    assert "12.50 %" not in text


def test_of_many_the_lowest_are_shown(tmp_path: Path) -> None:
    text = page(read_history(recorded(tmp_path / "run", 80)))
    assert "the 20 lowest" in text
    assert "and 20 more clients, with higher scores" in text


def test_it_says_that_there_are_no_answers(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", 2)
    assert make_report(folder, folder / "report.html", 0, lambda *_: None).startswith("No example answers")
    assert "these are not kept" in (folder / "report.html").read_text()


@pytest.mark.parametrize("value", [None, "x", HOSTILE, [1], {"a": 1}, True, 1e308])
def test_what_is_of_another_kind_counts_as_missing(value: Any, tmp_path: Path) -> None:
    names = ("heldout", "test", "heldout_before", "steps", "train_loss", "seconds", "test_tasks", "heldout_tasks")
    folder = recorded(tmp_path / "run", 2, client=HOSTILE, more=dict.fromkeys(names, value))
    text = page(read_history(folder))
    assert "<script" not in text
    assert "<h2>Clients and fairness</h2>" in text
