"""A folder of small images."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sources import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images, a.png, b.png and c.png."""
    for shade, name in enumerate("abc"):
        picture(tmp_path / f"{name}.png", shade)
    return tmp_path
