"""Which concepts carry a prediction, and which cells and patches carry these: sums that add up, as the model is linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cytosae.artefacts import whole_file
from cytosae.cohort.linear import fit
from cytosae.cohort.task import ClassificationTask
from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class Classifier:
    """A linear model on barcodes."""

    classes: tuple[str, ...]
    weights: NDArray[np.float32]
    """``(n_classes, n_latents)``; 0 for latents at or below the threshold."""
    intercept: NDArray[np.float32]
    """``(n_classes,)``."""
    centre: NDArray[np.float32]
    """Mean barcode of the training patients, ``(n_latents,)``: contributions are counted from here."""

    def logits(self, barcodes: ArrayLike) -> NDArray[np.float64]:
        """``(n_patients, n_classes)``."""
        return np.asarray(np.atleast_2d(np.asarray(barcodes)) @ self.weights.T + self.intercept, np.float64)

    def probabilities(self, barcodes: ArrayLike) -> NDArray[np.float64]:
        """``(n_patients, n_classes)``."""
        logits = self.logits(barcodes)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def direction(self, name: str) -> NDArray[np.float64]:
        """What one more active patch a cell adds to a logit, over the mean of all classes; ``(n_latents,)``."""
        row = self.weights[self.classes.index(name)]
        return np.asarray(row - self.weights.mean(axis=0), np.float64)

    def concept_contributions(self, barcode: ArrayLike, name: str) -> NDArray[np.float64]:
        """What each latent adds to the logit of a class, over the mean training patient and the mean of all classes.

        Parameters
        ----------
        barcode
            a_p[s], ``(n_latents,)``.

        Returns
        -------
        ``(n_latents,)``; the sum is by how much the class stands above the mean of all classes, more than in the mean
        patient.
        """
        return self.direction(name) * (np.asarray(barcode, np.float64) - self.centre)

    def cell_contributions(self, counts: sp.csr_matrix, name: str) -> NDArray[np.float64]:
        """What each cell adds to the same sum, ``(n_cells,)``: its counts a_i[s] in place of the barcode, divided by
        the cells.

        The sum over the patient's cells is the sum over the concepts, since a barcode is a mean over cells (Eq. 3).
        """
        direction = self.direction(name)
        return np.asarray((counts @ direction - self.centre @ direction) / counts.shape[0])

    def patch_contributions(self, active: NDArray[np.bool_], name: str) -> NDArray[np.float64]:
        """What each token of a cell adds to the logit of a class over the mean of all classes: the sum of its active
        latents.

        Parameters
        ----------
        active
            Whether h_ij[s] is above tau, ``(n_tokens, n_latents)``.

        Returns
        -------
        ``(n_tokens,)``; the sum over the tokens, less what the mean training patient has, is the cell's contribution
        times the number of cells.
        """
        return active.astype(np.float64) @ self.direction(name)


def trained(task: ClassificationTask, rows: NDArray[np.bool_], threshold: float) -> Classifier:
    """The classifier of some patients with the latents that lie above a threshold in their images."""
    above = task.log_mean(rows) > threshold
    features = np.where(above, task.barcodes[rows], np.float32(0))
    wide = features.astype(np.float64)
    model = fit(wide @ wide.T, task.target[None, rows], len(task.classes))
    weights = model.weights(wide)[0].astype(np.float32)
    return Classifier(task.classes, weights, model.intercept[0].astype(np.float32), features.mean(axis=0))


def write_classifiers(path: Path, models: Sequence[Classifier]) -> None:
    """Write the classifier of all patients and those of the folds as safetensors."""
    arrays = {name: np.stack([getattr(model, name) for model in models]) for name in ("weights", "intercept", "centre")}
    with whole_file(path) as temporary:
        save_file(arrays, temporary)


def read_classifiers(path: Path, classes: Sequence[str]) -> list[Classifier]:
    """What `write_classifiers` wrote."""
    try:
        arrays = load_file(path)
        folds = zip(arrays["weights"], arrays["intercept"], arrays["centre"], strict=True)
    except (OSError, SafetensorError, KeyError) as error:
        raise CytosaeError(f"{path}: not readable ({error}). Run `cytosae classify` again.") from error
    return [Classifier(tuple(classes), *fold) for fold in folds]
