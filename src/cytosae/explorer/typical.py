"""Cell types that concepts are specific for, and concepts that speak of something else than the cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytosae.concepts.schema import POSITION
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.reader import StudyReader
from cytosae.settings import POSITION_SHARE

LIFT, LEAST = 2.0, 5
"""A concept is specific for a type whose cells show it so many times as often as others; and cells that a type needs."""
BACKGROUND = 0.75
"""A concept is flagged as background if more than this fraction of its activation lies outside the cell."""
STAIN = 0.5
"""A concept is one of the stain where its activation correlates less with that on the same cells stained otherwise."""
OUTSIDE = frozenset({"background", "image border", "red cell", "stained beside"})
"""Places of descriptions that are not the cell."""


def specific_types(data: DataSet) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The cell type that each latent is specific for, and its lift.

    Returns
    -------
    Number of the label, ``(n_latents,)``, -1 where no lift is above `LIFT`; and how many times as often cells of the label
    with the largest lift show the latent as the other labelled cells do, NaN without labels.
    """
    names, cells = data.groups("label")
    if not names:
        return np.full(data.n_latents, -1), np.full(data.n_latents, np.nan)
    shown = data.group_frequency("label") * cells
    outside = shown.sum(axis=1, keepdims=True) - shown
    lift = ((shown + 0.5) / (cells + 1)) / ((outside + 0.5) / (cells.sum() - cells + 1))
    lift[:, cells < LEAST] = 0
    best = lift.argmax(axis=1)
    rows = np.arange(len(best))
    known = (lift[rows, best] > LIFT) & (shown[rows, best] >= LEAST)
    return np.where(known, best, -1), lift[rows, best]


def typical(data: DataSet) -> dict[int, str]:
    """Of latents that are specific for a cell type: its name, and how many times as often its cells show them."""
    best, lift = specific_types(data)
    names = data.groups("label")[0]
    return {
        int(latent): f"{names[best[latent]]} {lift[latent]:.3g}×"
        for latent in np.flatnonzero((best >= 0) & data.concepts)
    }


def beside_the_cell(reader: StudyReader, data: DataSet) -> NDArray[np.bool_]:
    """Latents that speak of the surroundings, of a place in the picture or of the stain, ``(n_latents,)``.

    Their description lies outside the cell; or their patches lie around the middle of the picture; or their activation is
    explained by the place in the picture, lies on the background (`BACKGROUND`), or changes with the stain (`STAIN`), as far
    as that was measured.
    """
    apart = ~(data.middle > 0.5) & ~np.isnan(data.middle)
    apart |= data.statistic(POSITION) > POSITION_SHARE
    if reader.quality is not None:
        quality = reader.quality.reindex(np.arange(data.n_latents))
        if "background_share" in quality:
            apart |= quality["background_share"].to_numpy(np.float64) > BACKGROUND
        if "robustness_stain" in quality:
            apart |= quality["robustness_stain"].to_numpy(np.float64) < STAIN
    for latent, place in reader.described_places(data.name).items():
        apart[latent] = place in OUTSIDE
    return apart
