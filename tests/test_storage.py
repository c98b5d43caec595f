"""Studies, tokens and images at URLs: against an S3-compatible server of this machine that fails now and then."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")
pytest.importorskip("s3fs", reason="needs s3fs, of the extra s3")

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FAILURES = ("500", "503", "reset", "truncated")


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, *_: Any) -> None:
        """Nothing."""


@dataclass
class Faulty:
    """An S3-compatible server in front of which every n-th request fails, each time in another way."""

    inner: Any
    every: int = 0
    """0 for a server without failures."""
    hold: float = 0.0
    """Seconds that every upload takes."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of what was asked."""
    failed: list[str] = field(default_factory=list)
    counter: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/moto-api"):
            return self.inner(environ, start)
        with self.lock:
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE", "")))
            self.counter += 1
            fails = self.every and self.counter % self.every == 0
            kind = FAILURES[len(self.failed) % len(FAILURES)] if fails else None
            if kind == "truncated" and environ["REQUEST_METHOD"] != "GET":
                kind = "reset"
            if kind:
                self.failed.append(kind)
        if self.hold and environ["REQUEST_METHOD"] == "PUT":
            time.sleep(self.hold)
        if kind in {"500", "503"}:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = "InternalError" if kind == "500" else "SlowDown"
            start(f"{kind} failure", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()]
        if kind == "reset":
            _cut(environ)
            return []
        if kind == "truncated":
            return self._half(environ, start)
        return self.inner(environ, start)

    def _half(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        body = b"".join(self.inner(environ, start))
        yield body[: len(body) // 2]
        _cut(environ)


def _cut(environ: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server() -> Iterator[Faulty]:
    faulty = Faulty(DomainDispatcherApplication(create_backend_app))
    httpd = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{httpd.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield faulty
    httpd.shutdown()
    httpd.server_close()
