"""Every test of this folder is a machine of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is a machine of its own, and begins with a server that does not fail."""
    from cytosae.storage import objects
    from support.object_store import Faulty, machine  # tests skip where its packages are missing

    machine(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(objects, "PAUSE", 0.01)
    if "server" in request.fixturenames:
        faulty: Faulty = request.getfixturevalue("server")
        faulty.every, faulty.hold = 0, 0.0
        faulty.requests.clear()
        faulty.failed.clear()
