"""Measures against what experts say of cells: labels and attributes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cells import UnreadableImage
from cytosae.concepts import quality as q
from cytosae.concepts.evaluation.judging import embedded
from cytosae.concepts.evaluation.registry import Evaluation, Measure, measuring
from cytosae.concepts.evaluation.sampling import BASELINES, LATENT_METHOD, TOKENS
from cytosae.concepts.evaluation.table import aligned
from cytosae.concepts.statistics import label_entropy
from cytosae.concepts.storage import read_concepts, read_datasets

_KS = (1, 5, 20, q.ALL)
_SHUFFLED = "shuffled labels"
_LEAST = 10  # cells of a value on either side


@measuring(
    Measure(
        "label entropy",
        "how mixed the labels of the reference images are",
        "lower",
        null=_SHUFFLED,
        source="Dasdelen et al. 2025",
    )
)
def entropy(run: Evaluation) -> None:
    """Label entropy of the reference images, and when the labels are shuffled among the cells."""
    rng, concepts = np.random.default_rng(run.config.seed), run.sample.concepts
    for name in read_datasets(run.folder):
        data = read_concepts(run.folder, name, matrices=False)
        if "label" not in data.obs:
            continue
        codes = data.obs["label"].cat.codes.to_numpy().astype(np.int64)
        cells, values = (data.varm[f"reference_{key}"][concepts] for key in ("cells", "values"))
        for method, labels in ((LATENT_METHOD, codes), (_SHUFFLED, rng.permutation(codes))):
            mixed = label_entropy(values, np.where(cells >= 0, labels[cells], -1))
            run.mean(f"label entropy, {name} (nats)", method, mixed)


@measuring(
    Measure(
        "monosemanticity",
        "similarity of the images that activate a latent, weighted by how strongly; of centred embeddings, so that random "
        "images score about 0. The row names whose embeddings they are (`--judge-backbone`)",
        "higher",
        BASELINES,
        "shuffled cells",
        "Pach et al. 2025",
    )
)
def monosemanticity(run: Evaluation) -> None:
    """Are the images of a latent alike?"""
    sample = run.sample
    d = sample.mean_tokens.shape[1]
    own = sample.mean_tokens if sample.outputs is None else sample.outputs[:, :d]
    try:
        embeddings = own if run.judge is None else embedded(run.judge, sample.cells)
    except UnreadableImage as error:
        run.table.skip("monosemanticity", f"an image of the study cannot be read ({error})")
        return
    by = "by the backbone that is explained" if run.judge is None else f"by {run.judge.info.name}"
    shuffled = sample.means[np.random.default_rng(run.config.seed).permutation(len(sample.cells))]
    for method, values in {LATENT_METHOD: sample.means, **sample.projected, "shuffled cells": shuffled}.items():
        scores = q.monosemanticity(sp.csc_matrix(values), embeddings)
        run.mean(f"monosemanticity, {by}", method, scores)
        if method == LATENT_METHOD:
            run.per_concept["monosemanticity"] = scores


def _truths(column: pd.Series) -> tuple[list[str], NDArray[np.bool_]]:
    """A yes or no for every value of a column, ``(n_cells, n_values)``."""
    values = sorted(column.dropna().unique())
    member = [(column == value).fillna(False).to_numpy(bool) for value in values]
    return values, np.stack(member, axis=1) if values else np.zeros((len(column), 0), bool)


@measuring(
    Measure(
        "k-sparse probe",
        "how well k latents predict a cell label against the rest, k = 1, 5, 20, all",
        "higher",
        (TOKENS, *BASELINES),
        _SHUFFLED,
        "Gurnee et al. 2023; Gao et al. 2024",
    ),
    Measure(
        "feature absorption",
        "cells of a label whose own latents are silent while a more special one carries the label's direction",
        "lower",
        source="Chanin et al. 2024",
    ),
)
def label_measures(run: Evaluation) -> None:
    """k-sparse probes, the best latent for each label, feature absorption."""
    sample, config = run.sample, run.config
    known, fitted, test = sample.labels >= 0, sample.choosing & (sample.labels >= 0), sample.held_out
    if len(sample.label_names) < 2:
        run.table.skip("probes of cell labels", "fewer than two labels are known")
        return
    shuffled = sample.labels.copy()
    shuffled[known] = np.random.default_rng(config.seed).permutation(sample.labels[known])
    methods = sample.scores()
    for name, features in {**methods, _SHUFFLED: methods[LATENT_METHOD]}.items():
        labels = shuffled if name == _SHUFFLED else sample.labels
        probes = q.sparse_probes(features, labels, sample.choosing, _KS, sample.codes, config.draws, config.seed)
        for k, estimate in probes.items():
            run.table.add(f"k-sparse probe, k = {k or 'all'} (AUROC)", name, estimate, int(test.sum()))
    names, truth = _truths(sample.cells["label"])
    best_latents = q.align(sample.means, truth, fitted, sample.codes, config.draws, config.seed)
    run.details["labels"] = aligned(names, best_latents, sample.concepts)
    best = np.nan_to_num(q.auroc(sample.means[fitted], truth[fitted]), nan=-1).argmax(axis=1)
    run.per_concept["best_label"] = [names[b] for b in best]
    areas = q.auroc(sample.means[test], truth[test])
    run.per_concept["best_label_auroc"] = areas[np.arange(len(best)), best]
    rows, rates = [], []
    activations, directions = methods[LATENT_METHOD], run.sae.W_dec.detach().numpy()[sample.concepts]
    for column, name in enumerate(names):
        absorbed = q.absorption(
            activations[known], sample.mean_tokens[known], directions, truth[known, column], sample.choosing[known]
        )
        if absorbed is not None:
            rates.append(absorbed.rate)
            rows.append(
                {
                    "label": name,
                    "latents": sample.concepts[absorbed.own].tolist(),
                    "recognised": absorbed.cells,
                    "missed": absorbed.missed,
                    "absorbed": absorbed.absorbed,
                }
            )
    run.details["absorption"] = rows
    if rates:
        run.mean("feature absorption (share of cells)", LATENT_METHOD, rates)


@measuring(
    Measure(
        "attribute alignment",
        "AUROC of the best latent for each value of each expert attribute",
        "higher",
        (TOKENS, *BASELINES),
        _SHUFFLED,
        "after Tsutsui et al. 2023",
    )
)
def attribute_alignment(run: Evaluation) -> None:
    """For every value of every attribute the best latent, chosen on one half of the cells and tested on the other."""
    sample, config, attributes = run.sample, run.config, run.attributes
    if attributes is None:
        run.table.skip("attribute alignment", "no table of expert attributes (--attributes)")
        return
    rows = np.flatnonzero(attributes.notna().any(axis=1).to_numpy())
    names: list[str] = []
    truths = []
    for name in attributes.columns:
        values, member = _truths(attributes[name])
        for value, column in zip(values, member.T, strict=True):
            if min(column[rows][sample.choosing[rows]].sum(), column[rows][~sample.choosing[rows]].sum()) >= _LEAST:
                names.append(f"{name}: {value}")
                truths.append(column[rows])
    if not truths:
        run.table.skip("attribute alignment", f"no attribute has {_LEAST} cells of a value on both sides")
        return
    truth = np.stack(truths, axis=1)
    shuffled = truth[np.random.default_rng(config.seed).permutation(len(rows))]
    methods = sample.scores(both_signs=True)
    for method, scores in {**methods, _SHUFFLED: methods[LATENT_METHOD]}.items():
        against = shuffled if method == _SHUFFLED else truth
        best = q.align(scores[rows], against, sample.choosing[rows], sample.codes[rows], config.draws, config.seed)
        run.table.add("attribute alignment (AUROC)", method, best.mean(), len(rows))
        if method == LATENT_METHOD:
            run.details["attributes"] = aligned(names, best, sample.concepts)


@measuring(
    Measure(
        "consistency across data sets",
        "does a concept prefer the same labels in each data set that shares them",
        "higher",
        null="shuffled latents",
    )
)
def consistency(run: Evaluation) -> None:
    """Do concepts prefer the same labels in every data set?"""
    cells = run.sample.cells
    known = cells["label"].notna().to_numpy()
    counts = pd.crosstab(cells["label"][known], cells["dataset"][known])
    shared = sorted(counts.index[(counts >= 5).sum(axis=1) >= 2])
    datasets = [name for name in counts.columns if (counts.loc[shared, name] >= 5).all()] if shared else []
    if len(datasets) < 2 or len(shared) < 3:
        reason = "needs two data sets that share three labels, five cells of each"
        run.table.skip("consistency across data sets", reason)
        return
    profiles = {}
    for name in datasets:
        rows = known & (cells["dataset"] == name).to_numpy()
        profiles[name] = q.label_profiles(run.sample.means[rows], cells["label"][rows].to_numpy(object), shared)
    run.per_concept["consistency"] = correlation = q.consistency(profiles)
    run.mean("consistency across data sets (r)", LATENT_METHOD, correlation)
    run.mean("consistency across data sets (r)", "shuffled latents", q.consistency(profiles, shift=1))
