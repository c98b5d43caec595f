"""Has a cell that `cytosae fields` cuts out the concepts of the same cell as its data set's authors cut it out?

``python -m benchmarks.field_concepts --sae FOLDER [--bccd test.csv]``: crops of single cells of three laboratories. Each is
searched as a small field, and the cell that lies where the authors say is cut out at 25 micrometres. Its counts are compared
with those of the authors' image: as it is, in a frame of 25 micrometres (``--frame um``), and both in the frame of the cell
(``--frame cell``). Correlation over the latents that either shows, median over the cells with a 95 % bootstrap interval; as
null the cut-out of another cell of the same data set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.field_crops import SCALES, Crop, of_bccd, with_masks
from benchmarks.fields import overlap
from benchmarks.segmentation import CELLS
from cytosae.backbones import Backbone, load
from cytosae.cells.frames import frame_of_cell, look_at_cell
from cytosae.cells.framing import Frame, framed
from cytosae.concepts import cell_activations
from cytosae.fields.cutting import cut_out
from cytosae.sae import SAE
from cytosae.segmentation import find_field_cells
from cytosae.settings import FieldConfig, FrameConfig

Pixels = NDArray[np.uint8]
EDGE, DRAWS = 224, 2000


def ours(crop: Crop) -> Pixels | None:
    """The cell in the middle as `cytosae fields` cuts it out; None where it is not found."""
    config = FieldConfig()
    true = crop.boxes[0]
    found = [one.box for one in find_field_cells(crop.pixels, crop.mpp) if one.reason is None]
    best = max(found, key=lambda box: overlap(box, true), default=None)
    if best is None or overlap(best, true) < 0.5:
        return None
    box = best[0], best[1], best[2] - best[0], best[3] - best[1]
    return cut_out(crop.pixels, box, crop.mpp, config.window, config.pixels)


def squashed(pixels: Pixels, mpp: float) -> Pixels:
    """The image as it is."""
    return np.asarray(Image.fromarray(pixels).resize((EDGE, EDGE), Image.Resampling.BILINEAR))


def of_one_size(pixels: Pixels, mpp: float) -> Pixels:
    """The middle of the image at the scale of our cut-outs."""
    height, width = pixels.shape[:2]
    frame = Frame.square("um", width / 2, height / 2, FieldConfig().window / mpp)
    return np.asarray(framed(Image.fromarray(pixels), frame, (EDGE, EDGE), Image.Resampling.BILINEAR))


def around_cell(pixels: Pixels, mpp: float) -> Pixels:
    """The cell with a margin of a quarter."""
    size = pixels.shape[1], pixels.shape[0]
    frame = frame_of_cell(look_at_cell(pixels), size, FrameConfig("cell"), min(size) / 1.5)
    return np.asarray(framed(Image.fromarray(pixels), frame, (EDGE, EDGE), Image.Resampling.BILINEAR))


FRAMES: dict[str, tuple[Callable[[Pixels, float], Pixels], Callable[[Pixels, float], Pixels]]] = {
    "as it is": (squashed, squashed),
    "um 25": (of_one_size, squashed),
    "cell": (around_cell, around_cell),
}
"""How the authors' image and our cut-out are shown."""


def counts(pictures: list[Pixels], backbone: Backbone, sae: SAE) -> NDArray[np.float64]:
    """Active patches of each picture, ``(n_pictures, n_latents)``."""
    parts = []
    for start in range(0, len(pictures), 32):
        tokens = sae.centred(backbone.tokens(np.stack(pictures[start : start + 32])))
        parts.append(cell_activations(sae, tokens)[0].toarray())
    return np.concatenate(parts).astype(np.float64)


def correlations(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of each row, over the columns that either row shows."""
    found = []
    for one, other in zip(first, second, strict=True):
        shown = (one > 0) | (other > 0)
        found.append(np.corrcoef(one[shown], other[shown])[0, 1] if shown.sum() > 2 else np.nan)
    return np.array(found)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", type=Path, required=True, help="an autoencoder of tokens of `tiny`")
    parser.add_argument("--bccd", type=Path, help="test.csv of BCCD; without it those crops are left out")
    given = parser.parse_args()
    backbone, sae = load("tiny"), SAE.from_pretrained(given.sae).requires_grad_(False)
    cells = pd.read_csv(CELLS / "cells.csv")
    rng = np.random.default_rng(0)
    for dataset in SCALES:
        own = cells[cells["dataset"] == dataset]
        if dataset != "bccd_crops":
            crops = list(with_masks(own, CELLS))
        elif given.bccd:
            crops = [crop for crop in of_bccd(own, CELLS, given.bccd) if len(crop.boxes) == 1]
        else:
            continue
        pairs = [(crop, cut) for crop in crops if (cut := ours(crop)) is not None]
        for name, (of_authors, of_us) in FRAMES.items():
            theirs = counts([of_authors(crop.pixels, crop.mpp) for crop, _ in pairs], backbone, sae)
            mine = counts([of_us(cut, crop.mpp) for crop, cut in pairs], backbone, sae)
            values = correlations(theirs, mine)
            draws = np.nanmedian(values[rng.integers(0, len(values), (DRAWS, len(values)))], axis=1)
            low, high = np.quantile(draws, (0.025, 0.975))
            null = np.nanmedian(correlations(theirs, np.roll(mine, 1, axis=0)))
            print(
                f"{dataset}, {name}: {len(pairs)} of {len(crops)} cells, correlation {np.nanmedian(values):.3f} "
                f"({low:.3f} to {high:.3f}), of another cell {null:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
