"""Images for a backbone, and a hub that answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cytosae.backbones import INPUT_SIZE
from support.model_hosts import Hub


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[dict[str, bytes]], Hub]]:
    """Starts a hub with the given files, beside an empty cache; without one started, nobody answers."""
    servers: list[Hub] = []

    def point_to(endpoint: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    def start(files: dict[str, bytes]) -> Hub:
        servers.append(Hub(files))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        point_to(servers[-1].endpoint)
        return servers[-1]

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    point_to("http://127.0.0.1:9")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
