"""Which concepts carry a prediction, and which cells and patches carry these: sums that add up, as the model is linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cytosae.artefacts import whole_file
from cytosae.cohort.blocks import TOP, CountSums
from cytosae.cohort.linear import fit_path
from cytosae.cohort.representation import BLOCKS, TRANSFORMS, Representation
from cytosae.cohort.selection import Choice, Products
from cytosae.cohort.task import ClassificationTask
from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class Classifier:
    """A linear model on a representation of barcodes."""

    classes: tuple[str, ...]
    representation: Representation
    weights: NDArray[np.float32]
    """``(n_classes, n_blocks, n_latents)``."""
    intercept: NDArray[np.float32]
    """``(n_classes,)``."""
    centre: NDArray[np.float32]
    """Mean of the training patients' values, ``(n_blocks, n_latents)``: contributions are counted from here."""

    def logits(self, values: ArrayLike) -> NDArray[np.float64]:
        """``(n_patients, n_classes)`` of values ``(n_patients, n_blocks, n_latents)``; see `Representation.values`."""
        return np.asarray(
            np.einsum("pbs,cbs->pc", np.asarray(values), self.weights, optimize=True) + self.intercept, np.float64
        )

    def probabilities(self, values: ArrayLike) -> NDArray[np.float64]:
        """``(n_patients, n_classes)``."""
        logits = self.logits(values)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def direction(self, name: str) -> NDArray[np.float64]:
        """What one unit of each value adds to a logit, over the mean of all classes; ``(n_blocks, n_latents)``."""
        row = self.weights[self.classes.index(name)]
        return np.asarray(row - self.weights.mean(axis=0), np.float64)

    def concept_contributions(self, values: ArrayLike, name: str) -> NDArray[np.float64]:
        """What each latent adds to the logit of a class, over the mean training patient and the mean of all classes.

        Parameters
        ----------
        values
            Of the patient, ``(n_blocks, n_latents)``.

        Returns
        -------
        ``(n_latents,)``; the sum is by how much the class stands above the mean of all classes, more than in the mean
        patient.
        """
        return np.asarray((self.direction(name) * (np.asarray(values, np.float64) - self.centre)).sum(axis=0))

    def patch_weights(self, counts: sp.csr_matrix, name: str) -> sp.csr_matrix:
        """What an active patch of each cell adds to the logit of a class for each of its latents, over the mean of all
        classes; ``(n_cells, n_latents)``.

        A block is a mean of parts of cells: of a_i[s] (count), of 1 where a_i[s] > 0 (share), of a_i[s] in the five cells
        with most (top). A part is divided evenly among the active patches of its cell. What a transform makes of a block is
        divided as the block itself.

        Parameters
        ----------
        counts
            a_i[s] of all cells of the patient, ``(n_cells, n_latents)``.
        """
        cells = sp.coo_matrix(counts)
        keep = cells.data > 0
        row, latent, count = cells.row[keep], cells.col[keep], cells.data[keep].astype(np.float64)
        n = counts.shape[0]
        sums = CountSums.empty(1, counts.shape[1])
        sums.add(sp.csr_matrix(counts), np.zeros(n, np.int64))
        blocks = {"count": sums.barcodes(), **sums.layers()}
        order = np.lexsort((row, -count, latent))
        first = np.searchsorted(latent[order], latent[order])
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - first
        parts = {"count": 1 / n, "share": 1 / (n * count), "top": (rank < TOP) / min(n, TOP)}
        total = np.zeros(len(count))
        for block, direction in zip(self.representation.blocks, self.direction(name), strict=True):
            value = blocks[block][0].astype(np.float64)
            made = TRANSFORMS[self.representation.transform](value)
            slope = direction * np.divide(made, value, out=np.zeros_like(value), where=value > 0)
            total += slope[latent] * parts[block]
        return sp.csr_matrix((total, (row, latent)), shape=counts.shape)

    def cell_contributions(self, counts: sp.csr_matrix, name: str) -> NDArray[np.float64]:
        """What each cell of a patient adds to the same sum as the concepts, ``(n_cells,)``; see `patch_weights`.

        The sum over the cells is the sum over the concepts.
        """
        own = np.asarray(sp.csr_matrix(counts).multiply(self.patch_weights(counts, name)).sum(axis=1)).ravel()
        return np.asarray(own - (self.direction(name) * self.centre).sum() / counts.shape[0])


def strongest(adds: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Places of what adds most, as far as it adds at all, falling."""
    order = np.argsort(-adds, kind="stable")[:most]
    return np.asarray(order[adds[order] > 0])


def trained(task: ClassificationTask, products: Products, rows: NDArray[np.bool_], choice: Choice) -> Classifier:
    """The classifier of some patients with a representation and strength.

    Parameters
    ----------
    products
        Of these barcodes, with that representation.
    rows
        Training rows, ``(n_rows,)``.
    """
    kind = choice.representation
    product = products.scaled(kind, rows)[np.ix_(rows, rows)]
    (model,) = fit_path(product, task.target[None, rows], len(task.classes), (choice.strength,))
    scales = products.scales(kind, rows)
    values = kind.values(task.data).astype(np.float64)
    centre = values[rows].mean(axis=0)
    weights = np.einsum("ct,tbs->cbs", model.dual[0], values[rows] - centre, optimize=True)
    weights *= np.array([scales[block] ** 2 for block in kind.blocks])[:, None]
    # The products are over the mean of all rows: so is the intercept.
    intercept = model.intercept[0] - np.einsum("bs,cbs->c", values.mean(axis=0), weights)
    parts = (array.astype(np.float32) for array in (weights, intercept, centre))
    return Classifier(task.classes, kind, *parts)


def write_classifiers(path: Path, models: Sequence[Classifier]) -> None:
    """Write the classifier of all patients and those of the folds as safetensors; blocks that a model lacks are 0."""
    latents = models[0].weights.shape[2]
    arrays = {
        "weights": np.zeros((len(models), len(models[0].classes), len(BLOCKS), latents), np.float32),
        "intercept": np.stack([model.intercept for model in models]),
        "centre": np.zeros((len(models), len(BLOCKS), latents), np.float32),
    }
    for place, model in enumerate(models):
        blocks = _places(model.representation)
        arrays["weights"][place][:, blocks] = model.weights
        arrays["centre"][place][blocks] = model.centre
    with whole_file(path) as temporary:
        save_file(arrays, temporary)


def read_classifiers(path: Path, result: Mapping[str, Any]) -> list[Classifier]:
    """What `write_classifiers` wrote; `result` is the ``classification.json`` beside it, with classes and choices."""
    chosen = [Representation(choice["features"], choice["transform"]) for choice in result["model"]["choices"]]
    try:
        arrays = load_file(path)
        models = list(zip(arrays["weights"], arrays["intercept"], arrays["centre"], chosen, strict=True))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CytosaeError(f"{path}: not readable ({error}). Run `cytosae classify` again.") from error
    return [
        Classifier(tuple(result["classes"]), kind, weights[:, _places(kind)], intercept, centre[_places(kind)])
        for weights, intercept, centre, kind in models
    ]


def _places(kind: Representation) -> list[int]:
    """Places of its blocks among all."""
    return [BLOCKS.index(block) for block in kind.blocks]
