"""What a refinement changed: dictionaries side by side, on cells that none of them was refined on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from cytosae.cohort import (
    CountSums,
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    read_barcodes,
    rows_of_cells,
    stratified_folds,
)
from cytosae.concepts import cell_activations
from cytosae.concepts.quality.resampling import Estimate
from cytosae.console import progress
from cytosae.sae import SAE
from cytosae.settings import ClassifyConfig
from cytosae.teaching import WHOLE_CELL, ConceptMarks
from cytosae.teaching.judging import mean_over_units
from cytosae.tokens import TokenSource

BEFORE, LONGER, AFTER = "before", "trained further alone", "refined"
"""The dictionaries that are compared: as it was, after the same training without what was asked, and refined."""
_RANDOM = 20_000  # patches of judged cells
_BATCH = 32


@dataclass(frozen=True)
class Evidence:
    """Tokens of the marks of a concept on some cells, and tokens that they are compared with."""

    this: list[Tensor]
    """Of each mark that says *this*: one token, or all patches of a cell that was marked as a whole."""
    others: list[Tensor]
    """The same of what does not show it."""
    units: NDArray[np.int64]
    """Patient or cell of each mark that says *this*."""

    def auroc(self, weights: Tensor) -> dict[str, float]:
        """Of marks against the others by ``w x``, mean over patients or cells with its interval."""
        scores = [np.array([float((one @ weights).max()) for one in side]) for side in (self.this, self.others)]
        ordered = np.sort(scores[1])
        below = np.searchsorted(ordered, scores[0], "left") + np.searchsorted(ordered, scores[0], "right")
        return mean_over_units(below / 2 / max(len(ordered), 1), self.units, 0.5).as_dict()


def read_evidence(
    source: TokenSource, marks: ConceptMarks, cells: NDArray[np.bool_], units: NDArray[np.int64], seed: int
) -> Evidence:
    """Evidence of the marks on some cells; patches and whole cells are not mixed, patches come first.

    Parameters
    ----------
    source
        Tokens as the autoencoder takes them.
    cells
        Whether a cell is one of them, ``(n_cells,)``.
    units
        Patient or cell of each cell.
    """
    whole = marks.patches == WHOLE_CELL
    of_patches = bool((marks.positive & ~whole).any())
    chosen = np.flatnonzero(cells[marks.cells] & (whole != of_patches))
    tokens = _read(source, marks.cells[chosen])
    read = [
        token[1:] if marks.patches[i] == WHOLE_CELL else token[[1 + marks.patches[i]]]
        for token, i in zip(tokens, chosen, strict=True)
    ]
    this = [token for token, i in zip(read, chosen, strict=True) if marks.positive[i]]
    others = [token for token, i in zip(read, chosen, strict=True) if not marks.positive[i]]
    rng = np.random.default_rng([seed, 19])
    unmarked = np.setdiff1d(np.flatnonzero(cells), marks.cells)
    random = _read(source, np.sort(rng.permutation(unmarked)[:256]))
    if of_patches:
        flat = torch.cat([token[1:] for token in random]) if random else torch.zeros(0, source.layout.d_model)
        others += list(flat[torch.from_numpy(rng.permutation(len(flat))[:_RANDOM])][:, None])
    elif not others:
        others = [token[1:] for token in random]
    return Evidence(this, others, units[marks.cells[chosen[marks.positive[chosen]]]])


def _read(source: TokenSource, rows: NDArray[np.int64]) -> list[Tensor]:
    distinct, inverse = np.unique(rows, return_inverse=True)
    batches = source.stream(distinct[i : i + _BATCH] for i in range(0, len(distinct), _BATCH))
    tokens = [token.float() for batch in batches for token in batch]
    return [tokens[i] for i in inverse]


def best_latent(sae: SAE, evidence: Evidence) -> int:
    """The latent whose pre-activation separates marks best, on cells that may teach."""
    this = torch.cat([token.mean(dim=0, keepdim=True) for token in evidence.this])
    others = torch.cat([token.mean(dim=0, keepdim=True) for token in evidence.others])
    difference = sae.pre_activations(this)[:, None] > sae.pre_activations(others)[None, :2000]
    return int(difference.float().mean(dim=(0, 1)).argmax())


def kept_likeness(before: SAE, after: SAE, latents: Sequence[int], x: Tensor) -> dict[str, float]:
    """How alike meaningful latents are after and before: directions, and activations on tokens ``(n_tokens, d_model)``."""
    chosen = list(latents)
    if not chosen:
        return {}
    directions = cosine_similarity(before.W_dec[chosen], after.W_dec[chosen])
    h = [one.encode(x)[:, chosen].double() for one in (before, after)]
    h = [values - values.mean(dim=0) for values in h]
    norms = h[0].norm(dim=0) * h[1].norm(dim=0)
    correlation = ((h[0] * h[1]).sum(dim=0) / norms)[norms > 0]
    return {
        "direction": float(directions.mean()),
        "direction_least": float(directions.min()),
        "activation": float(correlation.mean()) if len(correlation) else float("nan"),
        "activation_least": float(correlation.min()) if len(correlation) else float("nan"),
    }


def patient_figures(
    source: TokenSource, saes: Mapping[str, SAE], barcodes: ad.AnnData, threshold: float, config: ClassifyConfig
) -> dict[str, Any]:
    """Weighted F1 of the diagnoses from barcodes of each dictionary, in the same folds, and gains over the first.

    Parameters
    ----------
    source
        Tokens as the autoencoders take them.
    barcodes
        Of the study, for what is known of the patients.
    threshold
        tau.
    """
    owners = rows_of_cells(source.cells, barcodes)
    sums = {name: CountSums.empty(barcodes.n_obs, sae.n_latents) for name, sae in saes.items()}
    wanted = np.flatnonzero(owners >= 0)
    done = 0
    with progress("barcodes of the dictionaries", len(wanted), "cells") as bar:
        for tokens in source.stream(wanted[i : i + _BATCH] for i in range(0, len(wanted), _BATCH)):
            for name, sae in saes.items():
                counts, _ = cell_activations(sae, tokens.float(), threshold)
                sums[name].add(counts, owners[wanted[done : done + len(tokens)]])
            done += len(tokens)
            bar.to(done)
    figures: dict[str, Any] = {}
    first: Estimate | None = None
    for name in saes:
        layers = sums[name].layers()
        known = barcodes.obs[[column for column in barcodes.obs if column in ("patient", "dataset", "diagnosis")]]
        data = ad.AnnData(sums[name].barcodes(), known.copy(), layers=layers)
        task = classification_task(data, "diagnosis")
        folds = stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)
        products = Products.from_barcodes(task.data, candidates(config))
        f1 = chosen_predictions(task, folds, products, config).predictions.f1(config.bootstrap, config.seed)
        gain = Estimate(0.0, 0.0, 0.0) if first is None else f1.gain_over(first)
        first = first or f1
        figures[name] = {"value": f1.value, "low": f1.low, "high": f1.high}
        figures[name] |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    return figures


def comparison_table(figures: Mapping[str, Any]) -> pd.DataFrame:
    """The figures as a table: measure, dictionary, value with its interval where there is one."""
    rows: list[dict[str, Any]] = []
    for name, of_dictionary in figures["dictionaries"].items():
        for measure in ("explained_variance", "l0", "silent"):
            rows.append({"measure": measure, "dictionary": name, "value": of_dictionary[measure]})
    for concept, areas in figures["concepts"].items():
        rows += [
            {"measure": f"AUROC of {concept}", "dictionary": name, **{k: area[k] for k in ("value", "low", "high")}}
            for name, area in areas.items()
            if name != "latents"
        ]
    for name, patients in (figures["patients"] or {}).items():
        rows.append(
            {"measure": "weighted F1", "dictionary": name, **{k: patients[k] for k in ("value", "low", "high")}}
        )
    return pd.DataFrame(rows, columns=["measure", "dictionary", "value", "low", "high"])


def barcodes_of(path: Any) -> ad.AnnData | None:
    """The study's barcodes with diagnoses; None where there are none to classify."""
    if not path.is_file():
        return None
    data = read_barcodes(path, pooled=True)
    return data if "diagnosis" in data.obs and data.obs["diagnosis"].nunique() > 1 else None


def quick(seed: int) -> ClassifyConfig:
    """How patients are classified for the comparison."""
    return replace(ClassifyConfig(), repeats=3, permutations=0, seed=seed)
