"""The same cell under two patients: as the same file, or turned, resized or compressed anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn

from cytosae.cells import UnreadableImage, load_squashed
from cytosae.storage import place

SAME = 0.98
"""Correlation between two small images from which they show the same cell; different real cells stay below 0.9."""
_CLOSE = 0.9  # cosine of two fingerprints from which the images themselves are compared
_EDGE, _WAVES, _ROWS, _NEIGHBOURS, _CANDIDATES = 32, 8, 512, 3, 20_000


def fingerprint(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The slow waves of a small image ``(32, 32, 3)``, whichever way it is turned or mirrored; ``(64,)``.

    Mirroring changes the signs of the waves (discrete cosine transform) and turning swaps their axes, so their sizes
    are kept, sorted within each pair of axes. Brightness and contrast leave no trace.
    """
    waves = np.abs(dctn(image.astype(np.float64).mean(axis=2), norm="ortho")[:_WAVES, :_WAVES])
    waves[0, 0] = 0
    pairs = np.sort(np.stack([waves, waves.T]), axis=0)
    upper = np.triu_indices(_WAVES, 1)
    found = np.concatenate([np.diagonal(waves), pairs[0][upper], pairs[1][upper]])
    return (found / max(float(np.linalg.norm(found)), 1e-12)).astype(np.float32)


def near_pairs(prints: NDArray[np.float32], patients: NDArray[np.integer]) -> NDArray[np.int64]:
    """Cells whose fingerprint is close to that of a cell of another patient, the closest first; ``(n_pairs, 2)``.

    Every cell is paired with its closest few cells of other patients alone, so that a crowd of alike cells stays small.
    """
    count = min(_NEIGHBOURS, len(prints))
    centred = prints - prints.mean(axis=0)
    units = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    pairs, values = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for start in range(0, len(units), _ROWS):
        cosine = units[start : start + _ROWS] @ units.T
        cosine[patients[start : start + _ROWS, None] == patients[None]] = -1
        places = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(cosine, places, axis=1)
        row, column = np.nonzero(found > _CLOSE)
        pairs.append(np.sort(np.column_stack([start + row, places[row, column]]), axis=1))
        values.append(found[row, column])
    unique, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    order = np.argsort(-np.concatenate(values)[first], kind="stable")
    return unique[order][:_CANDIDATES]


def same_image(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Largest correlation of two images over the eight turns and mirrorings of the second; ``(edge, edge, 3)`` each."""
    fixed = _unit(first)
    turns = (np.rot90(mirrored, k) for mirrored in (second, second[:, ::-1]) for k in range(4))
    return max(float(fixed @ _unit(turned)) for turned in turns)


def _unit(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey = image.astype(np.float64).mean(axis=2).ravel()
    grey -= grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-12)


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
    ``cell, patient, other_cell, other_patient, correlation``; correlation 1 for the same file. Images that cannot be
    read any more are compared by their hash alone.
    """
    codes = np.asarray(pd.factorize(pd.Series(patients))[0])
    images: list[NDArray[np.uint8] | None] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for image in pool.map(_small, paths, chunksize=64):
            images.append(image)
            progress(len(images))
    readable = np.array([place for place, image in enumerate(images) if image is not None], dtype=np.int64)
    pairs = dict.fromkeys(_same_files(hashes, codes), 1.0)
    if len(readable):
        prints = np.stack([fingerprint(image) for image in images if image is not None])
        for first, second in readable[near_pairs(prints, codes[readable])].tolist():
            one, other = images[first], images[second]
            assert one is not None
            assert other is not None
            if (first, second) not in pairs and (found := same_image(one, other)) >= SAME:
                pairs[first, second] = found
    rows = [(names[a], patients[a], names[b], patients[b], found) for (a, b), found in pairs.items()]
    return pd.DataFrame(rows, columns=["cell", "patient", "other_cell", "other_patient", "correlation"])


def _small(path: str) -> NDArray[np.uint8] | None:
    try:
        return load_squashed(place(path), _EDGE, "percentile")  # the same cell, however bright it is shown
    except UnreadableImage:
        return None


def _same_files(hashes: Sequence[str], patients: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    seen: dict[str, int] = {}
    for cell, name in enumerate(hashes):
        first = seen.setdefault(name, cell)
        if patients[first] != patients[cell]:
            yield first, cell
