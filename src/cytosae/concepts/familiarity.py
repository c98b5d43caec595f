"""How far do cells lie from those of a study? Tokens and concepts of a cell against those that the study has seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.stats import binom

from cytosae import __version__
from cytosae.artefacts import FileRecord, Manifest, claim, parse_json, remove_outdated, whole_file
from cytosae.concepts.quality.resampling import group_codes, halves
from cytosae.concepts.storage import read_activations, read_datasets
from cytosae.concepts.work_units import BATCH
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.tokens import TokenSource

STAGE, FILE = "familiarity", "familiarity.safetensors"
ALARMS = 0.01
"""Share of the study's own cells that lie beyond the limits: false alarms, half of them by tokens, half by concepts."""
CELLS = 2048
"""Cells of a study that are looked at, at most."""
_GROUP_ALARMS = 0.05
"""Share of the study's own patients of whom more cells lie beyond than `Familiarity.most`."""
_BLOCK = 30
"""Cells that stand for a patient where none is known."""
_LEAST = 40
"""Cells without which there are no limits."""


@dataclass(frozen=True)
class Familiarity:
    """What a study's cells look like, and from where a cell lies far from them.

    Means are of one half of the patients, limits of the other: so they hold for patients that the means do not know.
    """

    mean: NDArray[np.float64]
    """Of CLS and the mean patch of a cell, one after the other, ``(2 d_model,)``."""
    deviation: NDArray[np.float64]
    """``(2 d_model,)``."""
    frequency: NDArray[np.float64]
    """Share of the cells that show each latent, ``(n_latents,)``."""
    limits: tuple[float, float]
    """Distances by tokens and by concepts beyond which `ALARMS` of the cells lie together."""
    most: float
    """Share of a patient's cells beyond the limits that few of the study's own patients exceed."""
    rate: float
    """Share of the study's own patients who do: false alarms."""
    groups: int
    """Of how many patients (or blocks of cells) that is known."""
    cells: int

    def distances(self, summaries: ArrayLike, counts: sp.spmatrix) -> NDArray[np.float64]:
        """How far cells lie, ``(n_cells, 2)``: by tokens, by concepts.

        By tokens: root mean square of the deviations, each in standard deviations. By concepts: the negative log-likelihood
        of which latents a cell shows, if each occurred by itself as often as in the study.

        Parameters
        ----------
        summaries
            CLS and mean patch (`cell_summaries`), ``(n_cells, 2 d_model)``.
        counts
            a_i[s], ``(n_cells, n_latents)``.
        """
        own = (np.asarray(summaries, np.float64) - self.mean) / self.deviation
        shows = sp.csr_matrix(counts)[:, : len(self.frequency)] > 0  # taught latents come after the study's own
        rare = np.log(1 - self.frequency) - np.log(self.frequency)
        return np.stack([np.sqrt((own**2).mean(axis=1)), shows @ rare - np.log(1 - self.frequency).sum()], axis=1)

    def far(self, summaries: ArrayLike, counts: sp.spmatrix) -> NDArray[np.bool_]:
        """Which cells lie beyond the limits, ``(n_cells,)``."""
        return np.asarray((self.distances(summaries, counts) > np.array(self.limits)).any(axis=1))

    def sentence(self, n_far: int, n_cells: int, owner: str, study: str = "the study") -> str | None:
        """What a reader has to know of some cells; None where no more lie far than of the study's own, or than chance has.

        Parameters
        ----------
        owner
            Such as ``the cells of bccd``.
        study
            What the study is called.
        """
        by_chance = binom.ppf(0.95, n_cells, ALARMS) if n_cells else 0
        if n_far <= max(by_chance, self.most * n_cells, 1):
            return None
        return (
            f"{n_far / n_cells:.0%} of {owner} ({n_far:,} of {n_cells:,}) lie farther from those of {study} than "
            f"{1 - ALARMS:.0%} of its own cells; up to {self.most:.0%} is usual (false alarms: {self.rate:.0%} of its own "
            "patients). Its concepts may not hold there"
        )


def cell_summaries(tokens: torch.Tensor) -> NDArray[np.float32]:
    """CLS and mean patch of cells: tokens ``(n_cells, n_tokens, d_model)`` to ``(n_cells, 2 d_model)``.

    Examples
    --------
    >>> cell_summaries(torch.ones(3, 257, 4)).shape  # CLS and mean patch
    (3, 8)
    """
    values = tokens.float().cpu()
    return torch.cat([values[:, 0], values[:, 1:].mean(dim=1)], dim=1).numpy()


def fit_familiarity(
    summaries: ArrayLike, counts: sp.spmatrix, patients: NDArray[np.integer], seed: int = 0
) -> Familiarity | None:
    """Means of one half of the patients and limits of the other; None for fewer than 40 cells.

    Parameters
    ----------
    summaries, counts
        See `Familiarity.distances`.
    patients
        Of each cell, negative where unknown: such a cell is one by itself; ``(n_cells,)``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cells, shows = rng.normal(size=(1000, 6)), sp.csr_matrix(rng.random((1000, 9)) < 0.3)
    >>> known = fit_familiarity(cells, shows, np.arange(1000) // 20)
    >>> bool(known.far(cells, shows).mean() < 0.03), bool(known.far(cells + 2, shows).mean() > 0.8)
    (True, True)
    """
    rows = np.asarray(summaries, np.float64)
    if len(rows) < _LEAST:
        return None
    units = group_codes(len(rows), patients)
    half = halves(len(rows), units, seed)
    if not 10 <= half.sum() <= len(rows) - 10:  # one patient has nearly all cells
        half = halves(len(rows), np.arange(len(rows)), seed)
    shows = sp.csr_matrix(counts) > 0
    n = int(half.sum())
    frequency = (np.asarray(shows[half].sum(axis=0), np.float64).ravel() + 0.5) / (n + 1)
    deviation = rows[half].std(axis=0)
    known = Familiarity(
        rows[half].mean(axis=0),
        np.maximum(deviation, 1e-3 * deviation.max() + 1e-9),
        frequency,
        (0, 0),
        0,
        0,
        0,
        len(rows),
    )
    others = known.distances(rows[~half], shows[~half])
    tokens, concepts = np.quantile(others, 1 - ALARMS / 2, axis=0, method="higher")
    known = replace(known, limits=(float(tokens), float(concepts)))
    beyond = known.far(rows[~half], shows[~half])
    groups = _groups(units[~half], seed)
    shares = np.sort(np.bincount(groups, beyond) / np.bincount(groups))
    rank = min(len(shares) - 1, int(np.ceil((len(shares) + 1) * (1 - _GROUP_ALARMS))) - 1)
    most = float(shares[rank])
    return replace(known, most=most, rate=float((1 + (shares > most).sum()) / (1 + len(shares))), groups=len(shares))


def _groups(units: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Patients with some cells; drawn blocks of cells where patients have one or two."""
    _, codes, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if np.median(sizes[codes]) >= 5:
        return codes
    drawn = np.random.default_rng([seed, 17]).permutation(len(units))
    return np.asarray(drawn // _BLOCK if len(units) >= 2 * _BLOCK else drawn * 2 // len(units), np.int64)


def make_familiarity(
    source: TokenSource, study: Path, n_latents: int, parameters: dict[str, Any], inputs: dict[str, str]
) -> dict[str, Any]:
    """Fit and keep the familiarity of a study with finished concepts, in ``familiarity/``; its figures.

    Parameters
    ----------
    source
        Its tokens as the autoencoder takes them (`cytosae.tokens.centred`).
    n_latents
        Of the autoencoder, without taught ones.
    parameters, inputs
        ``seed`` and other settings, and digests of what it follows from.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    folder, concepts, seed = study / STAGE, study / "concepts", int(parameters["seed"])
    claim(folder, STAGE, [FILE])
    rows = np.sort(np.random.default_rng([seed, 18]).permutation(source.n_cells)[:CELLS])
    familiarity = fit_familiarity(
        np.concatenate([cell_summaries(tokens) for tokens in source.stream(_batches(rows))]),
        _counts(concepts, source, rows)[:, :n_latents],
        _patients(source, rows),
        seed,
    )
    figures: dict[str, Any] = {"cells": len(rows)}
    outputs = {}
    if familiarity is not None:
        _write(folder, familiarity)
        outputs[FILE] = FileRecord.from_file(folder / FILE)
        figures |= {
            "limits": list(familiarity.limits),
            "most": familiarity.most,
            "false_alarms": familiarity.rate,
            "groups": familiarity.groups,
        }
    Manifest(STAGE, parameters, inputs, outputs, figures).save(folder)
    remove_outdated(folder, STAGE, outputs)
    return figures


def far_cells(known: Familiarity, source: TokenSource, concepts: Path) -> dict[str, tuple[int, int]]:
    """Of each data set of some concepts, how many of at most `CELLS` drawn cells lie far, and how many were looked at.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    far = {}
    names = source.cells["dataset"].astype(str).to_numpy()
    for dataset in read_datasets(concepts):
        own = np.flatnonzero(names == dataset)
        rows = np.sort(np.random.default_rng(18).permutation(own)[:CELLS])
        summaries = np.concatenate([cell_summaries(tokens) for tokens in source.stream(_batches(rows))])
        far[dataset] = int(known.far(summaries, _counts(concepts, source, rows)).sum()), len(rows)
    return far


def _batches(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))


def _counts(concepts: Path, source: TokenSource, rows: NDArray[np.int64]) -> sp.csr_matrix:
    """Counts of some cells, in their order among the tokens; a data set's concepts have its cells in the same order."""
    names = source.cells["dataset"].astype(str).to_numpy()
    parts, places = [], []
    for dataset in read_datasets(concepts):
        own = np.flatnonzero(names == dataset)
        chosen = np.flatnonzero(np.isin(rows, own))
        parts.append(read_activations(concepts, dataset, np.searchsorted(own, rows[chosen]))[0])
        places.append(chosen)
    return sp.csr_matrix(sp.vstack(parts))[np.argsort(np.concatenate(places), kind="stable")]


def _patients(source: TokenSource, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    some = source.cells.iloc[rows]
    named = some["patient"].notna().to_numpy()
    keys = (some["dataset"].astype(str) + "\n" + some["patient"].astype(str)).to_numpy()
    codes = np.unique(keys, return_inverse=True)[1]
    return np.where(named, codes, -1).astype(np.int64)


def _write(folder: Path, known: Familiarity) -> None:
    arrays = {"mean": known.mean, "deviation": known.deviation, "frequency": known.frequency}
    about = {"cytosae": __version__, "limits": known.limits, "most": known.most, "rate": known.rate}
    about |= {"groups": known.groups, "cells": known.cells}
    with whole_file(folder / FILE) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary, {"cytosae": json.dumps(about)})


def read_familiarity(study: Path, sae: SAE | None = None) -> Familiarity | None:
    """What a study's cells look like; None where that is not known: an older study, or one of few cells.

    Parameters
    ----------
    sae
        The autoencoder that encodes the cells that are held against it: None too where it has other latents.

    Raises
    ------
    CytosaeError
        The file is damaged.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    path = study / STAGE / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            about = parse_json((file.metadata() or {})["cytosae"])
            arrays = [np.asarray(file.get_tensor(name), np.float64) for name in ("mean", "deviation", "frequency")]
        tokens, concepts = map(float, about["limits"])
        numbers = float(about["most"]), float(about["rate"]), int(about["groups"]), int(about["cells"])
        known = Familiarity(arrays[0], arrays[1], arrays[2], (tokens, concepts), *numbers)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CytosaeError(f"{path}: damaged ({error}). Remove it and run the study again.") from error
    fits = sae is None or (len(known.mean) == 2 * sae.d_model and len(known.frequency) <= sae.n_latents)
    return known if fits else None
