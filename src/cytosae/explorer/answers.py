"""What the application answers, asked within this process: no server, no socket."""

from __future__ import annotations

import json
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import Message

HOST = "export"
"""Host under which it is asked."""


def detail(body: bytes) -> str:
    """The sentence of an answer that refuses."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


async def ask(app: FastAPI, path: str) -> tuple[int, str, bytes]:
    """What the application answers: status, type and body."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", HOST.encode())],
        "client": None,
        "server": (HOST, 80),
    }
    status, kind, chunks = 0, "", list[bytes]()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, kind
        if message["type"] == "http.response.start":
            status = message["status"]
            kind = dict(message["headers"]).get(b"content-type", b"").decode()
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, kind, b"".join(chunks)
