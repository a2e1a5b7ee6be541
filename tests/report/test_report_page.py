"""``fedumm report``: the numbers of a run on one page, whatever is in its folder."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedumm.cli.main import run as run_command
from fedumm.cli.report import run_folder
from fedumm.errors import FedummError
from fedumm.report.page.charts import Line, bar_chart, line_chart
from fedumm.report.page.divergence import distances
from fedumm.report.page.examples import Example, spread_rows
from fedumm.report.page.fairness import gini, spread
from fedumm.report.page.history import read_history
from fedumm.report.page.render import page
from support.recorded_run import CLIENTS, HOSTILE, record_run


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and the text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen = ""
        self._hidden = False
        self.feed(text)
        self.text = re.sub(r"\s+", " ", self.seen)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.seen += data + " "

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def of(folder: Path, **more: Any) -> Page:
    return Page(page(read_history(folder), **more))


class TestPage:
    def test_every_section_has_the_runs_numbers(self, tmp_path: Path) -> None:
        text = page(read_history(record_run(tmp_path / "a-run")))
        shown = Page(text)
        assert re.findall(r"<h2>(.*?)</h2>", text) == [
            "Result", "Curves", "Clients and fairness", "Split", "Drift and aggregation", "Left out, and why",
            "Communication and time", "How it was made",
        ]  # fmt: skip
        for expected in (
            "a-run", "25.00 % → 75.00 %", "+50.00 points",  # headline: common test
            "best (after round 2)", "last (after round 3)",
            "yes/no 15.00 % 65.00 %", "site-2 norm 2 its norm 9 is above 3",
            "fedumm federate --name x", "2.1 of torch",
            "12 samples on 6 images",
        ):  # fmt: skip
            assert expected in shown.text or expected in text, expected

    def test_sections_without_data_are_left_out(self, tmp_path: Path) -> None:
        folder = record_run(tmp_path / "a", partition=False, clients=False)
        found = re.findall(r"<h2>(.*?)</h2>", page(read_history(folder)))
        assert found == ["Result", "Curves", "Drift and aggregation", "Communication and time", "How it was made"]

    def test_a_run_that_is_not_over_says_so(self, tmp_path: Path) -> None:
        assert "stopped: after round 2 of 3" in of(record_run(tmp_path / "a", rounds=2, over=False)).text

    def test_no_better_round_is_told(self, tmp_path: Path) -> None:
        assert "No round was better" in of(record_run(tmp_path / "a", best=0)).text
        assert "No round was better" not in of(record_run(tmp_path / "b")).text

    def test_privacy_is_told_where_there_is_some(self, tmp_path: Path) -> None:
        shown = of(record_run(tmp_path / "a", epsilon=1.5))
        assert "epsilon after the last round 4.5" in shown.text

    def test_nothing_in_it_is_fetched_from_anywhere(self, tmp_path: Path) -> None:
        """No address but of a part of the page and of pictures that are in it."""
        text = page(read_history(record_run(tmp_path / "a")))
        shown = Page(text)
        for tag, attributes in shown.tags:
            assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base")
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in ("href", "src", "srcset", "action", "data", "poster"):
                    assert (value or "").startswith(("#", "data:image/"))
        assert "//" not in re.sub(r"data:image/[^\"]*", "", text)
        assert "url(http" not in text
        assert any("default-src 'none'" in str(meta.get("content")) for meta in shown.named("meta"))

    def test_figures_have_names_of_their_own(self, tmp_path: Path) -> None:
        """Several in one page: a name twice would show a part of another figure."""
        shown = of(record_run(tmp_path / "a"))
        names = [
            own["id"]
            for _, own in shown.tags
            if own.get("id") and re.search(r"\d[0-9a-f]{6}|[mpC][0-9a-f]{6}", own["id"] or "")
        ]
        assert names
        assert len(names) == len(set(names))
        assert len(shown.named("svg")) >= 8


class TestHostile:
    def test_texts_of_others_are_shown_and_do_nothing(self, tmp_path: Path) -> None:
        folder = record_run(tmp_path / "a", label=HOSTILE, client=HOSTILE, reason=HOSTILE * 100)
        one = Example("vqa", HOSTILE, (HOSTILE,), HOSTILE, HOSTILE * 500, 0.0, 1.0, type=HOSTILE, image=HOSTILE)
        text = page(read_history(folder), [one])
        shown = Page(text)
        assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "b1", "iframe"})
        assert [image for image in shown.named("img") if image.get("onerror")] == []
        for unseen in ("\x1b", "\u202e", "\x00"):
            assert unseen not in text
        assert "<script>alert(1)</script>" in shown.text, "it is shown as it is written"
        assert len(text) < 400_000, "what is long is cut"

    @pytest.mark.parametrize("value", ["text", [], {}, None, True, -5])
    def test_values_of_another_kind_count_as_missing(self, value: Any, tmp_path: Path) -> None:
        folder = record_run(tmp_path / "a")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for record in lines:
            for key in ("heldout_clients", "test_tasks", "train_losses", "seconds_host", "norm", "train_loss"):
                if key in record:
                    record[key] = value
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert "<h2>Result</h2>" in page(read_history(folder))

    def test_a_list_of_examples_shows_no_other_files(self, tmp_path: Path) -> None:
        from PIL import Image

        folder = record_run(tmp_path / "a", clients=False)
        (folder / "samples").mkdir()
        for place in (tmp_path / "secret.jpg", folder / "secret.jpg", folder / "samples" / "000.jpg"):
            Image.new("RGB", (8, 8), "red").save(place)
        (folder / "samples" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        (folder / "samples" / "text.jpg").write_text("no picture")
        bad = ["../../secret.jpg", "/etc/passwd", "samples/../secret.jpg", "samples/link.jpg", "samples/text.jpg"]
        names = [*bad, str(tmp_path / "secret.jpg"), "samples/none.jpg", "samples/000.jpg"]
        examples = [Example("vqa", "what?", ("a",), "a", "b", 1.0, 0.0, image=name) for name in names]
        (image,) = of(folder, examples=examples).named("img")
        assert str(image["src"]).startswith("data:image/jpeg;base64,/9j/")


class TestNumbers:
    def test_gini_is_the_mean_difference_of_all_pairs(self) -> None:
        values = [0.3, 0.9, 0.0, 0.5, 0.5]
        pairs = np.abs(np.subtract.outer(values, values)).mean() / (2 * np.mean(values))
        assert gini(values) == pytest.approx(float(pairs))
        assert gini([0.5, 0.5]) == 0
        assert gini([0.0, 0.0, 1.0]) == pytest.approx(2 / 3)
        assert gini([0.0, 0.0]) is gini([-0.1, 1.0]) is None

    def test_spread_names_the_worst(self) -> None:
        own = spread({"a": 0.5, "b": 0.25, "c": 0.75})
        assert own is not None
        assert (own.worst, own.lowest, own.highest, own.mean) == ("b", 0.25, 0.75, 0.5)
        assert own.deviation == pytest.approx((0.125 / 3) ** 0.5)
        assert spread({"a": 0.5}) is None

    def test_distance_of_labels_by_hand(self) -> None:
        """Of (1, 0) to (1/2, 1/2), with m = (3/4, 1/4): (log2(4/3) + (log2(2/3) + log2(2)) / 2) / 2."""
        found = distances({"a": {"x": 4}, "b": {"y": 4}, "c": {}})
        divergence = (np.log2(4 / 3) + (np.log2(2 / 3) + np.log2(2)) / 2) / 2
        assert found == pytest.approx({"a": divergence**0.5, "b": divergence**0.5})
        assert distances({"a": {"x": 1, "y": 2}, "b": {"x": 2, "y": 4}}) == pytest.approx({"a": 0, "b": 0}, abs=1e-7)

    def test_of_a_figure_every_colour_is_the_pages(self) -> None:
        lines = [Line(f"line {n}", [(0, 0.1), (1, n)], n) for n in range(8)]
        for chart in (line_chart("Lines", lines, "y"), bar_chart("Bars", lines, "y")):
            assert chart is not None
            assert set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r'(id|href)="[^"]*"|url\([^)]*\)', "", chart.svg))) == set()
            assert {f"var(--c{n})" for n in range(1, 9)} <= set(re.findall(r"var\(--c\d\)", chart.svg))
        assert line_chart("none", [Line("a", [])], "y") is None
        assert bar_chart("none", [Line("a", [(1, 0.0)])], "y") is None

    def test_examples_are_of_each_type_in_turn_and_of_other_images(self) -> None:
        from datasets import Dataset

        rows = Dataset.from_dict(
            {
                "answer_type": ["a", "a", "a", "b", "a", "b"],
                "image_id": ["1", "1", "2", "1", "3", "4"],
            }
        )
        assert spread_rows(rows, 4) == [0, 2, 3, 5]
        assert spread_rows(rows, 99) == [0, 1, 2, 3, 4, 5]


class TestCommand:
    def test_writes_the_page_and_says_where(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = record_run(tmp_path / "a")
        assert run_command("report", [str(folder), "--samples", "0"], "fedumm report") == 0
        assert capsys.readouterr().out == f"Report: {folder / 'report.html'}\n"
        assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
        assert not (folder / "samples").exists()

    def test_where_no_examples_can_be_had_the_page_says_why(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = record_run(tmp_path / "a")
        out = tmp_path / "page.html"
        assert run_command("report", [str(folder), "--out", str(out)], "fedumm report") == 0
        assert "No example answers: the run has saved no adapter." in capsys.readouterr().out
        assert "No example answers: the run has saved no adapter." in out.read_text()

    def test_of_sites_with_data_of_their_own_it_says_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = record_run(tmp_path / "a", config="partition: own\n")
        options = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(options.replace("dirichlet_alpha: 0.5\n", ""))
        assert run_command("report", [str(folder)], "fedumm report") == 0
        assert "No example answers: the data are the sites' own, and not here." in capsys.readouterr().out
        shown = Page((folder / "report.html").read_text()).text
        assert "own data" in shown
        assert "IID" not in shown

    @pytest.mark.parametrize(
        "argv", [["none"], ["{}/empty"], ["{}/a", "--samples", "-1"], ["{}/a", "--out", "/no/where"]]
    )
    def test_bad_input_is_one_message(self, argv: list[str], tmp_path: Path) -> None:
        record_run(tmp_path / "a")
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "config.yaml").write_text("# Repeat this run: x\nmodel_backend: blip_vqa\n")
        assert run_command("report", [arg.format(tmp_path) for arg in argv], "fedumm report") == 2

    @pytest.mark.parametrize("name", ["alone", "study/k2", "./runs/alone", "elsewhere/a"])
    def test_a_run_is_named_by_its_path_or_as_it_is_listed(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for place in ("runs/alone", "runs/study/k2", "elsewhere/a"):
            record_run(tmp_path / place, clients=False)
        assert run_folder(name).resolve() in {(tmp_path / "runs" / name).resolve(), (tmp_path / name).resolve()}

    def test_a_damaged_run_is_an_error(self, tmp_path: Path) -> None:
        folder = record_run(tmp_path / "a")
        (folder / "metrics.jsonl").write_text('{"event": "round"}\n')
        with pytest.raises(FedummError, match="can't be read"):
            read_history(folder)


def test_many_clients_are_told_in_few_words(tmp_path: Path) -> None:
    folder = record_run(tmp_path / "a", count=200)
    text = page(read_history(folder))
    assert len(text) < 600_000
    assert "and 140 more clients" in text
    assert "(highest)" in text
    assert CLIENTS
