"""Explanations add up, from patches to the logit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from cytosae.cohort import (
    Classifier,
    cell_scores,
    classification_task,
    read_classifiers,
    trained,
    unusual,
    write_classifiers,
)
from cytosae.cohort.linear import penalty
from cytosae.errors import CytosaeError
from support.cohorts import cohort


def test_scores_of_cells_average_to_t() -> None:
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2, (30, 20)))
    group = rng.gamma(2, 1, (8, 20))
    table = unusual(np.asarray(counts.mean(axis=0))[0], np.full(20, 0.3), group, np.full((8, 20), 0.3))
    parts = cell_scores(counts, table, [4, 11])
    np.testing.assert_allclose(parts.mean(axis=0), table["t"][[4, 11]])


def test_contributions_add_up_from_patches_to_the_logit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    task = classification_task(cohort(), "diagnosis")
    rows = np.arange(60) % 4 != 0
    model = trained(task, rows, -3.0)
    write_classifiers(tmp_path / "models.safetensors", [model, model])
    (_, model) = read_classifiers(tmp_path / "models.safetensors", task.classes)
    assert (model.weights[:, ~(task.log_mean(rows) > -3)] == 0).all()
    above = np.where(task.log_mean(rows) > -3, task.barcodes, 0)
    reference = LogisticRegression(C=penalty(3, 45), max_iter=10_000, tol=1e-7).fit(above[rows], task.target[rows])
    np.testing.assert_allclose(
        model.probabilities(task.barcodes[~rows]), reference.predict_proba(above[~rows]), atol=1e-2
    )
    active = rng.random((20, 17, 400)) < 0.2  # cells x tokens x latents
    counts = sp.csr_matrix(active.sum(axis=1))
    barcode = np.asarray(counts.mean(axis=0))[0]
    logits, middle = model.logits(barcode)[0], model.logits(model.centre)[0]
    for name in task.classes:
        c = model.classes.index(name)
        concepts = model.concept_contributions(barcode, name)
        expected = (logits[c] - logits.mean()) - (middle[c] - middle.mean())
        assert concepts.sum() == pytest.approx(expected, abs=1e-3)
        cells = model.cell_contributions(counts, name)
        assert cells.sum() == pytest.approx(expected, abs=1e-3)
        patches = model.patch_contributions(active[3], name)
        own = (patches.sum() - float(model.centre @ model.direction(name))) / 20
        assert own == pytest.approx(cells[3], abs=1e-4)
    with pytest.raises(CytosaeError, match="not readable"):
        read_classifiers(tmp_path / "none.safetensors", task.classes)
    assert isinstance(model, Classifier)
