"""A study of cells that were cut out of drawn fields."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image

from cytosae.synthetic import FieldSpec, render_field
from support.commands import ask

RUN = ["--backbone", "tiny", "--device", "cpu", "--images", "300", "--batch-images", "8", "--expansion", "1"]


def smear_study(folder: Path, fields: int = 4) -> Path:
    """Fields of two patients in ``smear``, their cells in ``cells``, a study of them in ``study``."""
    (folder / "smear").mkdir(parents=True)
    for k in range(fields):
        drawn = render_field(FieldSpec(width=480, height=360, cells=14), 90 + k)
        Image.fromarray(drawn.pixels).save(folder / "smear" / f"slide {k}.png")
    rows = [{"path": f"slide {k}.png", "patient": f"P{k // 2}", "mpp": 0.15} for k in range(fields)]
    pd.DataFrame(rows).to_csv(folder / "smear" / "fields.csv", index=False)
    ask("fields", folder / "smear" / "fields.csv", "-o", folder / "cells")
    ask("run", folder / "cells" / "cells.csv", "--study", folder / "study", *RUN)
    return folder / "study"
