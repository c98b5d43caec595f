"""Changes of images that the measures rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cytosae.cells import PERTURBATIONS, load_squashed


def test_changed_images_are_the_same_cell(real_cells: Path) -> None:
    path = pd.read_csv(real_cells / "cells.csv")["path"][0]
    pixels = load_squashed(real_cells / path, 224)
    for name, change in PERTURBATIONS.items():
        after = change(pixels)
        assert after.shape == pixels.shape
        assert after.dtype == np.uint8
        assert not np.array_equal(after, pixels)
        assert np.corrcoef(after.ravel(), pixels.ravel())[0, 1] > 0.9, name
        assert np.array_equal(change(pixels), after)
    stained = PERTURBATIONS["stain"](pixels).astype(int).mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))
    assert stained[0] < 0 < stained[1]  # more density of red light, less of green
    sharp, blurred = (np.abs(np.diff(x.astype(int), axis=0)).mean() for x in (pixels, PERTURBATIONS["blur"](pixels)))
    assert blurred < 0.7 * sharp
