"""What a classifier or a comparison sees of a barcode: one or several of its blocks, transformed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.blocks import TOP
from cytosae.errors import CytosaeError

USED_LATENTS = "used_latents"
"""Entry of ``uns`` with the latents that a model may use; all where it is not there."""
BLOCKS = ("count", "share", "top", "strongest")
"""Blocks that a representation can have."""
FEATURES: Mapping[str, tuple[str, ...]] = {
    "counts": ("count",),
    "share": ("share",),
    "top": ("top",),
    "counts+share": ("count", "share"),
    "all": ("count", "share", "top"),
    "strongest": ("strongest",),
}
"""Blocks of each kind of features."""
UNITS: Mapping[str, str] = {
    "count": "active patches a cell",
    "share": "share of the cells",
    "top": f"active patches in the {TOP} strongest cells",
    "strongest": "active patches in the strongest cell",
}
"""What a value of each block is."""
TRANSFORMS: Mapping[str, Callable[[NDArray[np.floating]], NDArray[np.floating]]] = {
    "none": lambda x: x,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "log-ratio": np.log1p,
}
"""What a transform makes of each value of a block."""
CENTRED = frozenset({"log-ratio"})
"""Transforms after which each patient's values are taken less their mean over the latents that may be used: of logarithms
of counts the centred log-ratio (Aitchison 1982). What a stain does to all concepts of a patient alike is gone, and no other
patient is needed for it. The weights of a model that is fitted to such values sum to 0 over these latents, so that it says
the same of values that are not centred: those of a new patient, or of a latent alone.
"""


@dataclass(frozen=True, order=True)
class Representation:
    """Blocks of a barcode and the transform that acts on each of their values."""

    features: str
    """One of `FEATURES`."""
    transform: str
    """One of `TRANSFORMS`."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of its blocks."""
        return FEATURES[self.features]

    @property
    def unit(self) -> str:
        """What its values are, such as ``share of the cells, log1p``."""
        blocks = " and ".join(UNITS[name] for name in self.blocks)
        return blocks if self.transform == "none" else f"{blocks}, {self.transform}"

    def values(self, data: ad.AnnData) -> NDArray[np.float32]:
        """Its blocks of some patients as a model takes them, ``(n_patients, n_blocks, n_latents)``: not centred."""
        blocks = [TRANSFORMS[self.transform](block(data, name)) for name in self.blocks]
        return np.stack(blocks, axis=1).astype(np.float32, copy=False)

    def fitted_values(self, data: ad.AnnData) -> NDArray[np.float32]:
        """The same as a model is fitted to them: less each patient's mean where the transform is one of `CENTRED`."""
        return np.stack([transformed(data, name, self.transform) for name in self.blocks], axis=1)

    def __str__(self) -> str:
        return self.features if self.transform == "none" else f"{self.features}, {self.transform}"


PAPER = Representation("counts", "none")
"""Eq. 3 as it is."""


def block(data: ad.AnnData, name: str) -> NDArray[np.float32]:
    """A block of the barcodes, ``(n_patients, n_latents)``.

    Raises
    ------
    CytosaeError
        Barcodes of an earlier version, which lack it.
    """
    if name == "count":
        return np.asarray(data.X, np.float32)
    if name not in data.layers:
        raise CytosaeError(f"these barcodes have no block {name!r}; make them again with `cytosae barcodes`.")
    return np.asarray(data.layers[name], np.float32)


def transformed(data: ad.AnnData, name: str, transform: str) -> NDArray[np.float32]:
    """A block of the barcodes after a transform, ``(n_patients, n_latents)``.

    Examples
    --------
    >>> two = ad.AnnData(np.array([[0.0, 1, 3], [1, 3, 7]], np.float32))
    >>> np.ptp(transformed(two, "count", "log-ratio"), axis=0).round(5).tolist()
    [0.0, 0.0, 0.0]
    """
    values = np.asarray(TRANSFORMS[transform](block(data, name)), np.float32)
    if transform not in CENTRED:
        return values
    used = data.uns.get(USED_LATENTS, np.arange(data.n_vars))
    centred = np.zeros_like(values)
    centred[:, used] = values[:, used] - values[:, used].mean(axis=1, keepdims=True)
    return centred


def transformed_error(data: ad.AnnData, name: str, transform: str) -> NDArray[np.float32]:
    """Standard error of a block after a transform, ``(n_patients, n_latents)``.

    Half of what the transform makes of the interval from one error below the value, or 0, to one above: as it is without
    a transform, and finite where a square root has no slope.

    Examples
    --------
    >>> one = ad.AnnData(np.array([[4.0]], np.float32), layers={"standard_error": np.array([[4.0]], np.float32)})
    >>> transformed_error(one, "count", "none").item(), round(transformed_error(one, "count", "sqrt").item(), 3)
    (4.0, 1.414)
    """
    values = np.asarray(block(data, name), np.float64)
    error = np.asarray(block(data, "standard_error" if name == "count" else f"{name}_error"), np.float64)
    if transform == "none":
        return error.astype(np.float32)
    change = TRANSFORMS[transform]
    return np.asarray((change(values + error) - change(np.maximum(values - error, 0))) / 2, np.float32)
