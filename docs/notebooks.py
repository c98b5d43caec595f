"""Tutorials as notebooks: made from their pages, and run from top to bottom on small data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.synthetic import CohortSpec, write_cohort

CELLS = 48
"""Cells in the folder ``images`` of a tutorial that takes your own."""
READERS = (("disease", "laboratories", "teach"), ("own-images", "dinobloom", "backbone"))
"""Who reads which tutorials, in this order and in one folder: later ones find the study of earlier ones up to date."""
NOTE = "The outputs are of a run on few cells with short trainings: their figures are not those of the text."
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_SMALL = {"patients=60,cells=40": "patients=20,cells=8", "--cells 300": "--cells 60", "dinobloom-b": "tiny"}
"""What a block says, and what runs in its place."""
_SHELL = f"""
set -euo pipefail
export OMP_NUM_THREADS=1
python() {{ "{sys.executable}" "$@"; }}
cytosae() {{
  local short=()
  [ "$1" != run ] || short=(--expansion 2 --images 2000 --batch-images 8 --workers 0)
  python -m cytosae "$@" "${{short[@]}}"
}}
"""


def notebook(page: str) -> dict[str, Any]:
    """A tutorial as a Jupyter notebook (nbformat 4): its text, and a cell for each block that you run."""
    cells, end = [], 0
    for block in _BLOCK.finditer(page):
        cells.append(("markdown", page[end : block.start()]))
        cells.append(("code", block[2] if block[1] == "python" else f"%%bash\n{block[2]}"))
        end = block.end()
    cells.append(("markdown", page[end:]))
    return {
        "cells": [_cell(kind, number, text) for number, (kind, text) in enumerate(cells) if text.strip()],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(kind: str, name: object, text: str) -> dict[str, Any]:
    return {
        "cell_type": kind,
        "id": f"cell-{name}",
        "metadata": {},
        "source": text.strip().splitlines(keepends=True),
        **({"execution_count": None, "outputs": []} if kind == "code" else {}),
    }


def write_images(folder: Path) -> None:
    """The images that a reader brings: a folder ``images`` and ``cells.csv``, real cells where ``CYTOSAE_DATA`` has some."""
    (folder / "images").mkdir(parents=True)
    real = Path(os.environ.get("CYTOSAE_DATA", ""), "data", "cells")
    if (real / "cells.csv").is_file():
        known = pd.read_csv(real / "cells.csv").query("dataset == 'pbc'")
        source, cells = real, known.groupby("label").head(CELLS // known["label"].nunique())[["path", "label"]]
    else:
        source = folder / "drawn-images"
        cells = write_cohort(CohortSpec(patients=12, cells=CELLS // 12), source)[
            ["path", "label", "patient", "diagnosis"]
        ]
    paths = [f"images/{number}{Path(path).suffix}" for number, path in enumerate(cells["path"])]
    for path, image in zip(cells["path"], paths, strict=True):
        shutil.copyfile(source / path, folder / image)
    cells.assign(path=paths).to_csv(folder / "cells.csv", index=False)


def code(book: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that run."""
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def execute(book: dict[str, Any], folder: Path) -> None:
    """Run the cells in ``folder``, one after the other, on small data, and keep what they print as their outputs.

    Raises
    ------
    RuntimeError
        A cell failed: its source and the end of what it printed.
    """
    folder = folder.resolve()
    for number, cell in enumerate(code(book), start=1):
        source = "".join(cell["source"])
        script = (
            source.removeprefix("%%bash\n") if source.startswith("%%bash") else f"python - <<'CELL'\n{source}\nCELL"
        )
        for long, small in _SMALL.items():
            script = script.replace(long, small)
        done = subprocess.run(
            ["bash", "-c", _SHELL + script],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{source}\nended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
        printed = done.stdout.replace(f"{folder}{os.sep}", "").strip()
        cell["execution_count"] = number
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)}]
    book["cells"].insert(1, _cell("markdown", "note", NOTE))


def with_outputs(page: str, book: dict[str, Any]) -> str:
    """A tutorial's page with what each block printed in a fold below it."""
    cells = iter(code(book))

    def folded(block: re.Match[str]) -> str:
        printed = "".join("".join(output["text"]) for output in next(cells)["outputs"])
        fold = textwrap.indent(f"~~~~text\n{printed}\n~~~~", "    ")
        return f'{block[0]}\n??? example "Output on small data"\n\n{fold}\n' if printed else block[0]

    return _BLOCK.sub(folded, page)
