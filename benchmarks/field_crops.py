"""How well nucleated cells are found in real pixels: crops of single cells, each searched as a small field.

``python -m benchmarks.field_crops [--bccd test.csv]``: recall and precision at an intersection over union of 0.5, with exact
95 % intervals (Clopper and Pearson), beside one threshold of Otsu and, as null, the boxes found in another crop. True boxes
are those of the masks of segmentation_WBC, and of BCCD the published boxes: ``test.csv`` of that data set, from which our
crops were made (a square of 1.3 times the longer edge of each box, as far as the field goes).

Numbers in the code were chosen on the crops at even places of each data set and on drawn fields; those at odd places are
judged. What is found at the border of a crop with a mask is passed over: only the cell in the middle has one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from benchmarks.fields import LEAST, Box, one_threshold, overlap
from benchmarks.segmentation import CELLS
from cytosae.segmentation import find_field_cells

SCALES = {"segwbc_cellavision": 0.092, "segwbc_tecom": 0.17, "bccd_crops": 0.072}
"""Micrometres per pixel: red cells of CellaVision, the median nucleated cell of Tecom, the published boxes of red cells."""
MARGIN = 1.3


class Crop(NamedTuple):
    """A crop with what has to be found in it."""

    pixels: NDArray[np.uint8]
    mpp: float
    boxes: list[Box]
    inside: list[float]
    """Share of each cell that the crop shows."""
    masked: bool
    """Whether a mask tells of the cell in the middle alone."""


def with_masks(cells: pd.DataFrame, root: Path) -> Iterator[Crop]:
    """Crops of which a mask tells where the cell is."""
    for row in cells.to_dict("records"):
        mask = np.asarray(Image.open(root / row["mask"]).convert("L")) > 0
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        yield Crop(_pixels(root / row["path"]), SCALES[row["dataset"]], [box], [1.0], True)


def of_bccd(cells: pd.DataFrame, root: Path, published: Path) -> Iterator[Crop]:
    """Crops of BCCD with the boxes of all white cells of their field."""
    table = pd.read_csv(published)
    white = table[table["cell_type"] == "WBC"]
    for path in cells["path"]:
        stem, number = Path(path).stem.rsplit("_", 1)
        own = white[white["filename"] == f"{stem}.jpg"][["xmin", "ymin", "xmax", "ymax"]].to_numpy()
        if int(number) < len(own):
            yield _crop_of_field(_pixels(root / path), own, int(number))


def _crop_of_field(pixels: NDArray[np.uint8], own: NDArray[np.int64], number: int) -> Crop:
    x0, y0, x1, y1 = own[number]
    half = MARGIN * max(x1 - x0, y1 - y0) / 2
    left, top = max(0, round((x0 + x1) / 2 - half)), max(0, round((y0 + y1) / 2 - half))
    height, width = pixels.shape[:2]
    boxes, inside = [], []
    for a, b, c, d in own:
        whole = int(a) - 1 - left, int(b) - 1 - top, int(c) - left, int(d) - top  # pixels are counted from 1
        box = max(0, whole[0]), max(0, whole[1]), min(width, whole[2]), min(height, whole[3])
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
            inside.append(_area(box) / _area(whole))
    return Crop(pixels, SCALES["bccd_crops"], boxes, inside, False)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def counts(found: list[Box], crop: Crop) -> tuple[int, int, int]:
    """Found, missed, and wrongly found."""
    needed = [share >= LEAST for share in crop.inside]
    pairs = sorted(((overlap(a, b), i, j) for i, a in enumerate(found) for j, b in enumerate(crop.boxes)), reverse=True)
    matched: dict[int, int] = {}
    for value, i, j in pairs:
        if value >= LEAST and i not in matched and j not in matched.values():
            matched[i] = j
    hits = sum(needed[j] for j in matched.values())
    aside = {i for value, i, j in pairs if value > 0.1 and not needed[j]}
    if crop.masked:
        height, width = crop.pixels.shape[:2]
        aside |= {i for i, b in enumerate(found) if b[0] <= 0 or b[1] <= 0 or b[2] >= width or b[3] >= height}
    return hits, sum(needed) - hits, len(set(range(len(found))) - set(matched) - aside)


def ours(crop: Crop) -> list[Box]:
    return [one.box for one in find_field_cells(crop.pixels, crop.mpp) if one.reason is None]


def share(part: int, whole: int) -> str:
    """A share with its exact 95 % interval."""
    interval = stats.binomtest(part, max(1, whole)).proportion_ci(0.95, "exact")
    return f"{part / max(1, whole):.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bccd", type=Path, help="test.csv of BCCD; without it those crops are left out")
    parser.add_argument("--half", choices=("judged", "chosen"), default="judged")
    given = parser.parse_args()
    cells = pd.read_csv(CELLS / "cells.csv")
    for dataset in SCALES:
        own = cells[cells["dataset"] == dataset]
        if dataset == "bccd_crops":
            crops = list(of_bccd(own, CELLS, given.bccd)) if given.bccd else []
        else:
            crops = list(with_masks(own, CELLS))
        crops = crops[1 if given.half == "judged" else 0 :: 2]
        if crops:
            _print(dataset, crops)


def _print(dataset: str, crops: list[Crop]) -> None:
    methods: dict[str, Callable[[Crop], list[Box]]] = {
        "ours": ours,
        "one threshold": lambda crop: one_threshold(crop.pixels, crop.mpp),
    }
    for name, method in methods.items():
        found = [method(crop) for crop in crops]
        rows = {name: zip(found, crops, strict=True)}
        if name == "ours":
            rows["null: boxes of another crop"] = zip(found[-1:] + found[:-1], crops, strict=True)
        for title, pairs in rows.items():
            hit, missed, wrong = np.array([counts(*pair) for pair in pairs]).sum(axis=0)
            print(
                f"{dataset}, {title}: cells {hit + missed}, recall {share(int(hit), int(hit + missed))}, precision "
                f"{share(int(hit), int(hit + wrong))}",
                flush=True,
            )


if __name__ == "__main__":
    main()
