"""The order in which concepts are shown: first those that a person can learn something from."""

from __future__ import annotations

from math import log

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.concepts.schema import POSITION

MIDDLE = 0.3
"""Radius of the middle of a picture, in edges: there a single cell lies."""
ENOUGH = 10
"""Cells that have to show a concept before it counts fully."""


def middle_share(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""How far concepts lie in the middle of the pictures, where a single cell lies, and not around it.

    .. math:: \frac{a}{a + b}

    with the mean activation *a* of the patches within `MIDDLE` edges of the centre and *b* of all others.

    Parameters
    ----------
    maps
        Activations of reference images, ``(n_concepts, n_images, rows, columns)``.

    Returns
    -------
    ``(n_concepts,)``: 1 only in the middle, 0.5 everywhere alike, 0 only around it; NaN where nothing is active.

    Examples
    --------
    >>> maps = np.zeros((2, 1, 8, 8))
    >>> maps[0, 0, 3:5, 3:5] = 1
    >>> maps[1] = 1
    >>> middle_share(maps).tolist()
    [1.0, 0.5]
    """
    rows, columns = maps.shape[2:]
    y, x = (np.arange(rows) + 0.5) / rows - 0.5, (np.arange(columns) + 0.5) / columns - 0.5
    middle = np.hypot(y[:, None], x) < MIDDLE
    total = maps.astype(np.float32).sum(axis=1).astype(np.float64)
    inner, outer = (total[:, part].sum(axis=1) / max(1, part.sum()) for part in (middle, ~middle))
    return np.divide(inner, inner + outer, out=np.full(len(maps), np.nan), where=inner + outer > 0)


def interest_of(
    var: pd.DataFrame, latents: NDArray[np.int64], maps: NDArray[np.floating], n_cells: int, n_labels: int
) -> NDArray[np.float64]:
    """`interest_scores` of a data set whose maps ``(n_concepts, n_images, rows, columns)`` are those of `latents`.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    middle = np.full(len(var), np.nan)
    middle[latents] = middle_share(maps)
    return interest_scores(var, middle, n_cells, n_labels)


def interest_scores(var: pd.DataFrame, middle: NDArray[np.float64], n_cells: int, n_labels: int) -> NDArray[np.float64]:
    """The product of what makes a concept worth looking at first.

    Parameters
    ----------
    var
        Of the latents: ``activation_frequency``, ``mean_activation``, ``label_entropy`` and, where an encoding wrote it,
        ``position_share``.
    middle
        See `middle_share`; NaN for latents without maps.
    n_cells, n_labels
        Of the data set.

    Returns
    -------
    ``(n_latents,)``, 0 to 1: the part by which `middle` exceeds an even spread; one minus the share of its variance that
    is a place in the picture; one minus the share of cells that show it; its rank by mean activation; the number of
    cells that show it, up to `ENOUGH`; and, with labels, one minus the entropy of its reference images' labels over the
    largest possible. What is not known counts as 1, but a latent without maps has 0.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    frequency = var["activation_frequency"].to_numpy(np.float64)
    position = var[POSITION].to_numpy(np.float64) if POSITION in var else np.zeros(len(var))
    parts = [
        np.clip(2 * np.nan_to_num(middle) - 1, 0, 1),
        1 - np.clip(np.nan_to_num(position), 0, 1),
        1 - frequency,
        var["mean_activation"].rank(pct=True).to_numpy(np.float64),
        np.minimum(1, frequency * n_cells / ENOUGH),
    ]
    if n_labels > 1:
        parts.append(1 - np.clip(np.nan_to_num(var["label_entropy"].to_numpy(np.float64)) / log(n_labels), 0, 1))
    product: NDArray[np.float64] = np.prod(parts, axis=0)
    return product
