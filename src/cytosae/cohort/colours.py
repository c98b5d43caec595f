"""The colours of a patient's cells: a baseline without any model. What it predicts, no concept is needed for."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells import decoded, readings
from cytosae.console import progress, say
from cytosae.errors import CytosaeError

_SIZE, _LEVELS, _BATCH = 64, 8, 64  # edge of an image in pixels, levels of each channel


def colour_histograms(cells: pd.DataFrame, rows: NDArray[np.int64], n_patients: int) -> NDArray[np.float32] | None:
    """Square roots of the patients' mean colour histograms, ``(n_patients, 512)``; None if an image cannot be read.

    A cell's histogram has 8 x 8 x 8 boxes of red, green and blue. Square roots, as differences of these are differences of
    distributions (Hellinger's distance).

    Parameters
    ----------
    cells
        Table of the cells, with the paths of their images.
    rows
        Patient of each cell, negative for cells of nobody, ``(n_cells,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    wanted = np.flatnonzero(rows >= 0)
    batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
    paths = cells["path"].astype(str).tolist()
    sums, n_colours = np.zeros((n_patients, _LEVELS**3)), _SIZE**2
    try:
        with (
            progress("colours of cells", len(wanted), "cells") as bar,
            closing(decoded(paths, batches, _SIZE, readings=readings(cells))) as images,
        ):
            done = 0
            for batch, image in zip(batches, images, strict=True):
                levels = image.numpy().reshape(len(batch), n_colours, 3) // (256 // _LEVELS)
                boxes = levels.astype(np.int64) @ np.array([_LEVELS**2, _LEVELS, 1])
                for row, box in zip(rows[batch], boxes, strict=True):
                    sums[row] += np.bincount(box, minlength=_LEVELS**3) / n_colours
                done += len(batch)
                bar.to(done)
    except CytosaeError as error:
        say(f"classification: without the baseline of colours, {error}")
        return None
    counts = np.bincount(rows[wanted], minlength=n_patients)
    return np.sqrt(sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
