"""Small images and tables of them, as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import list_cells
from cytosae.errors import CytosaeError


def picture(path: Path, shade: int = 90) -> Path:
    """A small image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), (shade % 256, 80, 120)).save(path, format="PNG")
    return path


def table(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    """A table with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, **given: Any) -> str:
    """The message with which a source is refused."""
    with pytest.raises(CytosaeError) as caught:
        list_cells(path, **given)
    return str(caught.value)


def columns_of(cells: pd.DataFrame, *names: str) -> list[list[Any]]:
    """Columns as lists, None where a value is missing."""
    return [[None if pd.isna(value) else value for value in cells[name]] for name in names]
