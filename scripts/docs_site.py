#!/usr/bin/env python
"""Build the documentation site in ``site/``; a link or a name that leads nowhere is an error.

    make docs
    python scripts/docs_site.py site

Pages are the Markdown files of the project as they are, at the same places, so that their links hold here and on a
code-hosting site. Their order is that of ``docs/index.md``: a heading is a part of the menu, links in its table are
its pages. Pages on options and commands are made by ``scripts/docs_reference.py``.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from docs_reference import commands_page, options_page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FRONT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")
REFERENCE = ("options", "commands", "python", "parts")


def menu() -> dict[str, list[str]]:
    """Pages by heading of ``docs/index.md``, as paths from the root; those of the reference come to theirs."""
    parts: dict[str, list[str]] = {}
    for block in (DOCS / "index.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, text = block.partition("\n")
        links = [re.sub(r"^docs/\.\./", "", f"docs/{link}") for link in re.findall(r"\]\(([^)#\s]+)", text)]
        parts[heading] = list(dict.fromkeys(links))
    parts["Reference"][1:1] = [f"docs/reference/{name}.rst" for name in REFERENCE]
    return parts


def gather(source: Path) -> None:
    """Put all pages into the folder ``source``, where Sphinx reads them."""
    shutil.copytree(DOCS, source / "docs", ignore=shutil.ignore_patterns("site", ".*"))
    shutil.copytree(DOCS / "site" / "_static", source / "_static")
    shutil.copy(DOCS / "site" / "conf.py", source)
    for name in FRONT:
        shutil.copy(ROOT / name, source)
    reference = source / "docs" / "reference"
    reference.mkdir()
    for page in (DOCS / "site").glob("*.rst"):
        shutil.copy(page, reference)
    (reference / "options.rst").write_text(options_page(), encoding="utf-8")
    (reference / "commands.rst").write_text(commands_page(), encoding="utf-8")
    shutil.move(reference / "index.rst", source)
    with (source / "index.rst").open("a", encoding="utf-8") as front:
        for heading, pages in menu().items():
            lines = [":hidden:", f":caption: {heading}", "", *(_entry(source, page) for page in pages)]
            front.write("\n.. toctree::\n" + "".join(f"   {line}".rstrip() + "\n" for line in lines))
    decisions = source / "docs" / "decisions"
    names = sorted(page.stem for page in decisions.glob("*.md") if page.stem != "index")
    with (decisions / "index.md").open("a", encoding="utf-8") as table:
        table.write("\n".join(["", "```{toctree}", ":hidden:", "", *names, "```", ""]))


def _entry(source: Path, page: str) -> str:
    """A line of the menu: of a Markdown page its heading up to a colon."""
    heading = (source / page).read_text(encoding="utf-8").partition("\n")[0]
    name, colon, _ = heading.removeprefix("# ").partition(":")
    return f"{name} <{page}>" if page.endswith(".md") and colon else page


def build(out: Path) -> int:
    """Build the site in the folder ``out``, anew; Sphinx's status, 0 if all is well: else ``out`` stays as it was."""
    try:
        from sphinx.cmd.build import main as sphinx
    except ImportError:
        print(
            "The site needs Sphinx, with Python 3.11 or newer: pip install -c constraints.txt -e '.[docs]'",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="fedumm-docs-") as folder:
        source, made = Path(folder, "source"), Path(folder, "made", "html")
        gather(source)
        options = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(Path(folder, "doctrees"))]
        status = int(sphinx([*options, str(source), str(made)]))
        if status == 0:
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(made, out)
    return status


def main() -> int:
    """Entry point."""
    if len(sys.argv) > 2:
        print(__doc__)
        return 2
    out = Path(sys.argv[1] if len(sys.argv) == 2 else ROOT / "site").resolve()
    status = build(out)
    if status == 0:
        print(f"Documentation: {out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
