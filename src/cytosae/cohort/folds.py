"""Folds of cross-validation: divisions of the patients, with all rows of a patient on one side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class Folds:
    """One or several divisions of the same patients; in each, every row is predicted once."""

    row_folds: NDArray[np.int64]
    """Fold of each row, negative for rows that are never predicted (and always trained on), ``(n_repeats, n_rows)``."""
    names: tuple[str, ...]
    """Names of the folds."""
    description: str
    """How they were drawn, in words."""
    from_column: bool = False
    """The folds are those of a column, such as laboratories."""
    caveats: tuple[str, ...] = ()

    @property
    def n_repeats(self) -> int:
        """Divisions."""
        return len(self.row_folds)

    @property
    def splits(self) -> list[tuple[int, int]]:
        """Division and fold of every prediction."""
        return [(repeat, int(fold)) for repeat, row in enumerate(self.row_folds) for fold in np.unique(row[row >= 0])]

    @property
    def row_models(self) -> NDArray[np.int64]:
        """Place in `splits` of the model that had not seen each row, ``(n_repeats, n_rows)``; negative where none had."""
        models = np.full(self.row_folds.shape, -1)
        for index, (repeat, fold) in enumerate(self.splits):
            models[repeat, self.row_folds[repeat] == fold] = index
        return models


class _Stratified(StratifiedGroupKFold):
    """scikit-learn's folds, found in a tenth of the time: it tries a group in one fold after the other, this in all at once.

    The calibration of conformal sets divides the patients 130 times.
    """

    def _find_best_fold(
        self, y_counts_per_fold: NDArray[np.float64], y_cnt: NDArray[np.integer], group_y_counts: NDArray[np.float64]
    ) -> int:
        """The fold to which a group goes: the one that leaves the classes most even, of those the one with fewest rows."""
        tried = y_counts_per_fold + np.eye(self.n_splits)[:, :, None] * group_y_counts
        uneven = np.std(tried / y_cnt, axis=1).mean(axis=1).tolist()
        rows = y_counts_per_fold.sum(axis=1).tolist()
        best = 0
        least, fewest = uneven[0], rows[0]
        for fold in range(1, self.n_splits):
            alike = abs(uneven[fold] - least) <= 1e-8 + 1e-5 * abs(least)  # as np.isclose
            if uneven[fold] < least or (alike and rows[fold] < fewest):
                best, least, fewest = fold, uneven[fold], rows[fold]
        return best


def stratified_folds(
    target: NDArray[np.integer], groups: Sequence[str], splits: int = 5, repeats: int = 5, seed: int = 0
) -> Folds:
    """Random folds with the classes in like shares, drawn several times.

    Parameters
    ----------
    target
        Class of each row, ``(n_rows,)``.
    groups
        The patient of each row: its rows stay together, ``(n_rows,)``.
    splits
        Folds; fewer where the smallest class has fewer patients, with a caveat.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    smallest = int(pd.Series(groups).groupby(target).nunique().min())
    caveats = []
    if smallest < splits:
        fewer = max(2, smallest)
        caveats.append(f"{splits} folds asked for, but the smallest class has {smallest} patients: {fewer} folds")
        splits = fewer
    row_folds = np.empty((repeats, len(target)), np.int64)
    for repeat in range(repeats):
        divided = _Stratified(splits, shuffle=True, random_state=(seed + repeat) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with one patient is in one fold
            for fold, (_, test) in enumerate(divided.split(target, target, groups)):
                row_folds[repeat, test] = fold
    drawn = f", drawn {repeats} times" if repeats > 1 else ""
    names = tuple(f"fold {fold + 1}" for fold in range(splits))
    return Folds(row_folds, names, f"{splits} folds by patient{drawn}", caveats=tuple(caveats))


def given_folds(column: pd.Series, target: NDArray[np.integer], groups: Sequence[str], title: str) -> Folds:
    """The folds that a column names: each value is predicted once by a model trained on all others.

    Parameters
    ----------
    column
        Of each row: the fold, or the laboratory that is left out; rows without a value are trained on and never predicted.
    title
        Name of the column, for messages.

    Raises
    ------
    CytosaeError
        A patient in two folds, or fewer than two folds.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    fold = pd.Series(np.asarray(column, dtype=object)).where(np.asarray(column.notna()), None)
    several = fold.groupby(np.asarray(groups, dtype=object)).nunique()
    if (several > 1).any():
        patients = several.index[several > 1]
        raise CytosaeError(
            f"{title}: {len(patients)} patients are in two folds, the first is {patients[0]!r}. A model would be "
            "tested on a patient that it knows: give every patient one fold."
        )
    codes, names = pd.factorize(fold, sort=True)
    if len(names) < 2:
        raise CytosaeError(f"{title}: has {len(names)} different values; at least two are needed to leave one out.")
    caveats = []
    for code, name in enumerate(names):
        unseen = np.setdiff1d(target[codes == code], target[codes != code])
        if len(unseen):
            caveats.append(f"{title} {name}: {len(unseen)} of its classes occur nowhere else")
    if (codes < 0).any():
        caveats.append(f"{title}: {(codes < 0).sum()} patients have no value, they are trained on and not predicted")
    return Folds(codes[None].astype(np.int64), tuple(map(str, names)), f"one {title} left out", True, tuple(caveats))


def shuffled_within(
    row_folds: NDArray[np.integer],
    target: NDArray[np.integer],
    units: NDArray[np.integer],
    draws: int,
    seed: int,
) -> NDArray[np.int64]:
    """Labels shuffled among the patients of the same fold with as many rows, ``(n_draws, n_rows)``.

    The rows of one patient move together: shuffled apart, the labels of a patient with two rows would differ, and the null
    would be narrower than chance.

    Parameters
    ----------
    row_folds, target
        Fold and class of each row, ``(n_rows,)``.
    units
        Patient of each row, ``(n_rows,)``.
    """
    rng = np.random.default_rng([seed, 7])
    shuffled = np.repeat(np.asarray(target, np.int64)[None], draws, axis=0)
    sizes = np.bincount(units)
    for fold in np.unique(row_folds):
        for size in np.unique(sizes[units[row_folds == fold]]):
            rows = np.flatnonzero((row_folds == fold) & (sizes[units] == size))
            by_patient = rows[np.argsort(units[rows], kind="stable")].reshape(-1, size)
            labels = np.asarray(target, np.int64)[by_patient]
            for draw in shuffled:
                draw[by_patient] = rng.permutation(labels)
    return shuffled
