"""What a classifier or a comparison sees of a barcode: one or several of its blocks, transformed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from cytosae.errors import CytosaeError

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
TRANSFORMS: Mapping[str, Callable[[NDArray[np.floating]], NDArray[np.floating]]] = {
    "none": lambda x: x,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
}


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

    def values(self, data: ad.AnnData) -> NDArray[np.float32]:
        """Its blocks of some patients, transformed, ``(n_patients, n_blocks, n_latents)``."""
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

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    return np.asarray(TRANSFORMS[transform](block(data, name)), np.float32)
