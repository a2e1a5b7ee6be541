"""The program that the page asks: on this machine only, for who knows the address only."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fedumm import __version__
from fedumm.errors import FedummError
from fedumm.images import ImageError, open_image
from fedumm.play.cast import Cast
from fedumm.texts import one_line

HOST = "127.0.0.1"
LARGEST = 30_000_000
"""Bytes of a picture."""

LONGEST = 2000
"""Characters of a question or a caption."""

_SECONDS = 60


class PlayServer(ThreadingHTTPServer):
    """Serves the page and its requests until it is shut down.

    The address has a token that nobody can guess: others who use this machine could otherwise ask, too. Nothing that
    is sent is kept.

    Args:
        cast: who is asked.
        port: 0: any that is free.
        render: makes the page, by the nonce that its own script and style are allowed by.

    Raises:
        FedummError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, cast: Cast, port: int, render: Callable[[str], str]) -> None:
        self.cast, self.render, self.token = cast, render, secrets.token_urlsafe(18)
        try:
            super().__init__((HOST, port), PlayRequest)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FedummError(f"--port {port} can't be used: {reason}. Choose another, or leave it out.") from error

    @property
    def address(self) -> str:
        """Of the page, for a browser."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is nothing to tell of."""


class PlayRequest(BaseHTTPRequestHandler):
    """One request: the page, an answer (``POST answer?who=...&question=...`` with a picture's bytes), a drawing."""

    server: PlayServer
    timeout = _SECONDS
    server_version = f"fedumm/{__version__}"
    sys_version = ""

    def log_message(self, *args: Any) -> None:
        """The address is a secret."""

    @cached_property
    def _parts(self) -> tuple[str, dict[str, str]]:
        """What is asked for, and with which values; nothing of an address that is not ours."""
        split = urlsplit(self.path)
        _, token, *rest = [*split.path.split("/", 2), ""]
        port = self.server.server_address[1]
        # Another name in Host: a page of somebody else's, whose name leads here.
        ours = self.headers.get("Host") in {f"{HOST}:{port}", f"localhost:{port}"}
        if not ours or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            return "no", {}
        values = parse_qs(split.query, keep_blank_values=True, max_num_fields=10)
        return f"/{rest[0]}", {name: own[0] for name, own in values.items()}

    def do_GET(self) -> None:
        """The page."""
        if self._parts[0] != "/":
            self._send(HTTPStatus.NOT_FOUND, b"There is nothing here.\n", "text/plain")
            return
        nonce = secrets.token_urlsafe(12)
        rule = (
            f"default-src 'none'; img-src data: blob:; connect-src 'self'; style-src 'nonce-{nonce}'; "
            f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        )
        page = self.server.render(nonce).encode()
        self._send(HTTPStatus.OK, page, "text/html; charset=utf-8", {"Content-Security-Policy": rule})

    def do_POST(self) -> None:
        """An answer or a drawing."""
        work = {"/answer": self._answer, "/draw": self._draw}.get(self._parts[0])
        if work is None:
            self._send(HTTPStatus.NOT_FOUND, b"There is nothing here.\n", "text/plain")
            return
        try:
            content, kind = work(self._parts[1])
        except (FedummError, ImageError) as error:
            self._fail(HTTPStatus.BAD_REQUEST, one_line(error))
        except Exception as error:  # of a model, of memory: the page says so, and the next request may go well
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {one_line(error, 300)}")
        else:
            self._send(HTTPStatus.OK, content, kind)

    def _answer(self, values: dict[str, str]) -> tuple[bytes, str]:
        try:
            picture = open_image(self._body())
        except ImageError as error:
            raise FedummError(f"The picture can't be read: {one_line(error)}.") from error
        said = self.server.cast.answer(values.get("who", ""), picture, _text(values, "question"))
        return json.dumps({"answer": said}).encode(), "application/json"

    def _draw(self, values: dict[str, str]) -> tuple[bytes, str]:
        seed = values.get("seed", "0")
        if not (seed.isascii() and seed.isdigit() and int(seed[:12]) < 2**32 and len(seed) <= 12):
            raise FedummError("The seed must be a whole number from 0 to 4,294,967,295.")
        picture = self.server.cast.draw(values.get("who", ""), _text(values, "caption"), int(seed))
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue(), "image/png"

    def _body(self) -> bytes:
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit()):
            raise FedummError("The picture's size is missing.")
        if len(size) > 12 or int(size) > LARGEST:
            self.close_connection = True
            raise FedummError(f"The picture is larger than {LARGEST // 10**6} MB.")
        return self.rfile.read(int(size))

    def _fail(self, status: HTTPStatus, text: str) -> None:
        self._send(status, json.dumps({"error": text}).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin", **(more or {}),
        }  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _text(values: dict[str, str], name: str) -> str:
    text = values.get(name, "")
    if len(text) > LONGEST:
        raise FedummError(f"The {name} is longer than {LONGEST:,} characters.")
    return text
