"""Measures against what experts say of cells: labels and attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.concepts import quality as q
from cytosae.concepts.evaluation.sampling import LATENTS, Sample
from cytosae.concepts.evaluation.table import Table, aligned
from cytosae.concepts.quality import Estimate
from cytosae.concepts.statistics import label_entropy
from cytosae.concepts.storage import read_concepts, read_datasets
from cytosae.sae import SAE
from cytosae.settings import EvaluateConfig

_KS = (1, 5, 20, q.ALL)
_SHUFFLED = "shuffled labels"
_LEAST = 10  # cells of a value on either side


def entropy(table: Table, sample: Sample, folder: Path, config: EvaluateConfig) -> None:
    """Label entropy of the reference images, and when the labels are shuffled among the cells."""
    rng = np.random.default_rng(config.seed)
    for name in read_datasets(folder):
        data = read_concepts(folder, name, matrices=False)
        if "label" in data.obs:
            codes = data.obs["label"].cat.codes.to_numpy().astype(np.int64)
            cells, values = (
                data.varm["reference_cells"][sample.concepts],
                data.varm["reference_values"][sample.concepts],
            )
            measure = f"label entropy, {name} (nats)"
            for contender, labels in ((LATENTS, codes), (_SHUFFLED, rng.permutation(codes))):
                entropy = label_entropy(values, np.where(cells >= 0, labels[cells], -1))
                table.add(
                    measure,
                    contender,
                    Estimate.mean(entropy, config.draws, config.seed),
                    int(np.isfinite(entropy).sum()),
                )


def monosemanticity(table: Table, about: pd.DataFrame, sample: Sample, config: EvaluateConfig) -> None:
    d = sample.mean_tokens.shape[1]
    embeddings = sample.mean_tokens if sample.outputs is None else sample.outputs[:, :d]
    measure = "monosemanticity"
    rng = np.random.default_rng(config.seed)
    shuffled = sample.means[rng.permutation(len(sample.cells))]
    for contender, values in {LATENTS: sample.means, **sample.projected, "shuffled cells": shuffled}.items():
        found = q.monosemanticity(sp.csc_matrix(values), embeddings)
        table.add(measure, contender, Estimate.mean(found, config.draws, config.seed), int(np.isfinite(found).sum()))
        if contender == LATENTS:
            about["monosemanticity"] = found


def _truths(sample: Sample, column: pd.Series) -> tuple[list[str], NDArray[np.bool_]]:
    """A yes or no for every value of a column, ``(n_cells, n_values)``."""
    values = sorted(column.dropna().unique())
    member = [(column == value).fillna(False).to_numpy(bool) for value in values]
    return values, np.stack(member, axis=1) if values else np.zeros((len(column), 0), bool)


def label_measures(
    table: Table, about: pd.DataFrame, result: dict[str, Any], sae: SAE, sample: Sample, config: EvaluateConfig
) -> None:
    """k-sparse probes, the best latent for each label, feature absorption."""
    known = sample.labels >= 0
    if len(sample.label_names) < 2:
        table.skip("probes of cell labels", "fewer than two labels are known")
        return
    shuffled = sample.labels.copy()
    shuffled[known] = np.random.default_rng(config.seed).permutation(sample.labels[known])
    contenders = sample.scores()
    for name, features in {**contenders, _SHUFFLED: contenders[LATENTS]}.items():
        labels = shuffled if name == _SHUFFLED else sample.labels
        found = q.sparse_probes(features, labels, sample.choosing, _KS, sample.codes, config.draws, config.seed)
        for k, estimate in found.items():
            measure = f"k-sparse probe, k = {k or 'all'} (AUROC)"
            table.add(measure, name, estimate, int((known & ~sample.choosing).sum()))
    names, truth = _truths(sample, sample.cells["label"])
    best_of = q.align(sample.means, truth, sample.choosing & known, sample.codes, config.draws, config.seed)
    result["labels"] = aligned(names, best_of, sample.concepts)
    judged = q.auroc(sample.means[known & ~sample.choosing], truth[known & ~sample.choosing])
    fitted = q.auroc(sample.means[known & sample.choosing], truth[known & sample.choosing])
    best = np.nan_to_num(fitted, nan=-1).argmax(axis=1)
    about["best_label"] = [names[b] for b in best]
    about["best_label_auroc"] = judged[np.arange(len(best)), best]
    result["absorption"], rates = [], []
    dense, directions = contenders[LATENTS], sae.W_dec.detach().numpy()[sample.concepts]
    for column, name in enumerate(names):
        absorbed = q.absorption(
            dense[known], sample.mean_tokens[known], directions, truth[known, column], sample.choosing[known]
        )
        if absorbed is not None:
            rates.append(absorbed.rate)
            result["absorption"].append(
                {
                    "label": name,
                    "latents": sample.concepts[absorbed.own].tolist(),
                    "recognised": absorbed.cells,
                    "missed": absorbed.missed,
                    "absorbed": absorbed.absorbed,
                }
            )
    if rates:
        table.add("feature absorption (share of cells)", LATENTS, Estimate.mean(rates, config.draws), len(rates))


def attribute_alignment(
    table: Table, result: dict[str, Any], sample: Sample, attributes: pd.DataFrame, config: EvaluateConfig
) -> None:
    """For every value of every attribute the best latent, chosen on one half of the cells and judged on the other."""
    rows = np.flatnonzero(attributes.notna().any(axis=1).to_numpy())
    names: list[str] = []
    truths = []
    for name in attributes.columns:
        values, member = _truths(sample, attributes[name])
        for value, column in zip(values, member.T, strict=True):
            if min(column[rows][sample.choosing[rows]].sum(), column[rows][~sample.choosing[rows]].sum()) >= _LEAST:
                names.append(f"{name}: {value}")
                truths.append(column[rows])
    if not truths:
        table.skip("attribute alignment", f"no attribute has {_LEAST} cells of a value on both sides")
        return
    truth = np.stack(truths, axis=1)
    shuffled = truth[np.random.default_rng(config.seed).permutation(len(rows))]
    contenders = sample.scores(both_signs=True)
    for contender, scores in {**contenders, _SHUFFLED: contenders[LATENTS]}.items():
        against = shuffled if contender == _SHUFFLED else truth
        found = q.align(scores[rows], against, sample.choosing[rows], sample.codes[rows], config.draws, config.seed)
        table.add("attribute alignment (AUROC)", contender, found.mean(), len(rows))
        if contender == LATENTS:
            result["attributes"] = aligned(names, found, sample.concepts)


def consistency(table: Table, about: pd.DataFrame, sample: Sample) -> None:
    """Do concepts prefer the same labels in every data set?"""
    known = sample.cells["label"].notna().to_numpy()
    counts = pd.crosstab(sample.cells["label"][known], sample.cells["dataset"][known])
    shared = sorted(counts.index[(counts >= 5).sum(axis=1) >= 2])
    datasets = [name for name in counts.columns if (counts.loc[shared, name] >= 5).all()] if shared else []
    if len(datasets) < 2 or len(shared) < 3:
        table.skip("consistency across data sets", "needs two data sets that share three labels, five cells of each")
        return
    profiles = {}
    for name in datasets:
        mine = known & (sample.cells["dataset"] == name).to_numpy()
        profiles[name] = q.label_profiles(sample.means[mine], sample.cells["label"][mine].to_numpy(object), shared)
    measure = "consistency across data sets (r)"
    found = q.consistency(profiles)
    about["consistency"] = found
    table.add(measure, LATENTS, Estimate.mean(found), int(np.isfinite(found).sum()))
    table.add(
        measure, "shuffled latents", Estimate.mean(q.consistency(profiles, shift=1)), int(np.isfinite(found).sum())
    )
