"""Is a latent the cell's or the stain's? Variance over cells against variance over pictures of one cell. Arrays in, numbers
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MORPHOLOGY, MIXED, STAIN = "morphology", "mixed", "stain"
_LITTLE, _MOST = 0.2, 0.5
"""Stain response up to which a latent is morphology, and from which it is stain."""


@dataclass(frozen=True)
class StainResponse:
    """Components of the variance of each latent, ``(n_latents,)``."""

    cell: NDArray[np.float64]
    """Between cells: what is the same in all pictures of one."""
    stain: NDArray[np.float64]
    """Between pictures of one cell that differ in stain or light."""
    optics: NDArray[np.float64]
    """Between pictures of one cell that differ in focus, compression, scale or position."""

    def share(self, name: str) -> NDArray[np.float64]:
        """Share of the three that one has; NaN for a latent that never changes."""
        total = self.cell + self.stain + self.optics
        return np.divide(getattr(self, name), total, out=np.full(len(total), np.nan), where=total > 0)

    @property
    def response(self) -> NDArray[np.float64]:
        """Variance of the stain over that of stain and cell, 0 to 1; NaN for a latent that neither changes."""
        total = self.cell + self.stain
        return np.divide(self.stain, total, out=np.full(len(total), np.nan), where=total > 0)

    def words(self) -> list[str | None]:
        """*morphology*, *mixed* or *stain*; None for a latent that was not seen."""
        return [
            None if np.isnan(r) else MORPHOLOGY if r < _LITTLE else STAIN if r > _MOST else MIXED for r in self.response
        ]


class ResponseSums:
    """Sums over cells, from which `StainResponse` follows; memory does not grow with the cells.

    Parameters
    ----------
    n_latents
        Latents.
    kinds
        Pictures of each kind beside the one as it is.
    """

    def __init__(self, n_latents: int, kinds: Mapping[str, int]) -> None:
        self.kinds, self.n = dict(kinds), 0
        self._within = {kind: np.zeros(n_latents) for kind in kinds}
        self._mean, self._square = np.zeros(n_latents), np.zeros(n_latents)
        self._pooled = np.zeros(n_latents)

    def add(self, own: ArrayLike, changed: Mapping[str, ArrayLike]) -> None:
        """Take in some cells.

        Parameters
        ----------
        own
            Values of the pictures as they are, ``(n_cells, n_latents)``.
        changed
            Of each kind ``(n_pictures, n_cells, n_latents)``.
        """
        first = np.asarray(own, np.float64)
        everything = [first[None]]
        for kind, values in changed.items():
            pictures = np.concatenate([first[None], np.asarray(values, np.float64)])
            self._within[kind] += pictures.var(axis=0, ddof=1).sum(axis=0)
            everything.append(pictures[1:])
        stacked = np.concatenate(everything)
        means = stacked.mean(axis=0)
        self.n += len(first)
        self._mean += means.sum(axis=0)
        self._square += (means**2).sum(axis=0)
        self._pooled += (stacked.var(axis=0, ddof=1) / len(stacked)).sum(axis=0)

    def response(self) -> StainResponse:
        """The components; the cells' is corrected for what their means have of the pictures' variance (ANOVA estimator).

        Raises
        ------
        ValueError
            Fewer than two cells.

        References
        ----------
        Searle, Casella and McCulloch (1992), Variance Components, one-way random model.

        Examples
        --------
        >>> sums = ResponseSums(2, {"stain": 1, "optics": 1})
        >>> own = np.array([[0.0, 3], [4, 3]])  # of two cells: the first latent is the cell's, the second the stain's
        >>> sums.add(own, {"stain": [own + [0, 2]], "optics": [own]})
        >>> sums.response().words()
        ['morphology', 'stain']
        """
        if self.n < 2:
            raise ValueError(f"{self.n} cells; two at least are needed")
        between = (self._square - self._mean**2 / self.n) / (self.n - 1)
        cell = np.maximum(between - self._pooled / self.n, 0)
        return StainResponse(cell, *(self._within[kind] / self.n for kind in ("stain", "optics")))
