"""``fedumm play``: the page asks who it says, only who has its address can, and bad requests are one sentence."""

from __future__ import annotations

import http.client
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import torch
from PIL import Image

from fedumm.cli.main import main
from fedumm.cli.play import adapters_of
from fedumm.errors import FedummError
from fedumm.play.cast import Cast, Role
from fedumm.play.page import Suggestion, render
from fedumm.play.server import LARGEST, PlayServer
from support.recorded_run import HOSTILE


class Backend:
    """Says which adapter it has, and draws it."""

    def answer(self, model: Any, processor: Any, picture: Any, question: str, device: Any) -> str:
        if question == "fail":
            raise RuntimeError("out of memory\x1b")
        return f"{model.weight}: {picture.size[0]} pixels, {question}"

    def draw(self, model: Any, processor: Any, captions: Any, seeds: Any, device: Any, **_: Any) -> list[Any]:
        return [Image.new("RGB", (8, 8), (int(model.weight), seed, len(text))) for text, seed in zip(captions, seeds)]  # noqa: B905


class Backbone:
    """As :class:`fedumm.training.backbone.Backbone`, of which a cast uses this much."""

    def __init__(self) -> None:
        self.backend, self.model, self.processor = Backend(), self, None
        self.device, self.weight, self.limits = torch.device("cpu"), 0, dict[str, int]()

    def adapter(self) -> dict[str, Any]:
        return {"w": self.weight}

    def autocast(self) -> Any:
        return nullcontext()

    def put(self, state: Any) -> None:
        self.weight = state["w"]


Ask = Callable[..., tuple[int, bytes, dict[str, str]]]


@pytest.fixture(scope="module")
def server() -> Iterator[PlayServer]:
    made: Any = Backbone()
    cast = Cast(made, [Role("best", {"w": 1}), Role(HOSTILE, {"w": 2})], "vqa")  # type: ignore[dict-item]
    suggestions = [Suggestion(HOSTILE, HOSTILE, "data:image/png;base64,AAAA"), Suggestion(HOSTILE)]
    page = lambda nonce: render(cast, HOSTILE, [HOSTILE], [HOSTILE], suggestions, nonce)  # noqa: E731
    with PlayServer(cast, 0, page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(server: PlayServer) -> Ask:
    def asked(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        own = urlsplit(server.address)
        connection = http.client.HTTPConnection("127.0.0.1", own.port, timeout=20)
        connection.request(method, path if path.startswith("//") else own.path + path, body, headers)
        reply = connection.getresponse()
        found = reply.status, reply.read(), dict(reply.getheaders())
        connection.close()
        return found

    return asked


def picture(width: int = 3) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 2), "red").save(file, "PNG")
    return file.getvalue()


def test_each_adapter_answers_for_itself(ask: Ask) -> None:
    for who, weight in (("untrained", 0), ("best", 1), (HOSTILE, 2), ("untrained", 0)):
        status, said, _ = ask("POST", f"answer?who={quote(who)}&question={quote('which? é')}", picture())
        assert (status, json.loads(said)) == (200, {"answer": f"{weight}: 3 pixels, which? é"})


def test_a_drawing_is_that_of_the_adapter_and_the_seed(ask: Ask) -> None:
    status, drawn, headers = ask("POST", "draw?who=best&caption=abc&seed=7")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(drawn)).getpixel((0, 0)) == (1, 7, 3)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("answer?who=best&question=x", b"no picture", "can't be read"),
        ("answer?who=best&question=x", b"", "can't be read"),
        ("answer?who=nobody&question=x", picture(), "no such adapter"),
        ("answer?who=best&question=%20", picture(), "Which question"),
        ("answer?who=best", picture(), "Which question"),
        (f"answer?who=best&question={'x' * 2001}", picture(), "longer than 2,000"),
        ("draw?who=best&caption=", b"", "should be drawn"),
        ("draw?who=best&caption=x&seed=-1", b"", "seed"),
        ("draw?who=best&caption=x&seed=99999999999999999", b"", "seed"),
        ("answer?who=best&question=fail", picture(), "RuntimeError: out of memory\\x1b"),
    ],
)
def test_a_bad_request_is_one_sentence(ask: Ask, path: str, body: bytes, told: str) -> None:
    status, said, _ = ask("POST", path, body)
    assert status == (500 if "Runtime" in told else 400)
    assert told in json.loads(said)["error"]


def test_a_picture_that_is_too_large_is_not_read(ask: Ask) -> None:
    status, said, _ = ask("POST", "answer?who=best&question=x", b"x", **{"Content-Length": str(LARGEST + 1)})
    assert status == 400
    assert "larger than 30 MB" in json.loads(said)["error"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_who_knows_the_address_is_answered(server: PlayServer, ask: Ask, method: str) -> None:
    for path in ("//", "//wrong/", f"//{server.token[:-1]}/", "nothing", "../", f"//{server.token}"):
        assert ask(method, path, picture() if method == "POST" else None)[0] == (
            200 if path == f"//{server.token}" and method == "GET" else 404
        )
    assert ask(method, "", None, Host="evil.example")[0] == 404
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 20


def test_the_page_asks_nobody_else_and_shows_texts_as_texts(ask: Ask) -> None:
    status, content, headers = ask("GET", "")
    page = content.decode()
    assert status == 200
    rule = headers["Content-Security-Policy"]
    assert rule.startswith("default-src 'none'; img-src data: blob:; connect-src 'self'")
    (nonce,) = set(re.findall(r"nonce-([\w-]+)", rule))
    assert page.count(f'nonce="{nonce}"') == 2
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "http" not in page
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "alert(1)&lt;/script" in page
    assert ask("GET", "")[2]["Content-Security-Policy"] != rule


def test_a_port_that_is_taken_is_one_sentence(server: PlayServer) -> None:
    with pytest.raises(FedummError, match=r"--port \d+ can't be used"):
        PlayServer(server.cast, server.server_address[1], str)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_adapters_of_a_run_are_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    best = made(run / "adapter" / "best")
    (run / "config.yaml").write_text("")
    assert adapters_of(str(run)) == (run, {"best": best})
    clients = {name: made(run / "clients" / name / "adapter") for name in ("site-10", "site-2")}
    found, folders = adapters_of(str(run))
    assert (found, list(folders), folders["site-2"]) == (run, ["site-2", "site-10"], clients["site-2"])
    central = made(tmp_path / "central" / "adapter")
    (central.parent / "config.yaml").write_text("")
    assert adapters_of(str(central.parent)) == (central.parent, {"trained": central})
    copy = made(tmp_path / "copy")
    assert adapters_of(str(copy)) == (copy, {"trained": copy})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nowhere"], "no run with an adapter"),
        (["x", "--port", "70000"], "--port"),
        (["x", "--adapter", "y"], "without --adapter"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(given: list[str], told: str, capsys: Any) -> None:
    assert main(["play", *given]) == 2
    assert told in capsys.readouterr().err
