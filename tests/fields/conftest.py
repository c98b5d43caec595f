"""Drawn fields as files, and the cells that `cytosae fields` finds in them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from cytosae.synthetic import LABORATORIES, REFERENCE, DrawnField, FieldSpec, render_field
from support.commands import ask

SPEC = FieldSpec(cells=12)


@pytest.fixture(scope="session")
def drawn() -> dict[str, DrawnField]:
    labs = (REFERENCE, LABORATORIES[0], LABORATORIES[1])
    return {f"slide {k}.png": render_field(SPEC, 50 + k, laboratory=lab) for k, lab in enumerate(labs)}


@pytest.fixture(scope="session")
def source(drawn: dict[str, DrawnField], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of fields with patients, a column of its own, and a file that cannot be read."""
    folder = tmp_path_factory.mktemp("smear")
    for name, field in drawn.items():
        Image.fromarray(field.pixels).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = [{"path": name, "patient": f"P{k // 2}", "slide": f"S{k}"} for k, name in enumerate(drawn)]
    pd.DataFrame([*rows, {"path": "broken.png", "patient": "P9", "slide": "S9"}]).to_csv(
        folder / "fields.csv", index=False
    )
    return folder / "fields.csv"


@pytest.fixture(scope="session")
def found(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found") / "fields"
    ask("fields", source, "-o", folder)
    return folder
