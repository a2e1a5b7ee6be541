"""Scores of runs become means and spreads, and these become tables and lines of a figure."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedumm.errors import FedummError
from fedumm.studies.curves import axis_and_lines, curves, save_figures
from fedumm.studies.results import Outcome, outcome, outcomes, rows, spread
from fedumm.studies.study import Study
from fedumm.studies.study_run import CENTRAL, FEDERATED, LOCAL_ONLY
from fedumm.studies.tables import latex, markdown, write_tables

STUDY = Study.of({"model_backend": "blip_vqa", "num_clients": [2, 4], "seed": [1, 2, 3], "dataset": "easy_vqa"})
SCORES = {2: (0.5, 0.6, 0.7), 4: (0.25, 0.25, 0.25)}

SUMMARIES: dict[str, dict[str, Any]] = {
    FEDERATED: {"last": {"test": 0.5}, "best": {"test": 0.75}, "untrained": {"test": 0.25}, "seconds": 9.0},
    CENTRAL: {"trained": {"test": 0.875}, "untrained": {"test": 0.25}},
    LOCAL_ONLY: {
        "local_only": {"test": {"mean": 0.4, "spread": 0.1, "worst": 0.3}, "heldout": None},
        "untrained": {"test": 0.25},
        "seconds": 5,
    },
}


def written(folder: Path, summary: dict[str, Any] | None) -> Path:
    folder.mkdir(parents=True)
    records = [{"event": "setup", "elapsed": 3.0}, *([{"event": "summary", **summary}] if summary else [])]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return folder


def found() -> dict[str, Outcome]:
    result = {}
    for run in STUDY.runs():
        if run.kind == FEDERATED:
            result[run.name] = Outcome({FEDERATED: SCORES[run.options["num_clients"]][run.options["seed"] - 1]}, 1.0)
    return result


@pytest.mark.parametrize(
    ("kind", "scores", "seconds"),
    [
        (FEDERATED, {"federated": 0.5, "federated_best": 0.75, "zero_shot": 0.25}, 9),
        (CENTRAL, {"central": 0.875, "zero_shot": 0.25}, 3),
        (LOCAL_ONLY, {"local_only": 0.4, "local_only_worst": 0.3, "zero_shot": 0.25}, 5),
    ],
)
def test_scores_are_read_from_the_records(tmp_path: Path, kind: str, scores: dict[str, float], seconds: float) -> None:
    assert outcome(written(tmp_path / "done", SUMMARIES[kind]), kind) == Outcome(scores, seconds)
    assert outcome(written(tmp_path / "cut", None), kind) is None
    assert outcome(tmp_path / "not there", kind) is None


def test_mean_and_spread_are_the_samples() -> None:
    own = spread([0.5, 0.6, 0.7], 4)
    assert own.mean == pytest.approx(0.6)
    assert own.std == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert (own.n, own.expected, own.least, own.most) == (3, 4, 0.5, 0.7)
    assert spread([0.5], 1).std is None


def test_a_column_that_no_run_has_is_left_out() -> None:
    text = markdown(STUDY, rows(STUDY, found()))
    assert text.splitlines()[0].replace(" ", "") == "|clients|federated(%)|"
    assert [line.replace(" ", "") for line in text.splitlines()[2:]] == ["|2|60.00±10.00|", "|4|25.00±0.00|"]


def test_missing_runs_are_told() -> None:
    some = found()
    del some["federated-k2-seed2-lr5e-05" if "federated-k2-seed2-lr5e-05" in some else next(iter(some))]
    first = markdown(STUDY, rows(STUDY, some)).splitlines()[2]
    assert "(2)" in first


def test_every_table_has_the_same_numbers(tmp_path: Path) -> None:
    table = rows(STUDY, found())
    write_tables(STUDY, found(), table, tmp_path)
    with open(tmp_path / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["num_clients"], line["column"], line["n"]) for line in lines] == [
        ("2", "federated", "3"),
        ("4", "federated", "3"),
    ]
    assert float(lines[0]["mean"]) == statistics.fmean(SCORES[2])
    with open(tmp_path / "runs.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found())
    assert "9 of 15 runs are not finished" in (tmp_path / "table.md").read_text()
    assert r"2 & 60.00 $\pm$ 10.00 \\" in (tmp_path / "table.tex").read_text()


@pytest.mark.parametrize("varied", [{}, {"num_clients": [2, 4]}])
def test_of_no_finished_run_there_is_a_line(varied: dict[str, Any], tmp_path: Path) -> None:
    study = Study.of({"model_backend": "blip_vqa", **varied})
    told = write_tables(study, {}, rows(study, {}), tmp_path)
    assert told == "No run has a score on the test set yet."
    assert (tmp_path / "table.md").read_text().endswith(f"\n\n{told}\n")
    assert (tmp_path / "table.tex").read_text() == f"% {told}\n"


NASTY = "50%_of $x & {y} #1 ~^\\ <b> | `z`"


def test_texts_are_escaped(tmp_path: Path) -> None:
    study = Study.of({"model_backend": "blip_vqa", "dataset": [NASTY, "two\nlines"], "compare": ["federated"]})
    scores = {run.name: Outcome({FEDERATED: 0.5}, 1.0) for run in study.runs()}
    text = latex(study, rows(study, scores))
    assert r"50\%\_of \$x \& \{y\} \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert len(markdown(study, rows(study, scores)).splitlines()) == 4
    assert r"\|" in markdown(study, rows(study, scores))
    if shutil.which("pdflatex"):
        page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
        (tmp_path / "page.tex").write_text(page)
        subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_a_figure_has_the_clients_along_its_axis(tmp_path: Path) -> None:
    study = Study.of({"model_backend": "blip_vqa", "lr": [1e-3, 1e-4], "num_clients": [4, 2], "seed": [1, 2]})
    assert axis_and_lines(study) == ("num_clients", "lr")
    scores = {run.name: Outcome({run.kind: 0.5, "zero_shot": 0.1}, 1.0) for run in study.runs()}
    table = rows(study, scores)
    found = curves(table, "num_clients", "lr")
    assert [x for x, _ in found[FEDERATED, "lr 0.001"]] == [2, 4]
    assert {column for column, _ in found} == {FEDERATED, LOCAL_ONLY, CENTRAL, "zero_shot"}
    (file,) = save_figures(study, table, tmp_path)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_other_options_have_a_figure_each(tmp_path: Path) -> None:
    grid = {"num_clients": [2, 4], "dirichlet_alpha": [0.1, 1.0], "lr": [1e-3, 1e-4], "compare": ["federated"]}
    study = Study.of({"model_backend": "blip_vqa", **grid})
    scores = {run.name: Outcome({FEDERATED: 0.5}, 1.0) for run in study.runs()}
    files = save_figures(study, rows(study, scores), tmp_path)
    assert [file.name for file in files] == ["figure-1.png", "figure-2.png"]
    assert save_figures(Study.of({"model_backend": "blip_vqa"}), [], tmp_path) == []


def test_figures_of_an_earlier_table_are_deleted_and_no_other_files(tmp_path: Path) -> None:
    def figures(**grid: Any) -> set[str]:
        study = Study.of({"model_backend": "blip_vqa", "compare": ["federated"], **grid})
        scores = {run.name: Outcome({FEDERATED: 0.5}, 1.0) for run in study.runs()}
        save_figures(study, rows(study, scores), tmp_path)
        return {file.name for file in tmp_path.iterdir()}

    mine = tmp_path / "figure-9.png"
    mine.write_bytes(b"\x89PNG of another program")
    two = {"num_clients": [2, 4], "dirichlet_alpha": [0.1, 1.0]}
    assert figures(**two, lr=[1e-3, 1e-4]) == {"figure-1.png", "figure-2.png", mine.name}
    assert figures(**two) == {"figure.png", mine.name}
    assert figures(seed=[1, 2]) == {mine.name}


def test_a_run_whose_records_are_damaged_is_not_finished(tmp_path: Path) -> None:
    run = next(run for run in STUDY.runs() if run.kind == FEDERATED)
    folder = written(tmp_path / run.name, SUMMARIES[FEDERATED])
    assert outcomes(STUDY.runs(), tmp_path).keys() == {run.name}
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("no record\n")
    assert outcomes(STUDY.runs(), tmp_path) == {}
    with pytest.raises(FedummError, match="no record"):
        outcome(folder, FEDERATED)
