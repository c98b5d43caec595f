"""The same cell under two patients: as the same file, or turned, resized or compressed anew.

Two small images of one cell have a correlation of `SAME` or more, so as vectors of length one they lie within `RADIUS` of
each other. Their fingerprints, which are the same however an image is turned, cannot lie farther apart than they do. Images
are therefore divided by fingerprint into boxes of neighbours, only boxes within the radius of each other are compared, and
only images whose fingerprints are within it: no pair that is the same is missed before each cell has its nearest chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from scipy.fft import dctn

from cytosae.cells import Reading, UnreadableImage, load_squashed
from cytosae.storage import resolve_path

SAME = 0.98
"""Correlation between two small images from which they show the same cell; different real cells stay below 0.9."""
RADIUS = float(np.sqrt(2 - 2 * SAME)) + 1e-4
"""Distance of two images of length one with that correlation; with room for rounding."""
NEAREST = 8
"""Cells of other patients that each cell is compared with, at most: the nearest by fingerprint."""
_EDGE, _WAVES, _BOX, _TOGETHER = 32, 8, 1024, 1024

Grey = NDArray[np.uint16]
"""Small images, the sum of their three channels, ``(n_cells, 32, 32)``."""


def unit_vectors(grey: Grey) -> NDArray[np.float32]:
    """Images less their mean, of length one (zero where an image is of one grey), ``(n_cells, 32, 32)``."""
    centred = grey.astype(np.float32)
    centred -= centred.mean(axis=(-2, -1), keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=(-2, -1), keepdims=True), 1e-6)


def fingerprints(grey: Grey) -> NDArray[np.float32]:
    """The slow waves of small images, whichever way they are turned or mirrored; ``(n_cells, 64)``.

    Mirroring changes the signs of the waves (discrete cosine transform) and turning swaps their axes, so their sizes
    are kept, sorted within each pair of axes. Brightness and contrast leave no trace. None of the steps moves two images
    farther apart.
    """
    waves = np.abs(dctn(unit_vectors(grey), axes=(-2, -1), norm="ortho")[..., :_WAVES, :_WAVES])
    pairs = np.sort(np.stack([waves, waves.swapaxes(-2, -1)]), axis=0)
    first, second = np.triu_indices(_WAVES, 1)
    diagonal = np.diagonal(waves, axis1=-2, axis2=-1)
    return np.concatenate([diagonal, pairs[0][..., first, second], pairs[1][..., first, second]], axis=-1)


def near_pairs(prints: NDArray[np.float32], patients: NDArray[np.integer]) -> NDArray[np.int64]:
    """Cells whose fingerprint is within `RADIUS` of that of a cell of another patient, ``(n_pairs, 2)``.

    Of each cell the `NEAREST` are kept, so that a crowd of alike cells stays small. Memory is that of one box beside all
    cells that are near it.
    """
    if not len(prints):  # no image could be read
        return np.zeros((0, 2), np.int64)
    boxes = _boxes(prints)
    low, high = (np.stack([edge(prints[box], axis=0) for box in boxes]) for edge in (np.min, np.max))
    # One product says of every pair of two boxes how much nearer than the radius it is: half of RADIUS^2 - |a - b|^2.
    offset = (np.einsum("ij,ij->i", prints, prints) - RADIUS**2 / 2)[:, None] / 2
    ones = np.ones_like(offset)
    left, right = np.hstack([prints, ones, -offset]), np.hstack([prints, -offset, ones])
    pairs = [np.zeros((0, 2), np.int64)]
    for box, bottom, top in zip(boxes, low, high, strict=True):
        gaps = np.maximum(0, np.maximum(low - top, bottom - high))
        margins = np.full((len(box), NEAREST), np.nextafter(np.float32(0), np.float32(-1)))
        nearest = np.full((len(box), NEAREST), -1)
        for index in np.flatnonzero(np.einsum("ij,ij->i", gaps, gaps) <= RADIUS**2):
            others = boxes[index]
            _keep_nearest(left[box] @ right[others].T, patients[box], patients[others], others, margins, nearest)
        row, _ = pair = np.nonzero(nearest >= 0)
        pairs.append(np.sort(np.column_stack([box[row], nearest[pair]]), axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


@njit(cache=True, nogil=True)
def _keep_nearest(margin, patients, other_patients, others, margins, nearest):  # type: ignore[no-untyped-def]
    """Put those of `others` that are nearer than what is kept, and of another patient, among the nearest of each row.

    ``margin (n_rows, n_others)`` is large where two are near; ``margins`` and ``nearest (n_rows, NEAREST)`` stay in order.
    """
    last = margins.shape[1] - 1
    for i in range(margin.shape[0]):
        for j in range(margin.shape[1]):
            if margin[i, j] > margins[i, last] and patients[i] != other_patients[j]:
                k = last
                while k > 0 and margins[i, k - 1] < margin[i, j]:
                    margins[i, k], nearest[i, k] = margins[i, k - 1], nearest[i, k - 1]
                    k -= 1
                margins[i, k], nearest[i, k] = margin[i, j], others[j]


def _boxes(prints: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """Rows in boxes of at most `_BOX`: halved, again and again, where they differ most."""
    waiting, done = [np.arange(len(prints))], []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= _BOX:
            done.append(rows)
            continue
        values = prints[rows][:, np.ptp(prints[rows], axis=0).argmax()]
        order = np.argsort(values, kind="stable")
        waiting += [rows[order[len(rows) // 2 :]], rows[order[: len(rows) // 2]]]
    return done


def correlations(grey: Grey, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Largest correlation of each pair of images over the eight turns and mirrorings of the second, ``(n_pairs,)``."""
    largest = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        first, second = (unit_vectors(grey[pairs[rows, side]]) for side in (0, 1))
        turns = (np.rot90(mirrored, k, (1, 2)) for mirrored in (second, second[:, :, ::-1]) for k in range(4))
        largest[rows] = np.max([np.einsum("nij,nij->n", first, turned) for turned in turns], axis=0)
    return largest


def shared_cells(
    patients: Sequence[str],
    paths: Sequence[str],
    hashes: Sequence[str],
    names: Sequence[str],
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Cells that occur under two patients.

    Parameters
    ----------
    patients, paths, hashes, names
        Of each cell: its patient, its image, the SHA-256 of the file, its ``cell_id``.
    progress
        Called with the number of images read.

    Returns
    -------
    ``cell, patient, other_cell, other_patient, correlation``, the most alike first; correlation 1 for the same file. Images
    that cannot be read any more are compared by their hash alone.
    """
    codes = np.asarray(pd.factorize(pd.Series(patients))[0])
    grey, readable = np.zeros((len(paths), _EDGE, _EDGE), np.uint16), np.zeros(len(paths), bool)
    prints = np.zeros((len(paths), _WAVES**2), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _TOGETHER):
            for cell, image in enumerate(pool.map(_small, paths[start : start + _TOGETHER]), start):
                if image is not None:
                    grey[cell], readable[cell] = image, True
                progress(cell + 1)
            prints[start : start + _TOGETHER] = fingerprints(grey[start : start + _TOGETHER])
    pairs = dict.fromkeys(_same_files(hashes, codes), 1.0)
    rows = np.flatnonzero(readable)
    candidates = rows[near_pairs(prints[rows], codes[rows])]
    similarity = correlations(grey, candidates)
    for position in np.argsort(-similarity, kind="stable"):
        if similarity[position] < SAME:
            break
        first, second = candidates[position].tolist()
        pairs.setdefault((first, second), float(similarity[position]))
    table = [(names[a], patients[a], names[b], patients[b], value) for (a, b), value in pairs.items()]
    return pd.DataFrame(table, columns=["cell", "patient", "other_cell", "other_patient", "correlation"])


def _small(path: str) -> Grey | None:
    try:
        pixels = load_squashed(
            resolve_path(path), _EDGE, Reading("percentile")
        )  # the same cell, however bright it is shown
        return pixels.sum(axis=2, dtype=np.uint16)
    except UnreadableImage:
        return None


def _same_files(hashes: Sequence[str], patients: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    seen: dict[str, int] = {}
    for cell, name in enumerate(hashes):
        first = seen.setdefault(name, cell)
        if patients[first] != patients[cell]:
            yield first, cell
