"""The documentation site: every page is in its menu, every option on its page; built, no link leads nowhere."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import fedumm
from docs_reference import commands_page, options_page
from docs_site import FRONT, REFERENCE, menu
from fedumm.cli.main import COMMANDS
from fedumm.config import CentralConfig, FederateConfig
from fedumm.run_options import known_options
from support.needed import needed_browser
from support.pages import PAGES, ROOT, name

needs_sphinx = pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_nb") is None,
    reason="pip install -e '.[docs]'",
)


def test_every_page_is_in_the_menu() -> None:
    shown = [page for pages in menu().values() for page in pages]
    found = [*map(name, PAGES), *map(name, (ROOT / "docs").rglob("*.ipynb"))]
    own = [page for page in found if not page.startswith("docs/decisions/")]
    assert sorted(shown) == sorted(
        [*own, "docs/decisions/index.md", *(f"docs/reference/{one}.rst" for one in REFERENCE)]
    )
    assert {page for page in own if "/" not in page} <= set(FRONT)


def test_every_option_is_described_once_with_what_it_may_be() -> None:
    page = options_page()
    flags = re.findall(r"^\.\. option:: --(\w+)", page, re.MULTILINE)
    assert sorted(flags) == sorted({*known_options(FederateConfig), *known_options(CentralConfig)})
    about = {text.split()[0]: text for text in page.split(".. option:: --")[1:]}
    assert "*whole number*; above 0; default ``2``; only ``fedumm federate``" in about["num_clients"]
    assert "one of ``off``, ``central``, ``local``; default ``off``" in about["dp"]
    assert "default ``0``" in about["clients_per_round"]
    assert "only ``fedumm train``" in about["num_epochs"]
    assert "*text*; required" in about["model_backend"]


@pytest.mark.slow
def test_every_command_says_what_it_does() -> None:
    parts = commands_page().split("\nfedumm ")[1:]
    assert [part.split("\n")[0] for part in parts] == list(COMMANDS)
    assert all(f"usage: fedumm {command}" in part for command, part in zip(COMMANDS, parts, strict=True))
    assert "--simulator " not in parts[0].partition("options:")[2], "a run's options have a page of their own"


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value and key in ("id", "name"):
                self.anchors.add(value)
            elif value and key in ("href", "src", "srcset", "data", "poster"):
                (self.links if tag == "a" else self.loads).append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; that it is built is itself a test: Sphinx's warnings are errors."""
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, str(ROOT / "scripts" / "docs_site.py"), str(out)]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == ["site"], "nothing is left beside it"
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


@needs_sphinx
@pytest.mark.slow
def test_no_link_leads_nowhere(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 50
    dead = []
    for file, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or link == "#":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target.suffix == ".html" and anchor not in pages[target].anchors):
                dead.append((file.relative_to(site).as_posix(), link))
    assert not dead


@needs_sphinx
@pytest.mark.slow
def test_nothing_comes_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    outside = [load for page in pages.values() for load in page.loads if urlsplit(load).scheme not in ("", "data")]
    assert not outside
    sheets = "".join(sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheets)


@needs_sphinx
@pytest.mark.slow
def test_what_is_offered_is_described(pages: dict[Path, Page], site: Path) -> None:
    anchors = pages[site / "docs" / "reference" / "python.html"].anchors
    described = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("fedumm.")}
    assert set(fedumm.__all__) <= described
    assert "cmdoption-dirichlet_alpha" in pages[site / "docs" / "reference" / "options.html"].anchors


def looked_at(address: str, profile: Path) -> str:
    """What a browser makes of a page, as HTML; a message on its console fails the test."""
    command = [
        needed_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={profile}", "--disable-background-networking", "--disable-component-update",
        "--enable-logging=stderr", "--virtual-time-budget=60000", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@needs_sphinx
@pytest.mark.slow
def test_a_search_finds_an_option_without_a_server(site: Path, tmp_path: Path) -> None:
    found = looked_at(f"{(site / 'search.html').as_uri()}?q=dirichlet_alpha", tmp_path)
    assert "docs/reference/options.html#cmdoption-dirichlet_alpha" in found


LOOK = """<pre id="out"></pre><script>
async function go(found) {
  for (const [page, width] of %s) await new Promise(done => {
    const frame = document.createElement("iframe");
    frame.style = `border: 0; height: 3000px; width: ${width}px`;
    frame.onload = () => {
      const own = frame.contentDocument;
      const lost = [...own.images].filter(one => one.loading != "lazy" && !one.naturalWidth).map(one => one.src);
      if (own.documentElement.scrollWidth > width || lost.length) found.push([page, width, lost]);
      frame.remove();
      done();
    };
    frame.src = page;
    document.body.append(frame);
  });
  document.getElementById("out").textContent = JSON.stringify(found);
}
go([]);
</script>"""


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None: ...


@needs_sphinx
@pytest.mark.slow
def test_every_page_fits_every_screen(site: Path, pages: dict[Path, Page], tmp_path: Path) -> None:
    served = shutil.copytree(site, tmp_path / "served")
    shown = [(file.relative_to(site).as_posix(), width) for width in (400, 1280) for file in pages]
    (served / "frames.html").write_text(LOOK % json.dumps(shown), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = looked_at(f"http://127.0.0.1:{server.server_address[1]}/frames.html", tmp_path / "profile")
        server.shutdown()
    assert '<pre id="out">[]</pre>' in made, "wider than the screen, or without its pictures"


@needs_sphinx
@pytest.mark.slow
@pytest.mark.parametrize("broken", ["[there](nowhere.md)", "[there](#nowhere)", "{py:func}`fedumm.nothing`"])
def test_a_broken_link_is_an_error(broken: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "site" / "conf.py", tmp_path)
    shutil.copytree(ROOT / "docs" / "site" / "_static", tmp_path / "_static")
    (tmp_path / "index.md").write_text(f"# Page\n\nIt is {broken}.\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "dummy", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "nowhere" in done.stderr or "fedumm.nothing" in done.stderr
