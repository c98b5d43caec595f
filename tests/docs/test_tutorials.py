"""The commands of every tutorial, run as they stand there, on few drawn cells and with short trainings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def script(name: str) -> str:
    """The blocks of a tutorial as one script of bash."""
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    text = [block if kind == "sh" else f"python - <<'BLOCK'\n{block}BLOCK\n" for kind, block in blocks]
    return "\n".join(text).replace("patients=60,cells=40", "patients=20,cells=12")


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    cohort = write_cohort(CohortSpec(patients=10, cells=12), tmp_path / "drawn")
    (tmp_path / "images").mkdir()
    paths = []
    for number, path in enumerate(cohort["path"]):
        paths.append(Path("images") / f"{number}.png")
        (tmp_path / "drawn" / path).rename(tmp_path / paths[-1])
    columns = ["label", "patient", "diagnosis"]
    pd.DataFrame({"path": paths, **{c: cohort[c] for c in columns}}).to_csv(tmp_path / "cells.csv", index=False)
    done = subprocess.run(
        ["bash", "-c", SHORTER + script(name)], cwd=tmp_path, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path for path in LEAVES[name] if not (tmp_path / path).exists()] == []


def test_every_tutorial_is_tried() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.md")} == set(LEAVES)
