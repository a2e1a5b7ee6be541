"""The page in headless Chromium: one asks and sees the answers, and nothing is asked of anybody else."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedumm.cli.main import main
from support.browser import Tab, browse
from support.needed import needed_browser

pytestmark = pytest.mark.slow

RUN = ["--model_backend", "januspro", "--model_name_or_path", "tiny", "--dataset", "shapes", "--task", "unified",
       "--num_clients", "2", "--num_rounds", "1", "--in_process", "--max_train_samples", "24",
       "--max_eval_samples", "8", "--geneval_prompts", "0", "--lora_r", "2", "--gpu", "cpu",
       "--tracker", "none"]  # fmt: skip


def test_answers_and_drawings_are_side_by_side(tmp_path: Path) -> None:
    chromium = needed_browser()
    assert main(["federate", *RUN, "--name", str(tmp_path / "run")]) == 0
    command = [sys.executable, "-m", "fedumm", "play", str(tmp_path / "run"), "--gpu", "cpu"]
    play = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ender = threading.Timer(200, play.kill)
    ender.start()
    try:
        assert play.stdout
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]+/", play.stdout.readline())
        asyncio.run(browse(chromium, tmp_path / "profile", address, visit))
        play.send_signal(signal.SIGINT)
        told, errors = play.communicate(timeout=60)
    finally:
        ender.cancel()
        play.kill()
    assert (play.returncode, "Ended." in told) == (0, True)
    assert "Traceback" not in errors
    assert address.split("/")[3] not in errors, "the address is told once"


async def visit(tab: Tab) -> None:
    await tab.run("document.querySelector('button.example').click()")
    await tab.until("document.querySelectorAll('#answers p:not(.wait)').length == 2")
    assert await tab.run("[...document.querySelectorAll('#answers h3')].map(one => one.textContent)") == [
        "untrained", "best",
    ]  # fmt: skip
    assert all(await tab.run("[...document.querySelectorAll('#answers p')].map(one => one.textContent)"))
    assert await tab.run("document.getElementById('said').textContent")
    await tab.run("document.querySelector('button.caption').click()")
    await tab.until("document.querySelectorAll('#drawings img').length == 2")
    assert await tab.run("[...document.querySelectorAll('#drawings img')].every(one => one.naturalWidth > 0)")
    await tab.run("document.getElementById('question').value = ''; document.querySelector('#ask button').click()")
    await tab.until("document.querySelectorAll('#answers p.failed').length == 2")
    assert await tab.run("document.querySelector('#answers p.failed').textContent") == "Which question?"
    papers = set()
    for width in (1280, 400):
        for dark in (False, True):
            await tab.screen(width, 900, dark)
            assert await tab.run("document.documentElement.scrollWidth") <= width
            assert await tab.run("[...document.images].filter(i => !i.hidden && i.width < 40).length") == 0
            papers.add(await tab.run("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2, "light and dark"
    where = {url.split("/")[2] for url in tab.asked if not url.startswith(("data:", "blob:"))}
    assert len(where) == 1, where
    # A refused request is told by the browser itself.
    assert all("400" in told for told in tab.console), tab.console
