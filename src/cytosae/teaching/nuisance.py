"""What a concept shall not depend on: the same cell turned or in another stain, and what differs from patient to patient."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cytosae.artefacts import whole_file
from cytosae.errors import CytosaeError

VIEWS = "views.safetensors"
"""File of `Views`, beside the taught concepts of a study."""
Nuisance: TypeAlias = tuple[NDArray[np.float64], float]
"""Covariance of the changes, ``(d_model, d_model)``, and the weight of the penalty on what follows them."""
BETWEEN_PATIENTS, OF_VIEWS = 0.3, 1.0
"""Weights, where 1 makes the mean penalty of a direction twice as large."""
_LEAST_PATIENTS = 3


def between_patients(tokens: NDArray[np.floating], units: NDArray[np.integer]) -> NDArray[np.float64] | None:
    """Covariance of the patients' mean patches, ``(d_model, d_model)``; None where fewer than three have two cells.

    Parameters
    ----------
    tokens
        Patches of random cells, ``(n_cells, n_patches, d_model)``.
    units
        Patient of each, ``(n_cells,)``.
    """
    names, counts = np.unique(units, return_counts=True)
    several = names[counts > 1]
    if len(several) < _LEAST_PATIENTS:
        return None
    of_cells = tokens.mean(axis=1, dtype=np.float32)
    return np.cov(np.stack([of_cells[units == unit].mean(axis=0) for unit in several]).T.astype(np.float64))


def mean_square_change(own: NDArray[np.floating], views: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Mean of ``(x' - x)(x' - x)^T`` over patches and views x' of the same cells, ``(d_model, d_model)``.

    Parameters
    ----------
    own, views
        Patches at the same spots of the cell, each ``(n_cells, n_patches, d_model)``.

    Examples
    --------
    >>> mean_square_change(np.zeros((1, 2, 2)), [np.ones((1, 2, 2))]).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    changes = [(view - own).reshape(-1, own.shape[-1]).astype(np.float32) for view in views]
    return np.asarray(sum((one.T @ one).astype(np.float64) / len(one) for one in changes) / len(changes))


def penalised(
    basis: NDArray[np.float64], covariance: NDArray[np.float64], nuisances: Sequence[Nuisance]
) -> NDArray[np.float64]:
    """A prior ``w = A u`` after which each nuisance costs w besides: ``|u|^2 + sum_k c_k w N_k w``, as A of the new prior.

    It is the limit of fitting to marks that are seen in all these ways too (Bishop 1995: training with noise is a Tikhonov
    penalty; Simard et al. 1992: tangent propagation). c_k makes the mean of the penalty over the directions of u its weight.

    Parameters
    ----------
    basis
        A, ``(d_model, d_model)``.
    covariance
        Of random patches, to which the result is scaled: features have a mean square of 1.
    """
    cost = np.eye(basis.shape[1])
    for changes, weight in nuisances:
        own = basis.T @ changes @ basis
        if (trace := float(np.trace(own))) > 0:
            cost += weight * len(own) / trace * own
    values, vectors = np.linalg.eigh(cost)
    changed = basis @ (vectors / np.sqrt(values))
    square = float(np.einsum("ij,ik,kj->", changed, covariance, changed)) / len(cost)
    return np.asarray(changed / np.sqrt(max(square, 1e-12)))


@dataclass(frozen=True)
class Views:
    """How the tokens of random cells change when these are turned and mirrored, and in other stains."""

    turned: NDArray[np.float64]
    """`mean_square_change`, ``(d_model, d_model)``."""
    restained: NDArray[np.float64]
    """The same of stains and light."""
    cells: int
    made_from: str
    """Digest of the tokens of the study."""

    @property
    def nuisances(self) -> list[Nuisance]:
        """With their weights."""
        return [(self.turned, OF_VIEWS), (self.restained, OF_VIEWS)]

    def save(self, path: Path) -> None:
        """Write the file; it holds nothing of a single cell."""
        about = json.dumps({"cells": self.cells, "made_from": self.made_from})
        with whole_file(path) as temporary:
            save_file({"turned": self.turned, "restained": self.restained}, temporary, metadata={"cytosae": about})

    @classmethod
    def load(cls, path: Path, made_from: str) -> Views | None:
        """Read what `save` wrote; None where it is not there or of other tokens.

        Raises
        ------
        CytosaeError
            It is damaged.
        """
        if not path.is_file():
            return None
        try:
            with safe_open(path, "np") as file:
                about = json.loads((file.metadata() or {})["cytosae"])
                views = cls(file.get_tensor("turned"), file.get_tensor("restained"), about["cells"], about["made_from"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CytosaeError(f"{path}: not readable ({error}). Remove it; `cytosae teach` makes it again.") from error
        return views if views.made_from == made_from else None
