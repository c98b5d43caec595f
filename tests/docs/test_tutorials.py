"""The notebook of every tutorial, run from top to bottom on few drawn cells and with short trainings."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cytosae.synthetic import CohortSpec, write_cohort
from support.paths import ROOT

pytestmark = pytest.mark.slow  # each trains once or twice
TUTORIALS = ROOT / "docs" / "tutorials"

SHORTER = f"""
set -euo pipefail
cytosae() {{
  local short=()
  [ "$1" != run ] || short=(--expansion 2 --images 480 --batch-images 8 --workers 0)
  "{sys.executable}" -m cytosae "${{@//dinobloom-b/tiny}}" "${{short[@]}}"
}}
python() {{ "{sys.executable}" "$@"; }}
"""
LEAVES = {
    "own-images": ["study/report/index.html", "project/cells.csv", "labelled/report/index.html"],
    "disease": ["drawn/cohort/classification", "drawn/cohort/compare-CBFB_MYH11-NPM1", "patient-P000.html"],
    "laboratories": ["drawn/laboratories/laboratories.csv", "drawn/transfer/transfer.csv", "drawn/stain_response"],
    "teach": ["panel.json", "drawn/taught/taught.safetensors"],
    "dinobloom": ["dinobloom/report/index.html"],
    "backbone": ["my-backbone/config.json", "random/quality/quality.json", "drawn/quality/quality.json"],
}


def notebook(name: str) -> dict[str, Any]:
    """A tutorial as the documentation offers it for download."""
    spec = importlib.util.spec_from_file_location("documentation_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(json.dumps(hooks.notebook(page)))
    return found


def script(name: str) -> str:
    """The code cells of a tutorial as one script of bash."""
    cells = ["".join(cell["source"]) for cell in notebook(name)["cells"] if cell["cell_type"] == "code"]
    assert cells
    text = [
        cell.removeprefix("%%bash\n") if cell.startswith("%%bash") else f"python - <<'BLOCK'\n{cell}\nBLOCK"
        for cell in cells
    ]
    return "\n".join(text).replace("patients=60,cells=40", "patients=20,cells=12")


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    cohort = write_cohort(CohortSpec(patients=10, cells=12), tmp_path / "fixture")
    (tmp_path / "images").mkdir()
    paths = []
    for number, path in enumerate(cohort["path"]):
        paths.append(Path("images") / f"{number}.png")
        (tmp_path / "fixture" / path).rename(tmp_path / paths[-1])
    columns = ["label", "patient", "diagnosis"]
    pd.DataFrame({"path": paths, **{c: cohort[c] for c in columns}}).to_csv(tmp_path / "cells.csv", index=False)
    done = subprocess.run(
        ["bash", "-c", SHORTER + script(name)], cwd=tmp_path, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path for path in LEAVES[name] if not (tmp_path / path).exists()] == []


def test_every_tutorial_is_tried() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.md")} == set(LEAVES)
