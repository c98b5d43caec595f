"""The same cell under two patients: found by its concepts, settled by its pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cells import UnreadableImage, load_squashed

SKETCH = 64
"""Numbers that stand for the concepts of a cell while pairs are looked for."""
CLOSE = 0.95
"""Cosine between two sketches from which their images are compared."""
SAME = 0.98
"""Correlation between two small images from which they show the same cell."""
_EDGE, _ROWS, _CANDIDATES = 32, 1024, 20_000


def sketch(means: sp.csr_matrix, seed: int = 0) -> NDArray[np.float32]:
    """Image activations in few random directions, by which angles are kept nearly (Johnson and Lindenstrauss, 1984).

    Parameters
    ----------
    means
        m_i[s], ``(n_cells, n_latents)``.

    Returns
    -------
    ``(n_cells, SKETCH)``.
    """
    directions = np.random.default_rng(seed).standard_normal((means.shape[1], SKETCH), dtype=np.float32)
    return np.asarray(means @ directions)


def near_pairs(sketches: NDArray[np.float32], patients: NDArray[np.integer], close: float = CLOSE) -> NDArray[np.int64]:
    """Cells that have nearly the same concepts as a cell of another patient, the closest pairs first; ``(n_pairs, 2)``.

    Nearness is the cosine of what two sketches have beyond the mean of all. Every cell is paired with its closest
    cell of another patient alone, so that a crowd of alike cells stays small.
    """
    centred = sketches - sketches.mean(axis=0)
    units = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    best = np.full(len(sketches), -1, np.int64)
    value = np.full(len(sketches), close, np.float32)
    for start in range(0, len(sketches), _ROWS):
        cosine = units[start : start + _ROWS] @ units.T
        cosine[patients[start : start + _ROWS, None] == patients[None]] = -1
        place = cosine.argmax(axis=1)
        found = cosine[np.arange(len(place)), place]
        near = found > close
        best[start : start + _ROWS] = np.where(near, place, -1)
        value[start : start + _ROWS] = found
    cells = np.flatnonzero(best >= 0)
    pairs = np.sort(np.column_stack([cells, best[cells]]), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    order = np.argsort(-value[cells[first]], kind="stable")
    return pairs[order][:_CANDIDATES]


def same_image(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Largest correlation of two images over the eight turns and reflections of the second; ``(edge, edge, 3)`` each."""
    fixed = _unit(first)
    turns = (np.rot90(flipped, k) for flipped in (second, second[:, ::-1]) for k in range(4))
    return max(float(fixed @ _unit(turned)) for turned in turns)


def _unit(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey values without their mean, of length 1: brightness and contrast of the copy do not matter."""
    grey = image.astype(np.float64).mean(axis=2).ravel()
    grey -= grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-12)


def shared_cells(
    sketches: NDArray[np.float32],
    patients: Sequence[str],
    paths: Sequence[str],
    hashes: Sequence[str],
    names: Sequence[str],
) -> pd.DataFrame:
    """Cells that occur under two patients: the same file, or the same picture turned, resized or compressed anew.

    Parameters
    ----------
    sketches
        Of `sketch`, ``(n_cells, SKETCH)``.
    patients, paths, hashes, names
        Of each cell: its patient, its image, the SHA-256 of the file, its ``cell_id``.

    Returns
    -------
    ``cell, patient, other_cell, other_patient, correlation``; correlation 1 for the same file. Pairs whose images
    cannot be read any more are not reported.
    """
    codes = pd.factorize(pd.Series(patients))[0]
    pairs = pd.DataFrame(near_pairs(sketches, codes), columns=["first", "second"])
    exact = pd.DataFrame(_same_files(hashes, codes), columns=["first", "second"], dtype=np.int64)
    rows = []
    for first, second in pd.concat([exact, pairs]).drop_duplicates().itertuples(index=False):
        if hashes[first] == hashes[second]:
            found = 1.0
        else:
            try:
                found = same_image(load_squashed(Path(paths[first]), _EDGE), load_squashed(Path(paths[second]), _EDGE))
            except UnreadableImage:
                continue
        if found >= SAME:
            rows.append((names[first], patients[first], names[second], patients[second], found))
    return pd.DataFrame(rows, columns=["cell", "patient", "other_cell", "other_patient", "correlation"])


def _same_files(hashes: Sequence[str], patients: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    seen: dict[str, int] = {}
    for cell, name in enumerate(hashes):
        first = seen.setdefault(name, cell)
        if patients[first] != patients[cell]:
            yield first, cell
