"""Cell types of cells from another laboratory: tokens made comparable without labels, and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.restaining import laboratory_stain
from cytosae.analysis.study_features import cell_tokens, comparable_measurements
from cytosae.analysis.viewing import study_tokens
from cytosae.backbones import Backbone
from cytosae.cells import read_cells
from cytosae.cohort import (
    CellAnswers,
    Fitter,
    cells_fitter,
    forest_fitter,
    harmonised,
    judge_answers,
    left_out_laboratories,
    pooled_fitter,
    predicted_rows,
    within_laboratories,
)
from cytosae.console import say
from cytosae.errors import CytosaeError, NotFound
from cytosae.harmonise import LEAST, Laboratories, Recolouring, Stain, laboratories, mean_stain, stain_maps
from cytosae.morphometry import measure_cells, read_measurements
from cytosae.settings import LabelConfig
from cytosae.tokens import LiveTokens

_METHOD = "standardise"
"""How tokens are made comparable: the best of `cytosae transfer` on real cells."""
_EACH = 150
"""Cells of each type and laboratory that are learned from, at most: four times as many were no better."""
_COLOURS = "reinhard"
"""How colours are, before cells are measured."""


@dataclass(frozen=True)
class KnownCells:
    """What is learned from, and which laboratories there are."""

    target: NDArray[np.int64]
    """Type of each cell, ``(n_known,)``."""
    classes: tuple[str, ...]
    units: NDArray[np.int64]
    """Patient of each cell (a cell of no patient is one by itself), ``(n_known,)``."""
    tokens: NDArray[np.float32]
    """CLS and mean patch, ``(n_known, 2, d_model)``."""
    cells: pd.DataFrame
    """Their listing."""
    laboratories: Laboratories
    """Of the known cells and then of the new ones, ``(n_known + n_new,)``."""


def known_cells(
    study: Path, labelled: pd.DataFrame, cells: pd.DataFrame, config: LabelConfig, backbone: Backbone
) -> KnownCells:
    """Read what can be learned from a study for new cells.

    Parameters
    ----------
    labelled
        Cells of the study with ``dataset``, ``row`` (in the data set), ``label`` and ``patient``.
    cells
        Listing of the new cells.

    Raises
    ------
    CytosaeError
        No column of the laboratory, fewer than two types, all labelled cells of one patient.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    with study_tokens(study, backbone) as source:
        dataset = source.cells["dataset"].astype(str).to_numpy()
        own = {name: np.flatnonzero(dataset == name) for name in np.unique(dataset)}
        rows = np.array([own[name][row] for name, row in zip(labelled["dataset"], labelled["row"], strict=True)])
        order = np.argsort(rows, kind="stable")
        rows, labelled = rows[order], labelled.iloc[order]
        for name, table in ((f"{study}", source.cells), ("the table of new cells", cells)):
            if config.laboratory not in table:
                raise NotFound(f"--laboratory {config.laboratory}: {name} has no such column.")
        stated = source.cells[config.laboratory].iloc[rows].notna().to_numpy()
        if not stated.all():
            say(f"label: {(~stated).sum()} labelled cells have no {config.laboratory} and are not learned from")
        rows, labelled = rows[stated], labelled[stated]
        drawn = labelled.assign(place=np.arange(len(rows)), laboratory=source.cells[config.laboratory].to_numpy()[rows])
        drawn = (
            drawn.sample(frac=1, random_state=config.seed).groupby(["laboratory", "label"], observed=True).head(_EACH)
        )
        chosen = np.sort(drawn["place"].to_numpy())
        rows, labelled = rows[chosen], labelled.iloc[chosen]
        column = pd.concat([source.cells[config.laboratory].iloc[rows], cells[config.laboratory]], ignore_index=True)
        tokens = cell_tokens(source, rows)
        names = source.cells["cell_id"].astype(str).iloc[rows]
    target, classes = pd.factorize(labelled["label"].astype(str), sort=True)
    if len(classes) < 2:
        raise CytosaeError(f"{study}: cells of two types with a known {config.laboratory} are needed to learn from.")
    patients = labelled["dataset"].astype(str) + "\n" + labelled["patient"].astype(str)
    units = pd.factorize(np.where(labelled["patient"].notna(), patients, names))[0]
    if units.max() < 1:
        raise CytosaeError(f"{study}: cells of two patients are needed, one to train on and one to test on.")
    listing = read_cells(study / "cells.parquet")
    return KnownCells(
        target.astype(np.int64),
        tuple(classes),
        units.astype(np.int64),
        tokens,
        listing.set_index(listing["cell_id"].astype(str)).loc[names].reset_index(drop=True),
        laboratories(column.to_frame(), config.laboratory, several=False),
    )


def label_elsewhere(
    known: KnownCells, tokens: LiveTokens, folder: Path, config: LabelConfig
) -> tuple[CellAnswers, NDArray[np.float64], dict[str, Any]]:
    """Predict the types of new cells, each laboratory by itself.

    Tokens are standardised by laboratory and go into a logistic regression. Measurements, of images in the colours of the
    mean laboratory, go into a forest. Their log probabilities are averaged. A new laboratory of too few cells keeps its
    colours, and each cell is taken for one of the study's laboratory that it resembles most. How often the answers are right
    is judged with each laboratory of the study left out in turn, if there are several with two types, otherwise on patients
    that are left out.

    Parameters
    ----------
    tokens
        Of the new cells.
    folder
        Gets ``known`` and ``new``, measurements of the cells that are learned from and of the new ones.

    Returns
    -------
    answers
        When to answer, and what that did on cells that were not learned from.
    probability
        ``(n_new, n_classes)``.
    figures
        ``laboratories``: what was done for each of the new cells; ``judged_on``.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    table = _measured(known, tokens.cells, folder)
    new = cell_tokens(tokens, np.arange(tokens.n_cells))
    n_known, n_classes = len(known.target), len(known.classes)
    codes = np.where(known.laboratories.codes < 0, len(known.laboratories.names), known.laboratories.codes)
    both = np.concatenate([known.tokens, new])
    blocks = [both[:, 0], both[:, 1]]
    measured = comparable_measurements(table, codes)
    of_known = None if measured is None else measured[:n_known]
    own = codes[:n_known]
    answers, judged_on = _judged(known, own, _fitter(of_known, n_classes, config.seed), config)
    target = np.r_[known.target, np.zeros(len(new), np.int64)]
    units = np.r_[known.units, known.units.max() + 1 + np.arange(len(new))]
    probability = np.zeros((len(new), n_classes))
    done = {}
    names = (*known.laboratories.names, f"no {known.laboratories.column}")
    for code in np.unique(codes[n_known:]).tolist():
        asked = np.flatnonzero(codes == code)
        asked = asked[asked >= n_known]
        rows = np.r_[np.arange(n_known), asked]
        is_new = code not in own
        alone = is_new and (len(asked) < LEAST or code == len(names) - 1)
        comparable = harmonised(
            [block[rows] for block in blocks],
            codes[rows],
            _METHOD,
            code if is_new else None,
            alone=alone,
            least=LEAST,
        )
        test = rows >= n_known
        fit = _fitter(None if measured is None else measured[rows], n_classes, config.seed)
        probability[asked - n_known] = predicted_rows(
            comparable, target[rows], codes[rows], units[rows], fit, ~test, test, config.seed
        )
        done[names[code]] = "as in the study" if not is_new else "nearest laboratory" if alone else "its own cells"
        if alone:
            say(
                f"label: {names[code]}: {len(asked)} cells, each taken for one of the study's laboratory that it resembles "
                f"most; from {LEAST} cells of a new laboratory these are made comparable by themselves"
            )
    if judged_on != "laboratories":
        say("label: the study has one laboratory; in another the answers are right less often than stated")
    return answers, probability, {"laboratories": done, "judged_on": f"{judged_on} left out"}


def _measured(known: KnownCells, cells: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Measurements of the known cells and then of the new ones, in the colours of the mean laboratory.

    Laboratories of too few cells stay as they are.
    """
    n_known, codes = len(known.target), known.laboratories.codes
    parts = {"known": (known.cells, codes[:n_known]), "new": (cells, codes[n_known:])}
    number = np.full(len(known.laboratories.names) + 1, -1)
    stains: list[Stain] = []
    for listing, own in parts.values():
        for code, size in zip(*np.unique(own[own >= 0], return_counts=True), strict=True):
            if size >= LEAST and number[code] < 0:
                number[code] = len(stains)
                stains.append(laboratory_stain(listing, np.flatnonzero(own == code), _COLOURS))
    tables = []
    for name, (listing, own) in parts.items():
        colours = Recolouring(stain_maps(_COLOURS, stains, mean_stain(stains)), number[own]) if stains else None
        measure_cells(listing, folder / name, colours=colours)
        tables.append(read_measurements(folder / name).reindex(listing["cell_id"].astype(str)))
    return pd.concat(tables)


def _fitter(measured: NDArray[np.float64] | None, n_classes: int, seed: int) -> Fitter:
    of_tokens = cells_fitter(n_classes)
    return of_tokens if measured is None else pooled_fitter(of_tokens, forest_fitter(measured, n_classes, seed))


def _judged(known: KnownCells, codes: NDArray[np.int64], fit: Fitter, config: LabelConfig) -> tuple[CellAnswers, str]:
    """What is right of cells that were not learned from, and what these are."""
    blocks, n_classes = [known.tokens[:, 0], known.tokens[:, 1]], len(known.classes)
    types = pd.Series(known.target).groupby(codes).nunique()
    features = partial(harmonised, blocks, codes, _METHOD, least=LEAST)
    if (types > 1).sum() > 1:
        judged_on = "laboratories"
        found = left_out_laboratories(features, known.target, codes, known.units, fit, n_classes, seed=config.seed)
    else:
        judged_on = "patients"
        found = within_laboratories(features(), known.target, codes, known.units, fit, n_classes, seed=config.seed)
    unseen = found.predictions.probability[0]
    return judge_answers(unseen, known.target, known.classes, known.units, config.accuracy, seed=config.seed), judged_on
