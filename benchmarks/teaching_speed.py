"""From a mark to the concept's new map: seconds at the size of a published cohort.

``python -m benchmarks.teaching_speed -o FOLDER`` times what the explorer does after a click: read the marks against the
table of all cells, learn with held-out judging, find the strongest of the random cells, and draw the map of the cell.
171,373 cells, 16 x 16 patches, 49,152 latents, 192 and 768 wide. Tokens are not stored: those of a cell are made from its
number when they are read, structure and noise, which costs about as much as reading. Neither the start (random cells are
drawn once, listed apart) nor the network is in the figure. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.sae import SAE
from cytosae.teaching import Background, Learner, marks_table, usable_marks
from cytosae.tokens import Layout

CELLS, LATENTS, PATIENTS, N_TOKENS = 171_373, 49_152, 189, 257
WIDTHS, MARKS, ROUNDS = (192, 768), (5, 20, 50), 7
_STRUCTURES = 24  # planted directions of the made tokens


class MadeTokens:
    """Tokens of any number of cells, made from their numbers."""

    def __init__(self, n_cells: int, d_model: int) -> None:
        self.n_cells = n_cells
        self.layout = Layout({"name": "made", "depth": 12, "layer": 11}, N_TOKENS, d_model, "float16", 256, 32)
        rng = np.random.default_rng(0)
        self._directions = rng.normal(size=(_STRUCTURES, d_model)).astype(np.float32)
        self.cells = pd.DataFrame(
            {
                "cell_id": [f"cell {number:07d}" for number in range(n_cells)],
                "dataset": "made",
                "patient": [f"P{number:04d}" for number in rng.integers(0, PATIENTS, n_cells)],
            }
        )

    def shown(self, row: int) -> NDArray[np.bool_]:
        """Which structures each patch of a cell shows, ``(n_patches, n_structures)``."""
        return np.random.default_rng([1, row]).random((N_TOKENS - 1, _STRUCTURES)) < 0.03

    def token(self, row: int) -> NDArray[np.float32]:
        """Tokens of a cell, ``(n_tokens, d_model)``."""
        noise = np.random.default_rng([2, row]).standard_normal((N_TOKENS, self.layout.d_model), np.float32)
        noise[1:] += self.shown(row).astype(np.float32) @ self._directions
        return noise

    def stream(self, batches: Iterable[NDArray[np.int64]], **options: Any) -> Iterator[Tensor]:
        """Tokens of each batch."""
        for rows in batches:
            yield torch.from_numpy(np.stack([self.token(int(row)) for row in rows])).half()


def measure(n_cells: int, n_latents: int, d_model: int, rounds: int) -> dict[str, Any]:
    """Seconds from mark to map, by number of marks: median, least and most of the rounds."""
    source = MadeTokens(n_cells, d_model)
    sae = SAE(d_model, n_latents)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    start = time.perf_counter()
    learner = Learner.on(Background.draw(source, sae))  # type: ignore[arg-type]
    learner.prior.basis  # noqa: B018  # computed once, as for the first mark
    opened = time.perf_counter() - start
    rng = np.random.default_rng(3)
    found: dict[str, Any] = {"d_model": d_model, "opening_s": round(opened, 2), "areas": {}, "seconds": {}}
    for count in MARKS:
        rows = rng.choice(n_cells, count, replace=False)
        patches = [int(np.flatnonzero(source.shown(int(row))[:, 0])[0]) for row in rows]
        clicked = [(f"cell {row:07d}", patch) for row, patch in zip(rows, patches, strict=True)]
        seconds = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            table = marks_table(("it", cell, patch, "this") for cell, patch in clicked)
            (marks,) = usable_marks(table, source.cells, N_TOKENS - 1)
            learned = learner.learn(marks)
            learned.map(learner.background.read(rows[-1:]))
            seconds.append(time.perf_counter() - start)
        found["areas"][count] = round(learned.auroc.value, 3)
        found["seconds"][count] = [
            round(one, 3) for one in (np.median(seconds[1:]), min(seconds[1:]), max(seconds[1:]))
        ]
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--latents", type=int, default=LATENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--widths", type=int, nargs="*", default=list(WIDTHS))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    about = {"cells": given.cells, "latents": given.latents, "processor": platform.processor() or platform.machine()}
    result = {**about, "rounds": given.rounds, "threads": torch.get_num_threads()}
    result["widths"] = [measure(given.cells, given.latents, width, given.rounds) for width in given.widths]
    (given.output / "teaching_speed.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
