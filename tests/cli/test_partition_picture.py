"""The picture in docs/data.md of what alpha does shows what ``fedumm partition`` counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.config import FederateConfig
from fedumm.federation.assignment import client_names
from fedumm.training.data import column_labels, load_splits, partition_for

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
CLIENTS, ALPHAS, WIDTH = 4, (0.1, 0.5, 1.0), 20
MARKS = {"yes/no": "█", "color": "▒", "shape": "░"}


def bar(counts: Mapping[str, int]) -> str:
    """One mark for each twentieth of the samples; the largest remainders fill it up."""
    total = sum(counts.values())
    exact = {kind: WIDTH * counts.get(kind, 0) / total for kind in MARKS}
    cells = {kind: int(share) for kind, share in exact.items()}
    for kind in sorted(MARKS, key=lambda kind: cells[kind] - exact[kind])[: WIDTH - sum(cells.values())]:
        cells[kind] += 1
    return "".join(mark * cells[kind] for kind, mark in MARKS.items())


def picture() -> str:
    names = client_names(CLIENTS)
    columns = []
    for alpha in ALPHAS:
        config = FederateConfig(
            model_backend="blip_vqa", dataset="easy_vqa", num_clients=CLIENTS, dirichlet_alpha=alpha, max_eval_samples=2
        )
        rows = load_splits(config).train
        counts = partition_for(config, rows, names)[0].counts(column_labels(rows, "answer_type"))
        cells = [f"{bar(counts[name])} {sum(counts[name].values()):>6,}" for name in names]
        columns.append([f"alpha {alpha}".ljust(len(cells[0])), *cells])
    lines = zip(["", *names], *columns, strict=True)
    return "\n".join("   ".join(line).rstrip() for line in ((f"{name:<6}", *cells) for name, *cells in lines))


def test_the_picture_of_alpha_is_counted() -> None:
    legend = "   ".join(f"{mark} {kind}" for kind, mark in MARKS.items())
    assert f"```\n{picture()}\n\n{legend}\n```" in PAGE, picture()


def test_no_heading_is_cut_on_a_narrow_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then labels stand below each other."""
    monkeypatch.setattr("fedumm.report.console.Screen.width", 80)
    options = ["--dataset", "easy_vqa", "--num_clients", "3", "--max_train_samples", "900", "--show", "answer"]
    assert main(["partition", *options, "--figure", str(tmp_path / "x.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in lines if "│" in line]
    by_label = {row[0]: [int(cell.replace(",", "")) for cell in row[1:]] for row in cells}
    assert {"yes", "no", "circle", "rectangle", "triangle", "training", "held out"} <= set(by_label)
    total = by_label.pop("training"), by_label.pop("held out")
    assert [sum(column) for column in zip(*by_label.values(), strict=True)] == total[0]
    assert sum(map(sum, total)) == 900
    assert max(map(len, lines[:3])) <= 80
