"""Concepts are struck out of a classifier, through the command and in the explorer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.analysis.edited_classifier import EditableClassifier
from cytosae.cohort import read_barcodes
from support.commands import ask, refused
from support.explorer import CLOSE, get, opened, refusal

QUICK = ["--repeats", "1", "--splits", "3", "--step", "1", "--permutations", "9", "--bootstrap", "100"]


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose patients are classified, without two concepts."""
    study = Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("edited") / "study"))
    ask("classify", study / "cohort" / "barcodes.h5ad", "--short", "--without", "3", "--without", "8", *QUICK)
    return study


def test_the_command_strikes_out_and_says_what_few_concepts_predict(study: Path) -> None:
    folder = study / "cohort" / "classification"
    model = EditableClassifier.open(study / "cohort" / "barcodes.h5ad", folder)
    assert model.result["concepts"]["without"] == [3, 8]
    assert not model.classifier.weights[:, :, [3, 8]].any()
    assert model.classifier.weights.any()
    rows = pd.read_csv(folder / "sparsity.csv")
    assert rows["size"].tolist() == [row["size"] for row in model.result["sparsity"]]
    assert rows["weighted_f1"].between(rows["low"], rows["high"]).all()
    assert (folder / "sparsity.png").is_file()
    barcodes = study / "cohort" / "barcodes.h5ad"
    assert "no latent has this number or name" in refused("classify", barcodes, "--without", "Auer rod", *QUICK)
    assert "belongs to classes" in refused(
        "classify", barcodes, "--target", "n_cells", "--kind", "number", "--without", "3"
    )
    ask("classify", barcodes, "-o", study / "cohort" / "plain", *QUICK)
    assert not (study / "cohort" / "plain" / "sparsity.csv").exists()


def test_what_is_said_without_concepts_is_what_the_classifier_without_them_says(study: Path) -> None:
    barcodes = study / "cohort" / "barcodes.h5ad"
    model = EditableClassifier.open(barcodes, study / "cohort" / "classification")
    predictions = pd.read_csv(study / "cohort" / "classification" / "predictions.csv").set_index("patient")
    same = model.without([])
    assert same["before"] == same["after"]
    assert (same["gain"]["value"], same["gain"]["low"]) == (0, 0)
    for patient in same["patients"]:
        assert patient["before"]["predicted"] == predictions.loc[patient["patient"], "predicted"]
    order = [latent for latent, _ in model.strongest(30)]
    assert not {3, 8} & set(order)
    found = model.without(order)
    fewer = model.task.data.copy()
    fewer.X[:, order] = 0
    for layer in ("share", "top"):
        fewer.layers[layer][:, order] = 0
    changed = [one for one in found["patients"] if one["before"] != one["after"]]
    assert changed
    assert found["gain"]["value"] == pytest.approx(
        found["after"]["weighted_f1"]["value"] - found["before"]["weighted_f1"]["value"]
    )
    assert read_barcodes(barcodes).X[:, order].any()  # what is on disk stays
    again = model.without(order)
    assert again == found


def test_the_explorer_answers_it_and_refuses_what_is_none(study: Path) -> None:
    client = opened(study)
    model = EditableClassifier.open(study / "cohort" / "barcodes.h5ad", study / "cohort" / "classification")
    first = [latent for latent, _ in model.strongest(5)]
    found, expected = get(client, "classifier", without=",".join(map(str, first))), model.without(first)
    assert (found["without"], found["missing"]) == (sorted(first), [3, 8])
    assert found["after"]["weighted_f1"] == pytest.approx(expected["after"]["weighted_f1"], **CLOSE)
    assert [one["after"]["predicted"] for one in found["patients"]] == [
        one["after"]["predicted"] for one in expected["patients"]
    ]
    assert [one["latent"] for one in found["concepts"][:5]] == first
    assert len(found["sparsity"]) == 9
    everything = ",".join(map(str, np.arange(model.task.data.n_vars)))
    assert "no concept is left" in refusal(client.get("/api/classifier", params={"without": everything}), 422)
    assert "has latents 0 to" in refusal(client.get("/api/classifier", params={"without": "999999"}), 404)
    assert client.get("/api/classifier", params={"without": "a;b"}).status_code == 422
    shutil.rmtree(study / "cohort" / "classification")
    assert "no classification" in refusal(opened(study).get("/api/classifier"), 404)
