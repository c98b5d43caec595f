"""How well patients are predicted with fewer and fewer latents: the paper's sweep of thresholds (Fig. 4A), and its form."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort.cross_validation import Predictions
from cytosae.cohort.folds import Folds
from cytosae.cohort.linear import fit, threshold_products
from cytosae.cohort.task import ClassificationTask
from cytosae.settings import ClassifyConfig

PAPER_THRESHOLD = -3.0


@dataclass(frozen=True)
class Sweep:
    """Classification of barcodes, as they are, with C = c n / 100, at every threshold."""

    at: tuple[Predictions, ...]
    """With all latents above each threshold."""
    n_latents: NDArray[np.float64]
    """Latents above each threshold, mean over the folds, ``(n_thresholds,)``."""


def sweep(
    task: ClassificationTask, folds: Folds, config: ClassifyConfig, progress: Callable[[int], None] = lambda done: None
) -> Sweep:
    """Predict every row at every threshold; which latents are above it is decided by the training patients' images.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    n_classes, thresholds = len(task.classes), config.thresholds
    probability = np.full((len(thresholds), folds.n_repeats, len(task.target), n_classes), np.nan)
    counts = []

    def predict(split: tuple[int, int]) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
        """Latents above each threshold, and the fold's probabilities at each."""
        repeat, fold = split
        test = folds.row_folds[repeat] == fold
        products, count = threshold_products(task.barcodes, task.log_mean(~test), thresholds)
        by_threshold: list[NDArray[np.float64]] = []
        for t, product in enumerate(products):
            if t and count[t] == count[t - 1]:  # no latent lies between the two
                by_threshold.append(by_threshold[-1])
                continue
            model = fit(product[np.ix_(~test, ~test)], task.target[None, ~test], n_classes)
            by_threshold.append(model.probabilities(product[np.ix_(test, ~test)])[0])
        return count, by_threshold

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, ((repeat, fold), (count, by_threshold)) in enumerate(
            zip(folds.splits, pool.map(predict, folds.splits), strict=True), 1
        ):
            counts.append(count)
            probability[:, repeat, folds.row_folds[repeat] == fold] = np.stack(by_threshold)
            progress(done)
    return Sweep(tuple(Predictions(p, task.target, task.units) for p in probability), np.mean(counts, axis=0))
