"""Explanations add up, from patches to the logit."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from cytosae.cohort import (
    PAPER,
    Choice,
    Classifier,
    CountSums,
    Products,
    Representation,
    cell_scores,
    classification_task,
    read_classifiers,
    trained,
    unusual,
    write_models,
)
from cytosae.cohort.representation import TRANSFORMS
from cytosae.errors import CytosaeError
from support.cohorts import cohort


def test_scores_of_cells_average_to_t() -> None:
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2, (30, 20)))
    group = rng.gamma(2, 1, (8, 20))
    table = unusual(np.asarray(counts.mean(axis=0))[0], np.full(20, 0.3), group, np.full((8, 20), 0.3))
    parts = cell_scores(counts, table, [4, 11])
    np.testing.assert_allclose(parts.mean(axis=0), table["t"][[4, 11]])


@pytest.mark.parametrize(
    "kind", [Representation(f, t) for f in ("counts", "share", "top", "all", "strongest") for t in TRANSFORMS]
)
def test_contributions_add_up_from_patches_to_the_logit(kind: Representation, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    task = classification_task(cohort(), "diagnosis")
    rows = np.arange(60) % 4 != 0
    products = Products.from_barcodes(task.data, [kind, PAPER])
    model = trained(task, products, rows, Choice(kind, 3.0))
    other = trained(task, products, rows, Choice(PAPER, 3.0))
    write_models(tmp_path / "models.safetensors", [other, model])
    choices = [{"features": one.features, "transform": one.transform} for one in (PAPER, kind)]
    result = {"classes": task.classes, "model": {"choices": choices}}
    (_, model) = read_classifiers(tmp_path / "models.safetensors", result)
    scales = products.scales(kind, rows)
    values = kind.values(task.data)
    scaled = (values.astype(float) * [[scales[block]] for block in kind.blocks]).reshape(60, -1)
    reference = LogisticRegression(C=3.0, max_iter=10_000, tol=1e-7).fit(scaled[rows], task.target[rows])
    np.testing.assert_allclose(model.probabilities(values[~rows]), reference.predict_proba(scaled[~rows]), atol=1e-2)
    active = rng.random((20, 17, 400)) < 0.02  # cells x tokens x latents
    counts = sp.csr_matrix(active.sum(axis=1))
    sums = CountSums.empty(1, 400)
    sums.add(counts, np.zeros(20, np.int64))
    patient = ad.AnnData(sums.barcodes(), layers=sums.layers())
    (own,) = kind.values(patient)
    (logits,), (middle,) = model.linear_predictor(own[None]), model.linear_predictor(model.centre[None])
    for name in task.classes:
        c = model.classes.index(name)
        concepts = model.concept_contributions(own, name)
        expected = (logits[c] - logits.mean()) - (middle[c] - middle.mean())
        assert concepts.sum() == pytest.approx(expected, abs=1e-3)
        cells = model.cell_contributions(counts, name)
        assert cells.sum() == pytest.approx(expected, abs=1e-3)
        patches = active[3] @ model.patch_weights(counts, name)[3].toarray()[0]
        mean_patient = (model.centre * model.direction(name)).sum() / 20
        assert patches.sum() - mean_patient == pytest.approx(cells[3], abs=1e-4)
        only = int(np.argmax(np.abs(concepts)))  # of one latent, too
        part = counts[:, [only]].multiply(model.patch_weights(counts, name)[:, [only]]).sum()
        assert part == pytest.approx(concepts[only] + (model.centre * model.direction(name))[:, only].sum(), abs=1e-4)
    with pytest.raises(CytosaeError, match="not readable"):
        read_classifiers(tmp_path / "none.safetensors", result)
    assert isinstance(model, Classifier)
