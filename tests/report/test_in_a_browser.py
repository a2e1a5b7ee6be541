"""A report in headless Chromium: nothing is asked for, nothing fails, and everything is seen on any screen."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedumm.report.page.examples import Example
from fedumm.report.page.history import read_history
from fedumm.report.page.render import page
from support.needed import needed_browser
from support.recorded_run import HOSTILE, record_run

pytestmark = pytest.mark.slow

WIDTHS = (1280, 400)
HARNESS = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><pre id="out"></pre><script>
const widths = %s, found = {};
function look(width, frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll("details").forEach(one => { one.open = true; });
  const box = one => { const r = one.getBoundingClientRect(); return [r.width, r.height, r.left, r.right]; };
  const shown = one => [...box(one), view.getComputedStyle(one).visibility];
  found[width] = {
    overflow: page.documentElement.scrollWidth - width,
    figures: [...page.querySelectorAll("figure.chart svg")].map(shown),
    letters: [...page.querySelectorAll("figure.chart svg text")].map(one => box(one)[1]),
    images: [...page.images].map(one => [...shown(one), one.naturalWidth]),
    paper: view.getComputedStyle(page.body).backgroundColor,
    ink: view.getComputedStyle(page.body).color,
    scripts: page.scripts.length,
  };
  if (Object.keys(found).length == widths.length) document.getElementById("out").textContent = JSON.stringify(found);
}
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; height: 4000px; width: ${width}px`;
  frame.onload = () => look(width, frame);
  frame.src = "report.html";
  document.body.append(frame);
}
</script>"""


class Asked(SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        super().do_GET()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a page that shows a report in frames of each width, and what is asked of it."""
    folder = record_run(tmp_path / ("long-name-" * 8), label=HOSTILE, client=HOSTILE, epsilon=0.5, reason=HOSTILE)
    (folder / "samples").mkdir()
    Image.new("RGB", (64, 48), "orange").save(folder / "samples" / "000.jpg")
    Image.new("RGB", (64, 64), "green").save(folder / "samples" / "000-after.png")
    texts = {"before": "no", "after": HOSTILE, "score_before": 0.0, "score_after": 1.0}
    examples = [
        Example("vqa", HOSTILE * 3, (HOSTILE, "x" * 300), **texts, image="samples/000.jpg"),
        Example("t2i", "a circle", (), None, None, 0.1, 0.2, drawn_after="samples/000-after.png"),
    ]
    served = tmp_path / "served"
    served.mkdir()
    (served / "report.html").write_text(page(read_history(folder), examples, "a note"), encoding="utf-8")
    (served / "frames.html").write_text(HARNESS % list(WIDTHS), encoding="utf-8")
    asked: list[str] = []
    handler = type("Noted", (Asked,), {"paths": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/frames.html", asked
        server.shutdown()
        thread.join()


def look(address: str, profile: Path, dark: bool) -> tuple[dict[str, Any], str]:
    """What the page says of its frames, and what the browser has to say of it."""
    command = [
        needed_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--disable-background-networking", "--disable-component-update", "--no-first-run", "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=1400,1200",
        "--virtual-time-budget=10000", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    out = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert out, done.stdout[-2000:]
    return json.loads(unescape(out.group(1))), done.stderr


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_whole_on_any_screen(site: tuple[str, list[str]], tmp_path: Path, dark: bool) -> None:
    address, asked = site
    found, said = look(address, tmp_path / "profile", dark)
    assert set(asked) <= {"/frames.html", "/report.html"}, "the page asks for nothing else"
    assert "CONSOLE" not in said, said
    for width in WIDTHS:
        own = found[str(width)]
        assert own["overflow"] <= 0, f"at {width} pixels nothing is wider than the screen"
        assert len(own["figures"]) >= 10
        for wide, high, left, right, visible in own["figures"]:
            assert wide > 250
            assert high > 100
            assert left >= 0
            assert right <= width
            assert visible == "visible"
        assert min(own["letters"]) >= 8, "letters of figures can be read"
        assert len(own["images"]) == 2
        for wide, high, _, right, visible, natural in own["images"]:
            assert min(wide, high) > 40
            assert right <= width
            assert visible == "visible"
            assert natural == 64
        assert own["scripts"] == 0
        paper, ink = (sum(map(int, re.findall(r"\d+", own[name])[:3])) for name in ("paper", "ink"))
        assert (paper < ink) == dark
        assert abs(paper - ink) > 500, "text stands out from the paper"
