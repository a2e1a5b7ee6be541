"""``docs/aggregation.md`` is true: its table, the results that it shows, and its example of an aggregator."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import scipy.optimize
import test_matrix
import torch
from test_matrix import CASES, ROWS

import report
from fedumm.aggregation import available_aggregators, get_aggregator
from fedumm.aggregation.registry import aggregators
from fedumm.compression.codecs import BLOCK
from fedumm.compression.registry import CODECS
from fedumm.config import FederateConfig, option_fields
from fedumm.run_options import known_options
from support.toy import Run

PAGE = (Path(__file__).parents[2] / "docs" / "aggregation.md").read_text(encoding="utf-8")
EXAMPLE = "geometric_median"


def table(title: str) -> list[dict[str, str]]:
    """The first table of a section, as column to cell."""
    lines = [line for line in PAGE.split(f"\n## {title}\n")[1].split("\n\n- ")[0].split("\n") if line.startswith("|")]
    head, _, *body = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in lines)
    return [dict(zip(head, cells, strict=True)) for cells in body]


METHODS = {row["`--aggregator`"].strip("`"): row for row in table("Methods")}


def test_the_table_has_every_method_once() -> None:
    assert sorted(row["`--aggregator`"].strip("`") for row in table("Methods")) == available_aggregators()


@pytest.mark.parametrize("name", available_aggregators())
def test_the_table_says_what_the_class_says(name: str) -> None:
    row, method = METHODS[name], get_aggregator(name)
    traits = {
        "unequal ranks": method.unequal_ranks,
        "changes W0": method.updates_base_model,
        "central DP": method.linear,
    }
    assert {column: row[column] for column in traits} == {c: "yes" if trait else "no" for c, trait in traits.items()}
    options = {
        *(f.name for f in option_fields(method.Options)),
        *(["export_rank"] if method.updates_base_model else []),
    }
    assert set(re.findall(r"`(\w+)`", row["options"])) == options
    travels = method().trainable_factors(1) & method.communicated_factors
    assert row["bytes down, up"].endswith(", 1/2" if len(travels) == 1 else ", 1")
    source = inspect.getsource(sys.modules[method.__module__])
    source += "".join(inspect.getdoc(base) or "" for base in method.__mro__)
    links = re.findall(r"\]\((https://arxiv[^)]+)\)", row["paper"])
    assert links
    assert all(link in source for link in links)


def test_every_flag_exists() -> None:
    assert set(re.findall(r"`--(\w+)", PAGE)) <= known_options(FederateConfig).keys() | {"help", "nu"}


def test_bytes_of_the_codecs_are_as_stated() -> None:
    rows = {row[""].split("`")[1]: row for row in table("On the wire") if "top_k" not in row[""]}
    for wire in ("float32", "bfloat16", "int8", "nf4"):
        size = CODECS.get(wire).size(100 * BLOCK, torch.float32)
        assert float(rows[wire]["bits a value"]) == 8 * size / (100 * BLOCK)
        assert float(rows[wire]["x"]) == round(size / (400 * BLOCK), 3)


def test_the_tables_are_those_of_the_last_results() -> None:
    assert "<!-- aggregation.json -->" in PAGE
    assert report.with_tables(PAGE) == PAGE, "python benchmarks/report.py none"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page's example, which registers itself, and its row in the matrix."""
    code, row = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / f"{EXAMPLE}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(EXAMPLE)
    rows = dict(ROWS)
    exec(row, {**vars(test_matrix), "scipy": scipy, "ROWS": rows})
    monkeypatch.setitem(ROWS, EXAMPLE, rows[EXAMPLE])
    yield EXAMPLE
    aggregators.forget(EXAMPLE)
    del sys.modules[EXAMPLE]


def test_the_example_passes_the_matrix(example: str) -> None:
    test_matrix.test_the_matrix_has_a_row_for_every_aggregator()
    for case in ("equal", "unequal-weights", "parts-unsent"):
        test_matrix.test_delivers_what_the_paper_says(example, case, 1)
        test_matrix.test_any_order_of_clients_gives_the_same_bits(example, case)
        test_matrix.test_going_on_from_the_state_gives_the_same_bits(example, case)
    assert all("ranks" in case for case in CASES.keys() - {"equal", "unequal-weights", "parts-unsent"})
    test_matrix.test_says_truly_what_it_is(example)
    test_matrix.test_one_object_serves_round_after_round(example)
    test_matrix.test_what_nobody_trained_keeps_its_value(example)
    test_matrix.test_bad_contributions_are_refused_and_leave_no_trace(example)
    test_matrix.test_a_round_without_clients_has_no_result(example)


def test_the_example_federates(example: str, run_toy: Run) -> None:
    path, records = run_toy(aggregator=example, lr=0.1, nu=1e-8)
    assert "\naggregator: geometric_median\nnu: 1.0e-08\n" in (path / "config.yaml").read_text()
    (summary,) = [record for record in records if record["event"] == "summary"]
    assert summary["last"]["round"] == 2
    assert summary["last"]["test"] > summary["untrained"]["test"]
