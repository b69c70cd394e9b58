"""A web server on this machine that hands out byte ranges of a folder's files."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class RangeServer(ThreadingHTTPServer):
    daemon_threads = True
    folder: Path
    serves_ranges = True
    failures = 0
    """How many of the next GET requests are answered with an error."""
    is_silent = False
    """Whether it takes requests and never answers."""
    requests: list[tuple[str, str]]
    """Method and range of every request."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.requests.append((self.command, wanted))
        while self.server.is_silent:
            time.sleep(0.05)
        path = self.server.folder / self.path.lstrip("/")
        if self.command == "GET" and self.server.failures:
            self.server.failures -= 1
            return self._send(503, b"")
        if not path.is_file():
            return self._send(404, b"")
        data = path.read_bytes()
        if not wanted or not self.server.serves_ranges:
            return self._send(200, data)
        first, last = wanted.removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        self._send(206, data[start : end + 1], f"bytes {start}-{end}/{len(data)}")

    def _send(self, status: int, data: bytes, span: str = "") -> None:
        self.send_response(status)
        if self.server.serves_ranges:
            self.send_header("Accept-Ranges", "bytes")
        if span:
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    server = RangeServer(("127.0.0.1", 0), _Handler)
    server.folder, server.requests = folder, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
