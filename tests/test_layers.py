"""Imports go down only, by the table of layers in ``docs/architecture.md``, and no two modules import each other."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FILES = {".".join(f.relative_to(SOURCE).with_suffix("").parts): f for f in (SOURCE / "fedumm").rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): file for name, file in FILES.items()}
ROWS = re.findall(r"^\| \d+ \|[^|]*\|([^|]*)\|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
LAYERS = [re.findall(r"`(fedumm\.[\w.]+)`", row) for row in ROWS]
"""From top to bottom: what stands in one row is side by side, and does not import each other."""


def imported(module: str) -> set[str]:
    """Our own modules that ``module`` imports anywhere: in functions, and for types only, too."""
    found = set[str]()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write absolute imports, this test reads no others"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    # Everybody may ask the package itself for its version; in turn it offers everything, when it is asked for.
    return (found & MODULES.keys()) - {module, "fedumm"}


GRAPH = {module: imported(module) for module in MODULES if module != "fedumm"}
EDGES = {(module, other) for module, others in GRAPH.items() for other in others}


def package(module: str) -> str:
    """The entry of the table that ``module`` belongs to."""
    if module == "fedumm.flare":  # a room of the runners: only its path is fixed, by the sites that allow it
        return "fedumm.federation.runners"
    found = [name for name in chain.from_iterable(LAYERS) if f"{module}.".startswith(f"{name}.")]
    assert found, f"{module} is in no layer: add it to the table in docs/architecture.md"
    return max(found, key=len)


def goes_down(module: str, other: str) -> bool:
    high, low = package(module), package(other)
    places = [next(place for place, row in enumerate(LAYERS) if name in row) for name in (high, low)]
    return high == low or places[0] < places[1]


def test_imports_go_down_only() -> None:
    assert len(EDGES) > 500, "there is something to check"
    assert {edge for edge in EDGES if not goes_down(*edge)} == set()


def test_no_modules_import_each_other() -> None:
    TopologicalSorter(GRAPH).prepare()


def test_the_check_finds_an_import_up() -> None:
    assert not goes_down("fedumm.errors", "fedumm.cli.main")
    assert not goes_down("fedumm.federation.client.host", "fedumm.federation.server.server")
    assert goes_down("fedumm.cli.main", "fedumm.errors")
