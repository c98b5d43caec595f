"""The page's types are made from `frontend/openapi.json`: it has to be what the server says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from cytosae.explorer import app
from support.paths import ROOT

COMMITTED = ROOT / "frontend" / "openapi.json"


def test_the_committed_description_is_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("StudyReader", "open_database"):
        monkeypatch.setattr(app, name, MagicMock())
    served = app.create_app(Path("any")).openapi()
    assert served == app.description()
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    for part in ("paths", "components"):
        assert committed[part] == served[part], "run `make page`"
