"""How far new patients lie from those that a classifier was trained on. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from cytosae.cohort.linear import centred_products
from cytosae.cohort.representation import Representation, transformed
from cytosae.cohort.selection import Products

BEYOND = 0.95
"""A new patient who is farther than this share of the training patients is said to lie beyond them."""


@dataclass(frozen=True)
class Novelty:
    """Distances to the nearest training patient."""

    training: NDArray[np.float64]
    """Of each training patient to the nearest other one, ``(n_training,)``."""
    new: NDArray[np.float64]
    """Of each new patient, ``(n_new,)``."""

    @property
    def farther_than(self) -> NDArray[np.float64]:
        """Share of the training patients whose own distance is smaller, ``(n_new,)``."""
        return np.asarray((self.training < self.new[:, None]).mean(axis=1))

    @property
    def p(self) -> NDArray[np.float64]:
        """Conformal p-value of each new patient: small where hardly a training patient is as far; ``(n_new,)``."""
        return np.asarray((1 + (self.training >= self.new[:, None]).sum(axis=1)) / (1 + len(self.training)))

    @property
    def beyond(self) -> NDArray[np.bool_]:
        """Who lies beyond `BEYOND` of the training patients, ``(n_new,)``."""
        return self.farther_than >= BEYOND

    def overall_p(self) -> float:
        """Whether the new patients as a whole are farther than the training patients (Mann and Whitney, one-sided)."""
        return float(mannwhitneyu(self.new, self.training, alternative="greater").pvalue)


def nearest_distances(products: NDArray[np.float64], units: NDArray[np.integer]) -> Novelty:
    """Distances to the nearest training patient, from products of patients with one another.

    Parameters
    ----------
    products
        Of the training patients and, after them, the new ones: ``(n_training + n_new, n_training + n_new)``.
    units
        The person of each training row: nobody is the nearest to oneself; ``(n_training,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    n = len(units)
    squares = np.diagonal(products)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[:n] - 2 * products[:, :n], 0))
    others = np.where(units[:, None] == units, np.inf, distances[:n])
    return Novelty(others.min(axis=1), distances[n:].min(axis=1))


def patient_novelty(training: ad.AnnData, units: NDArray[np.integer], new: ad.AnnData, kind: Representation) -> Novelty:
    """Distances in a representation, its blocks scaled as for a classifier of the training patients.

    Parameters
    ----------
    training, new
        Barcodes of the same latents.
    units
        The person of each training row, ``(n_training,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    parts = [(block, kind.transform) for block in kind.blocks]
    both = {part: np.concatenate([transformed(data, *part) for data in (training, new)]) for part in parts}
    products = Products({part: centred_products(values) for part, values in both.items()}, {kind: parts})
    rows = np.arange(training.n_obs + new.n_obs) < training.n_obs
    return nearest_distances(products.scaled(kind, rows), units)
