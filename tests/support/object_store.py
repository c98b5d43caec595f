"""An S3-compatible server of this machine that fails now and then."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler

from cytosae.storage import paths

FAILURES = ("500", "503", "reset", "truncated")


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, *_: Any) -> None:
        """Nothing."""


@dataclass
class Faulty:
    """Stands before an S3-compatible server; every n-th request fails, each time in another way."""

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
            body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else body
            start(f"{kind} failure", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        if kind == "reset":
            _cut(environ)
            start("500 cut", [])
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


def machine(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on as on a machine that has only what is in `cache`."""
    monkeypatch.setenv("CYTOSAE_CACHE", str(cache))
    paths._settled.clear()
    paths._open.clear()
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    S3FileSystem.clear_instance_cache()


def s3() -> Any:
    """The server, asked without this package."""
    return fsspec.filesystem("s3", use_listings_cache=False)


def tree(name: str) -> dict[str, bytes]:
    """Everything below a name in the bucket."""
    files = s3().find(f"bucket/{name}")
    return {path[len(f"bucket/{name}/") :]: s3().cat_file(path) for path in files}


def requested_files(server: Faulty, method: str) -> list[str]:
    """Files of the study that were uploaded or fetched since the requests were last cleared, in order."""
    return [path.removeprefix("/bucket/study/") for how, path, _ in list(server.requests) if how == method]


def without_retries(patch: pytest.MonkeyPatch) -> None:
    """Without the repetitions of the AWS client, which pauses for seconds: what is left is ours."""
    patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": {"max_attempts": 0}}})
