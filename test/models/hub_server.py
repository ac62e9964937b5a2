"""A hub on this machine, as far as huggingface_hub needs one: it serves the files of folders."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["COMMIT", "HubServer", "serve_models"]

COMMIT = "0" * 40


class HubServer(ThreadingHTTPServer):
    """Serves models by name; remembers the files that were downloaded."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, models: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.downloaded: list[str] = []
        self.gated: set[str] = set()
        """Names of models whose files need a login."""
        self.stalls_at = ""
        """File of which only the first half is sent; "list" sends no lists of files."""
        self.on_stall: Callable[[], object] = lambda: None
        """Called when an answer stalls."""
        self.release = threading.Event()
        """Ends the stalled answers."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/models/"):
            self._describe("/".join(path.split("/")[2:4]))
            return
        name, _, file = path.partition("/resolve/main/")
        if name in self.server.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        source = self.server.models.get(name, Path()) / file
        if not file or not source.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = source.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if with_body:
            self.server.downloaded.append(file)
        stalls = with_body and file == self.server.stalls_at
        self._send(200, data[: len(data) // 2] if stalls else data, headers, len(data), with_body)
        if stalls:
            self.wfile.flush()
            self._stall()
            self.close_connection = True

    def _describe(self, name: str) -> None:
        """Send the list of a model's files."""
        if self.server.stalls_at == "list":
            self._stall()
        folder = self.server.models.get(name)
        if folder is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            return
        files = sorted(one for one in folder.rglob("*") if one.is_file())
        siblings = [
            {"rfilename": one.relative_to(folder).as_posix(), "size": one.stat().st_size} for one in files
        ]
        self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def _stall(self) -> None:
        self.server.on_stall()
        self.server.release.wait()

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        length: int | None = None,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output free of requests."""


@contextmanager
def serve_models(models: dict[str, Path]) -> Iterator[HubServer]:
    """Serve folders as models of a hub until the block ends."""
    server = HubServer(models)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
