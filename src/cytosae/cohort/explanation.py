"""Which concepts carry a prediction, and which cells and patches carry these: sums that add up, as the model is linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from cytosae.artefacts import whole_file
from cytosae.cohort.linear import fit_path
from cytosae.cohort.parts import patch_parts
from cytosae.cohort.representation import BLOCKS, Representation
from cytosae.cohort.selection import Choice, Products
from cytosae.cohort.task import ClassificationTask
from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class LinearModel:
    """A linear model on a representation of barcodes: a logit for each class, or one output, a number or a hazard."""

    outputs: tuple[str, ...]
    """The classes, or the name of the number or time."""
    representation: Representation
    weights: NDArray[np.float32]
    """``(n_outputs, n_blocks, n_latents)``."""
    intercept: NDArray[np.float32]
    """``(n_outputs,)``."""
    centre: NDArray[np.float32]
    """Mean of the training patients' values, ``(n_blocks, n_latents)``: contributions are counted from here."""

    def linear_predictor(self, values: ArrayLike) -> NDArray[np.float64]:
        """``(n_patients, n_outputs)`` of values ``(n_patients, n_blocks, n_latents)``; see `Representation.values`.

        Logits of classes, the number itself, or the logarithm of the relative hazard.
        """
        return np.asarray(
            np.einsum("pbs,cbs->pc", np.asarray(values), self.weights, optimize=True) + self.intercept, np.float64
        )

    def direction(self, name: str) -> NDArray[np.float64]:
        """What one unit of each value adds to an output, over the mean of all classes; ``(n_blocks, n_latents)``."""
        row = self.weights[self.outputs.index(name)]
        return np.asarray(row - (self.weights.mean(axis=0) if len(self.outputs) > 1 else 0), np.float64)

    def concept_contributions(self, values: ArrayLike, name: str) -> NDArray[np.float64]:
        """What each latent adds to an output, over the mean training patient and the mean of all classes.

        Parameters
        ----------
        values
            Of the patient, ``(n_blocks, n_latents)``.

        Returns
        -------
        ``(n_latents,)``; the sum is by how much the class stands above the mean of all classes, more than in the mean
        patient; or by how much the number is above that of the mean patient.
        """
        return np.asarray((self.direction(name) * (np.asarray(values, np.float64) - self.centre)).sum(axis=0))

    def patch_weights(self, counts: sp.csr_matrix, name: str) -> sp.csr_matrix:
        """What an active patch of each cell adds to an output (a logit) for each of its latents, over the mean of all
        classes; ``(n_cells, n_latents)``.

        The block's parts (`cytosae.cohort.parts.patch_parts`) times the model's weights.

        Parameters
        ----------
        counts
            a_i[s] of all cells of the patient, ``(n_cells, n_latents)``.
        """
        of_blocks = zip(patch_parts(counts, self.representation), self.direction(name), strict=True)
        first, *others = (part.multiply(own).tocsr() for part, own in of_blocks)
        return sp.csr_matrix(sum(others, start=first))

    def cell_contributions(self, counts: sp.csr_matrix, name: str) -> NDArray[np.float64]:
        """What each cell of a patient adds to the same sum as the concepts, ``(n_cells,)``; see `patch_weights`.

        The sum over the cells is the sum over the concepts.
        """
        own = np.asarray(sp.csr_matrix(counts).multiply(self.patch_weights(counts, name)).sum(axis=1)).ravel()
        return np.asarray(own - (self.direction(name) * self.centre).sum() / counts.shape[0])


class Classifier(LinearModel):
    """A linear model of classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Its outputs."""
        return self.outputs

    def probabilities(self, values: ArrayLike) -> NDArray[np.float64]:
        """``(n_patients, n_classes)``; see `linear_predictor`."""
        return np.asarray(softmax(self.linear_predictor(values), axis=1))


def strongest(adds: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Places of what adds most, as far as it adds at all, falling.

    Examples
    --------
    >>> strongest(np.array([0.1, 0.5, 0.2]), 2).tolist()
    [1, 2]
    """
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

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    kind = choice.representation
    product = products.scaled(kind, rows)[np.ix_(rows, rows)]
    (model,) = fit_path(product, task.target[None, rows], len(task.classes), (choice.strength,))
    return Classifier(
        task.classes, kind, *on_values(task.data, products, rows, kind, model.dual[0], model.intercept[0])
    )


def on_values(
    data: ad.AnnData,
    products: Products,
    rows: NDArray[np.bool_],
    kind: Representation,
    dual: NDArray[np.float64],
    intercept: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Weights, intercept and centre of a `LinearModel`, of a model in terms of its training rows.

    Parameters
    ----------
    products
        Of these barcodes.
    rows
        Training rows, ``(n_rows,)``.
    dual, intercept
        Weight of each training row, ``(n_outputs, n_train)``, which sums to 0 over the rows, and ``(n_outputs,)``; see
        `cytosae.cohort.linear.Fits`.
    """
    scales = products.scales(kind, rows)
    values, fitted = (made.astype(np.float64) for made in (kind.values(data), kind.fitted_values(data)))
    weights = np.einsum("ct,tbs->cbs", dual, fitted[rows] - fitted[rows].mean(axis=0), optimize=True)
    weights *= np.array([scales[block] ** 2 for block in kind.blocks])[:, None]
    # The products are over the mean of all rows: so is the intercept.
    own = intercept - np.einsum("bs,cbs->c", fitted.mean(axis=0), weights)
    return weights.astype(np.float32), own.astype(np.float32), values[rows].mean(axis=0).astype(np.float32)


def write_models(path: Path, models: Sequence[LinearModel]) -> None:
    """Write the model of all patients and those of the folds as safetensors; blocks that a model lacks are 0.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    latents = models[0].weights.shape[2]
    arrays = {
        "weights": np.zeros((len(models), len(models[0].outputs), len(BLOCKS), latents), np.float32),
        "intercept": np.stack([model.intercept for model in models]),
        "centre": np.zeros((len(models), len(BLOCKS), latents), np.float32),
    }
    for index, model in enumerate(models):
        blocks = _places(model.representation)
        arrays["weights"][index][:, blocks] = model.weights
        arrays["centre"][index][blocks] = model.centre
    with whole_file(path) as temporary:
        save_file(arrays, temporary)


def read_classifiers(path: Path, result: Mapping[str, Any]) -> list[Classifier]:
    """What `write_models` wrote; `result` is the ``classification.json`` beside it, with classes and choices.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    classes = tuple(result["classes"])
    return [Classifier(classes, *parts) for parts in _read(path, result["model"]["choices"])]


def read_regressions(path: Path, result: Mapping[str, Any]) -> list[LinearModel]:
    """What `write_models` wrote; `result` is the ``outcome.json`` beside it, with the target and choices.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    return [LinearModel((result["target"],), *parts) for parts in _read(path, result["model"]["choices"])]


_Parts: TypeAlias = tuple[Representation, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _read(path: Path, choices: Sequence[Mapping[str, Any]]) -> list[_Parts]:
    """Representation, weights, intercept and centre of every model in a file."""
    chosen = [Representation(choice["features"], choice["transform"]) for choice in choices]
    try:
        arrays = load_file(path)
        models = list(zip(chosen, arrays["weights"], arrays["intercept"], arrays["centre"], strict=True))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CytosaeError(f"{path}: not readable ({error}). Run `cytosae classify` again.") from error
    return [
        (kind, weights[:, _places(kind)], intercept, centre[_places(kind)])
        for kind, weights, intercept, centre in models
    ]


def _places(kind: Representation) -> list[int]:
    """Places of its blocks among all."""
    return [BLOCKS.index(block) for block in kind.blocks]
