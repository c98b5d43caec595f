"""A browser that looks at a study, and what it reads of the answers."""

from __future__ import annotations

import base64
import io
import socket
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.explorer import create_app

CLOSE = {"rel": 1e-5, "abs": 1e-12}
HERE = "http://127.0.0.1:8765"


def opened(folder: Path, **given: Any) -> TestClient:
    """A browser that looks at a study."""
    return TestClient(create_app(folder, **given), base_url=HERE, follow_redirects=False)


def get(client: TestClient, path: str, **query: Any) -> Any:
    """The JSON of an answer that is there."""
    answer = client.get(f"/api/{path}", params=query)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def refusal(answer: Any, status: int) -> str:
    """The sentence of an answer that refuses."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["detail"]
    return str(answer.json()["detail"])


def decoded_map(text: str, top: float) -> np.ndarray:
    """A map as the browser reads it."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(16, 16) * (top / 255)


def jpeg_of(color: int = 90, size: tuple[int, int] = (50, 40), kind: str = "JPEG") -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", size, (color, 20, 200)).save(out, kind)
    return out.getvalue()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
