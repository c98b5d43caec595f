"""The search for cells under two patients, without reading images: ``python -m benchmarks.duplicates [N_CELLS]``.

Small images of simulated cells (a nucleus in a cell in plasma, each an ellipse of its own), of 300 patients; one in a
hundred is another patient's, turned and with noise. Prints seconds, peak memory and how many of these are found.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from cytosae.cohort.duplicates import SAME, Grey, correlations, fingerprints, near_pairs

PATIENTS, SHARED, BATCH = 300, 100, 2048


def drawn(n_cells: int, rng: np.random.Generator) -> Grey:
    """Small images of cells, the sum of three channels, ``(n_cells, 32, 32)``."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j].astype(np.float32)
    image = np.full((n_cells, 32, 32), 600, np.float32)
    centre = rng.normal(0, 0.1, (n_cells, 2))
    for size, spread, grey in ((0.7, 0.12, 480), (0.4, 0.12, 250), (0.2, 0.08, 180)):
        axes = np.abs(rng.normal(size, spread, (n_cells, 2))) + 0.05
        centre = centre + rng.normal(0, 0.08, (n_cells, 2))
        turn, shade = rng.uniform(0, np.pi, n_cells), rng.normal(grey, 40, n_cells)
        for start in range(0, n_cells, BATCH):
            part = slice(start, start + BATCH)
            dx, dy = (a[None] - c[:, None, None] for a, c in ((x, centre[part, 0]), (y, centre[part, 1])))
            cos, sin = (f(turn[part])[:, None, None] for f in (np.cos, np.sin))
            first, second = cos * dx + sin * dy, cos * dy - sin * dx
            inside = (first / axes[part, 0, None, None]) ** 2 + (second / axes[part, 1, None, None]) ** 2 < 1
            image[part] = np.where(inside, shade[part, None, None], image[part])
    for start in range(0, n_cells, BATCH):
        some = image[start : start + BATCH]
        some += rng.normal(0, 30, some.shape)
    return image.clip(0, 765).astype(np.uint16)


def main(n_cells: int) -> None:
    """Search, and print what it took."""
    rng = np.random.default_rng(0)
    grey, patients = drawn(n_cells, rng), rng.integers(0, PATIENTS, n_cells)
    copies = np.arange(n_cells - n_cells // SHARED, n_cells)
    sources = rng.permutation(n_cells - len(copies))[: len(copies)]
    grey[copies] = np.rot90(grey[sources], 1, (1, 2)) + rng.integers(0, 12, (len(copies), 32, 32)).astype(np.uint16)
    patients[copies] = (patients[sources] + 1) % PATIENTS
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    begun = time.perf_counter()
    prints = np.concatenate([fingerprints(grey[i : i + BATCH]) for i in range(0, n_cells, BATCH)])
    seconds["fingerprints"] = time.perf_counter() - begun
    begun = time.perf_counter()
    pairs = near_pairs(prints, patients)
    seconds["neighbours"] = time.perf_counter() - begun
    begun = time.perf_counter()
    found = pairs[correlations(grey, pairs) >= SAME]
    seconds["images compared"] = time.perf_counter() - begun
    planted = set(map(tuple, np.column_stack([sources, copies]).tolist()))
    result = {
        "cells": n_cells,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "candidates": len(pairs),
        "planted": len(planted),
        "planted found": len(planted & set(map(tuple, found.tolist()))),
        "pairs": len(found),
        "MB of small images": round(grey.nbytes / 1e6),
        "MB above them at the peak": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1e3),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 171_373)
