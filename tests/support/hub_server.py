"""A small Hugging Face Hub on this machine: it serves folders as repositories.

It speaks the part of the Hub's HTTP interface that ``huggingface_hub``, ``transformers``
and ``datasets`` use to look at and download a repository. They read the address once, when
they are imported: a child process started with ``env()`` uses it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Repositories = dict[tuple[str, str], Path]

_API = re.compile(
    r"/api/(model|dataset)s/([^/]+/[^/]+?)(?:/(revision|tree|paths-info|refs|preupload|commit)(?:/([^/]+)(?:/(.*))?)?)?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Request:
    """One answered request; ``sent`` counts the bytes of the answer's body."""

    method: str
    path: str
    status: int
    sent: int


@dataclass(frozen=True)
class Reply:
    """What to send back."""

    status: int
    body: bytes
    headers: dict[str, str]


def _json(value: Any) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _missing(code: str, status: int = 404, **headers: str) -> Reply:
    named = {"X-Error-Code": code, "X-Error-Message": f"{code} (from the test server)", **headers}
    return Reply(status, b"{}", {"Content-Type": "application/json", **named})


class Repository:
    """A folder seen as a repository whose only branch is ``main``."""

    def __init__(self, kind: str, name: str, folder: Path) -> None:
        self.kind, self.name, self.folder = kind, name, folder
        self.files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        content = [(path, _digest(file)) for path, file in self.files.items()]
        self.commit = hashlib.sha1(repr((name, content)).encode()).hexdigest()

    def info(self) -> dict[str, Any]:
        """The answer to ``/api/models/{name}``."""
        return {
            "_id": self.commit[:24],
            "id": self.name,
            "sha": self.commit,
            "private": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in self.files],
        }

    def _entry(self, path: str) -> dict[str, Any]:
        if path not in self.files:
            return {"type": "directory", "oid": self.commit, "size": 0, "path": path}
        file = self.files[path]
        return {"type": "file", "oid": _digest(file), "size": file.stat().st_size, "path": path}

    def entries(self, paths: list[str]) -> list[dict[str, Any]]:
        """Files and folders among ``paths``, as the Hub lists them."""
        folders = {str(Path(p).parents[0]) for p in self.files}
        return [self._entry(path) for path in paths if path in self.files or path in folders]

    def tree(self, under: str, recursive: bool) -> list[dict[str, Any]]:
        """What lies in the folder ``under``."""
        base = f"{under}/" if under else ""
        inside = [path.removeprefix(base) for path in self.files if path.startswith(base)]
        names = {"/".join(p.split("/")[: i + 1]) for p in inside for i in range(p.count("/") + 1)}
        return [self._entry(base + name) for name in sorted(names) if recursive or "/" not in name]


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


class HubServer:
    """The server; a context manager that also stops it.

    Attributes:
        endpoint: its address, for ``HF_ENDPOINT``.
        requests: what it answered so far.
        gated: repositories that everyone may see and whose files nobody may read.
        troubled: the answer to every request that concerns a repository.
        readers: tokens that may read and not write.

    Args:
        uploads: where new repositories are kept; None: there can't be any.
    """

    def __init__(self, repositories: Repositories, uploads: Path | None = None) -> None:
        self.uploads, self.readers, self.created = uploads, set[str](), dict[str, dict[str, Any]]()
        self.repositories = {key: Repository(*key, folder) for key, folder in repositories.items()}
        self.requests: list[Request] = []
        self.gated: set[str] = set()
        self.troubled: dict[str, Reply] = {}
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def env(self, home: Path) -> dict[str, str]:
        """Variables that point a child process here, with its caches under ``home``."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}

    def answer(self, method: str, target: str, byte_range: str | None, body: bytes, token: str = "") -> Reply:
        """The reply to one request."""
        url = urlsplit(target)
        path, query = unquote(url.path), parse_qs(url.query)
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body), token)
        for name, reply in self.troubled.items():
            if f"/{name}" in path:
                return reply
        if match := _FILE.fullmatch(path):
            return self._file("dataset" if match[1] else "model", match[2], match[3], match[4], byte_range)
        if match := _API.fullmatch(path):
            return self._api(match[1], match[2], match[3], match[4], match[5] or "", query, body)
        return _missing("NotFound")

    def _api(
        self, kind: str, name: str, verb: str | None, revision: str | None, path: str, query: Any, body: bytes
    ) -> Reply:
        repo = self.repositories.get((kind, name))
        if repo is None:
            return _missing("RepoNotFound", 401)
        if revision not in (None, "main", repo.commit):
            return _missing("RevisionNotFound")
        if verb == "preupload":
            files = [{"path": own["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for own in json.loads(body)["files"]]  # fmt: skip
            return _json({"files": files})
        if verb == "commit":
            return self._commit(kind, repo, body)
        if verb == "tree":
            return _json(repo.tree(path, query.get("recursive", [""])[0].lower() in ("1", "true")))
        if verb == "paths-info":
            return _json(repo.entries(_asked_paths(body)))
        if verb == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commit}
            return _json({"branches": [main], "tags": [], "converts": []})
        return _json(repo.info())

    def _create(self, asked: dict[str, Any], token: str) -> Reply:
        if not token or token in self.readers or self.uploads is None:
            return _missing("Forbidden", 403)
        name = f"{asked['organization']}/{asked['name']}"
        if ("model", name) in self.repositories:
            return Reply(409, json.dumps({"url": f"{self.endpoint}/{name}"}).encode(), {})
        folder = self.uploads / name
        folder.mkdir(parents=True)
        self.created[name] = asked
        self.repositories["model", name] = Repository("model", name, folder)
        return _json({"url": f"{self.endpoint}/{name}", "name": name, "id": name})

    def _commit(self, kind: str, repo: Repository, body: bytes) -> Reply:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                file = repo.folder / entry["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(entry["value"]["content"]))
        again = self.repositories[kind, repo.name] = Repository(kind, repo.name, repo.folder)
        url = f"{self.endpoint}/{repo.name}/commit/{again.commit}"
        return _json({"success": True, "commitOid": again.commit, "commitUrl": url, "hookOutput": ""})

    def _file(self, kind: str, name: str, revision: str, path: str, byte_range: str | None) -> Reply:
        repo = self.repositories.get((kind, name))
        if repo is None:
            return _missing("RepoNotFound", 401)
        if name in self.gated:
            return _missing("GatedRepo", 401)
        commit = {"X-Repo-Commit": repo.commit}
        if revision not in ("main", repo.commit):
            return _missing("RevisionNotFound")
        if path not in repo.files:
            return _missing("EntryNotFound", **commit)
        file = repo.files[path]
        kind_of = mimetypes.guess_type(path)[0] or "application/octet-stream"
        headers = {"ETag": f'"{_digest(file)}"', "Accept-Ranges": "bytes", "Content-Type": kind_of, **commit}
        return _cut(file.read_bytes(), byte_range, headers)


def _cut(content: bytes, byte_range: str | None, headers: dict[str, str]) -> Reply:
    match = _RANGE.fullmatch(byte_range or "")
    if not match:
        return Reply(200, content, headers)
    start = int(match[1])
    stop = min(int(match[2]) + 1 if match[2] else len(content), len(content))
    return Reply(206, content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})


def _asked_paths(body: bytes) -> list[str]:
    try:
        paths = json.loads(body)["paths"]
    except ValueError:
        paths = parse_qs(body.decode())["paths"]
    return [paths] if isinstance(paths, str) else list(paths)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        reply = self.server_of.answer(self.command, self.path, self.headers.get("Range"), body, token)
        content = b"" if self.command == "HEAD" else reply.body
        self.server_of.requests.append(Request(self.command, self.path, reply.status, len(content)))
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _chunk(self) -> bytes:
        content = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return content

    do_GET = do_HEAD = do_POST = _reply

    def log_message(self, *_: object) -> None:
        """Say nothing: ``requests`` holds what happened."""


@contextmanager
def black_hole() -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of a server that accepts connections and never answers, and those that it accepted."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", accepted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in accepted:
        connection.close()


def closed_port() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
