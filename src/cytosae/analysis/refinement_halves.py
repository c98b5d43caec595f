"""The two things that a latent may be: its activations divided, both halves drawn before anything changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.analysis.viewing import Viewer, cell_image
from cytosae.artefacts import claim
from cytosae.cells import readings
from cytosae.concepts import read_activations, read_datasets
from cytosae.errors import CytosaeError
from cytosae.report import Row, figure_files, reference_grid, save
from cytosae.sae.editing import Halves, halves
from cytosae.tokens import TokenSource

CELLS = 200
"""Cells whose activations are divided, at most."""
_SHOWN = 10
_BATCH = 32


@dataclass(frozen=True)
class ShownHalves:
    """Two halves of a latent with the cells that have most of each."""

    halves: Halves
    rows: tuple[Row, Row]
    cells: tuple[int, int]
    """Cells that have a patch of each half."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        sizes = [int((self.halves.assigned == half).sum()) for half in (0, 1)]
        return {"patches": sizes, "cells": list(self.cells), "explained": self.halves.explained}


def show_halves(viewer: Viewer, tokens: TokenSource, latent: int) -> ShownHalves:
    """Divide the patches on which a latent is active in random cells that have it.

    Parameters
    ----------
    tokens
        As the autoencoder takes them.

    Raises
    ------
    CytosaeError
        The latent is active nowhere, or always on the same.
    """
    rows = _active_cells(viewer, latent)
    if not len(rows):
        raise CytosaeError(f"--split {latent}: this latent is active in no cell.")
    read = [batch.float() for batch in tokens.stream(rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH))]
    x = torch.cat(read)[:, 1:]
    with torch.no_grad():
        h = torch.cat([viewer.sae.encode(cell)[:, latent][None] for cell in x])
    active = h > 0
    split = halves(x[active])
    kinds = torch.full(h.shape, -1)
    kinds[active] = split.assigned
    maps = [torch.where(kinds == half, h, torch.zeros(())).numpy() for half in (0, 1)]
    shown = tuple(_row(viewer, latent, half, rows, maps[half]) for half in (0, 1))
    cells = tuple(int((kinds == half).any(dim=1).sum()) for half in (0, 1))
    return ShownHalves(split, (shown[0], shown[1]), (cells[0], cells[1]))


def draw_halves(folder: Path, latent: int, shown: ShownHalves) -> list[str]:
    """Draw both halves as ``split-N`` in a folder; the names of the files."""
    title = f"Latent {latent} as two: {shown.halves.explained:.0%} of the variance lies between the halves"
    names = list(figure_files(f"split-{latent}"))
    claim(folder, "refined", names)
    save(reference_grid(shown.rows, title=title, each_row=True), folder / f"split-{latent}")
    return names


def _active_cells(viewer: Viewer, latent: int) -> NDArray[np.int64]:
    """Rows among the tokens of random cells in which a latent is active."""
    names = []
    for dataset in read_datasets(viewer.folder / "concepts"):
        cells = np.flatnonzero((viewer.source.cells["dataset"].astype(str) == dataset).to_numpy())
        counts, _ = read_activations(viewer.folder / "concepts", dataset, np.arange(len(cells)), np.array([latent]))
        names.append(cells[counts.toarray()[:, 0] > 0])
    rows = np.concatenate(names)
    return np.sort(np.random.default_rng([latent, 25]).permutation(rows)[:CELLS])


def _row(viewer: Viewer, latent: int, half: int, rows: NDArray[np.int64], maps: NDArray[np.float32]) -> Row:
    """The cells with most of a half, with the map of its patches."""
    means = maps.mean(axis=1)
    order = np.argsort(-means, kind="stable")[:_SHOWN]
    order = order[means[order] > 0]
    about = viewer.source.cells.iloc[rows[order]]
    return Row(
        f"{latent}, {'larger' if half == 0 else 'smaller'} half",
        [cell_image(*cell) for cell in zip(about["path"], readings(about), strict=True)],
        [maps[row].reshape(viewer.grid) for row in order],
        [None if missing else str(label) for label, missing in zip(about["label"], about["label"].isna(), strict=True)],
        means[order].tolist(),
    )
