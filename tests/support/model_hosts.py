"""As much of the Hugging Face hub and of Zenodo as a download needs."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """As much of the Hugging Face hub as a download needs; keeps the paths that it was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        super().__init__(("127.0.0.1", 0), HubAnswer)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class HubAnswer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, whole: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        body: bytes | None
        if path.startswith("/api/models/"):
            listed = [
                {"type": "file", "path": k, "size": len(v), "oid": str(len(v))} for k, v in self.server.files.items()
            ]
            siblings = [{"rfilename": name} for name in self.server.files]
            body = json.dumps(
                listed if "/tree/" in path else {"id": "o/m", "sha": COMMIT, "siblings": siblings}
            ).encode()
        else:
            body = self.server.files.get(path.rpartition("/")[2])
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if whole and body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Zenodo(ThreadingHTTPServer):
    """As much of Zenodo as a download needs; the first answers may break off."""

    def __init__(self, files: dict[str, bytes], checksums: dict[str, str]) -> None:
        self.files, self.checksums = files, checksums
        self.breaks, self.ranges = 0, list[str | None]()
        self.record: bytes | None = None  # what is answered instead of the record
        super().__init__(("127.0.0.1", 0), ZenodoAnswer)
        self.site = f"http://127.0.0.1:{self.server_port}"


class ZenodoAnswer(BaseHTTPRequestHandler):
    server: Zenodo

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        start = 0
        if path == "/api/records/10908163":
            files = f"{self.server.site}/records/10908163/files"
            entries = [
                {"key": k, "checksum": self.server.checksums[k], "size": len(v), "links": {"self": f"{files}/{k}"}}
                for k, v in self.server.files.items()
            ]
            body = self.server.record or json.dumps({"files": entries}).encode()
        else:
            assert path.startswith("/records/10908163/files/")
            body = self.server.files[path.rpartition("/")[2]]
            asked = self.headers.get("Range")
            self.server.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(416 if start >= len(body) else 206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if "/files/" in path and self.server.breaks:
            self.server.breaks -= 1
            self.wfile.write(body[start : start + len(body) // 3])
            return
        self.wfile.write(body[start:])

    def log_message(self, format: str, *arguments: object) -> None:
        pass
