"""Which concepts carry a prediction, and which cells and patches carry these: sums that add up, as the model is linear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray


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
        of = self.classes.index(name)
        return np.asarray(self.weights[of] - self.weights.mean(axis=0), np.float64)

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
