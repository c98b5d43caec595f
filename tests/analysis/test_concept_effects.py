"""What classifiers say where a concept is removed or amplified: against plain formulas, in the passport and the explorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from fastapi.testclient import TestClient

from cytosae.analysis.concept_effects import LabelClassifier, changed_barcodes, concept_effects, effect_on_cells
from cytosae.analysis.edited_classifier import EditableClassifier
from cytosae.artefacts import write_json
from cytosae.concepts import read_concepts
from support.commands import assert_user_error, cytosae, figures
from support.explorer import get, opened, refusal
from support.studies import SET


def test_the_class_that_rests_on_a_concept_loses_by_its_removal() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 60)
    means = rng.random((180, 6)) * (rng.random((180, 6)) < 0.7)
    means[codes == 1, 2] += 1  # latent 2 is what class b has
    means[:, 4] += 0.5  # as strong, of no class
    classifier = LabelClassifier.fit(sp.csr_matrix(means), codes, ["a", "b", "c"])
    assert classifier is not None
    concepts = np.array([True, True, True, True, True, False])
    said = effect_on_cells(classifier, sp.csr_matrix(means[codes == 1]), np.full(60, -1), 2, concepts)
    assert said is not None
    assert (said["class"], said["cells"], said["control"]) == ("b", 60, 4)
    own = means[codes == 1].astype(np.float32)
    plain = []
    for factor in (0, 1, 3):
        other = own.copy()
        other[:, 2] *= factor
        plain.append(classifier.model.predict_proba(np.sqrt(other) / classifier.deviation)[:, 1].mean())
    assert said["removed"]["value"] == pytest.approx(plain[0] - plain[1])
    assert said["amplified"]["value"] == pytest.approx(plain[2] - plain[1])
    assert said["removed"]["high"] < -0.2
    assert said["removed"]["low"] <= said["removed"]["value"] <= said["removed"]["high"]
    assert abs(said["control_removed"]["value"]) < 0.3 * abs(said["removed"]["value"])
    silent = sp.csr_matrix(np.where(np.arange(6) == 3, 0, means))
    assert effect_on_cells(classifier, silent, np.full(180, -1), 3, concepts) is None
    assert LabelClassifier.fit(sp.csr_matrix(means[:9]), codes[:9], ["a"]) is None


def test_the_passport_has_the_effects(classified_study: Path, tmp_path: Path) -> None:
    data = read_concepts(classified_study / "concepts", SET)
    shown = (data.layers["mean_activation"] > 0).sum(axis=0)
    latent = int(np.where(data.var["is_concept"], np.asarray(shown)[0], 0).argmax())
    said = figures(cytosae("concept", classified_study, latent, "-o", tmp_path / "one", "--json"))
    cells, patients = said["effects"]["cells"][SET], said["effects"]["patients"]
    assert cells["class"] in set(data.obs["label"])
    assert cells["cells"] == min(int(np.asarray(shown)[0, latent]), 300)
    model = EditableClassifier.open(
        classified_study / "cohort" / "barcodes.h5ad", classified_study / "cohort" / "classification"
    )
    one = model.task.data[np.asarray(model.task.data.X)[:, latent] > 0].copy()
    assert patients["patients"] == len(one)
    before, after = (
        model.classifier.probabilities(model.classifier.representation.values(changed))
        for changed in (one, changed_barcodes(one, latent, 0))
    )
    column = model.classifier.classes.index(patients["class"])
    assert patients["removed"]["value"] == pytest.approx(float((after - before)[:, column].mean()), abs=1e-6)
    table = pd.read_csv(tmp_path / "one.csv").set_index(["part", "name"])["value"]
    assert float(table["effects", f"cells.{SET}.removed.value"]) == pytest.approx(cells["removed"]["value"])
    assert table["effects", "patients.class"] == patients["class"]
    cytosae("concept", classified_study, latent, "-o", tmp_path / "one", "--json")  # its own table is replaced
    (tmp_path / "one.csv").write_text("mine\n")
    done = cytosae("concept", classified_study, latent, "-o", tmp_path / "one", check=False)
    assert_user_error(done, "one.csv", "was not written by")


def test_the_output_probe_is_that_of_the_evaluation(drawn_study: Path, tmp_path: Path) -> None:
    (tmp_path / "concepts").symlink_to(drawn_study / "concepts")
    (tmp_path / "quality").mkdir()
    row = {"removed": -0.2, "amplified": 0.1, "control_removed": 0.0, "control_amplified": 0.0}
    changes = [{"label": "blast", "latent": 3, "control": 5, **row, "removed_accuracy": -0.3}]
    write_json(tmp_path / "quality" / "quality.json", {"concept_changes": changes})
    assert concept_effects(tmp_path, 3)["output_probe"] == {"blast": {**row, "control": 5}}
    assert "output_probe" not in concept_effects(tmp_path, 4)
    assert "patients" not in concept_effects(tmp_path, 3)


def test_the_explorer_says_the_same(classified_study: Path) -> None:
    client: TestClient = opened(classified_study)
    data: Any = read_concepts(classified_study / "concepts", SET)
    latent = int(np.flatnonzero(data.var["is_concept"])[0])
    said, plain = get(client, f"effects/{SET}/{latent}"), concept_effects(classified_study, latent)
    assert said["cells"]["name"] == plain["cells"][SET]["class"]
    for key in ("removed", "amplified", "control_removed"):
        assert said["cells"][key]["value"] == pytest.approx(plain["cells"][SET][key]["value"], abs=1e-6)
        assert said["patients"][key]["low"] == pytest.approx(plain["patients"][key]["low"], abs=1e-6)
    assert said["output"] == []
    refusal(client.get(f"/api/effects/{SET}/{10**6}"), 404)
