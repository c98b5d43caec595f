"""New patients, predicted by a study without its images: as cross-validation predicts them, or refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.analysis import classify
from cytosae.artefacts import Manifest
from cytosae.backbones import TINY
from cytosae.cells import read_cells
from cytosae.cohort import read_barcodes, read_classifiers
from cytosae.cohort.conformal import interpolated_p
from cytosae.concepts import read_concepts
from cytosae.settings import ClassifyConfig
from support.commands import ask, ask_with_messages, assert_user_error, cytosae, refused
from support.folders import contents
from support.studies import edit_manifest

QUICK = ClassifyConfig(repeats=2, splits=3, step=1, permutations=19, bootstrap=100)
HELD_OUT = [f"P{number:03}" for number in range(5)]
"""One patient of each group."""
OPTIONS = ("--strongest", "100", "--coverage", "0.5")
ANSWER = {"predictions.csv", "prediction.json", "strongest_cells.csv", "cells.parquet"}


def carried(study: Path, to: Path) -> Path:
    """A study as another hospital gets it: no images, no tokens, no concepts of cells."""
    own = ("backbone.json", "sae", "familiarity", "concepts/manifest.json", "cohort/barcodes.h5ad")
    for part in (*own, "cohort/classification"):
        (to / part).parent.mkdir(parents=True, exist_ok=True)
        if (study / part).is_dir():
            shutil.copytree(study / part, to / part)
        elif (study / part).exists():
            shutil.copy(study / part, to / part)
    return to


def cells_of(study: Path, patients: list[str]) -> pd.DataFrame:
    cells = read_cells(study / "cells.parquet")
    return cells.loc[cells["patient"].isin(patients), ["cell_id", "path", "patient", "dataset"]]


def subset(data: ad.AnnData, path: Path, patients: list[str]) -> Path:
    """Barcodes of some patients."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data[data.obs["patient"].isin(patients).to_numpy()].copy().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def frozen(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 15 of the 20 patients, carried elsewhere."""
    folder = tmp_path_factory.mktemp("frozen") / "study"
    carried(drawn_study, folder)
    data = read_barcodes(drawn_study / "cohort" / "barcodes.h5ad")
    trained_on = [name for name in data.obs_names if name not in HELD_OUT]
    path = subset(data, folder / "cohort" / "barcodes.h5ad", trained_on)
    classify(path, folder / "cohort" / "classification", QUICK)
    return folder


@pytest.fixture(scope="module")
def new_cells(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the patients that the study has not seen."""
    path = tmp_path_factory.mktemp("new") / "new.csv"
    cells_of(drawn_study, HELD_OUT).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def answered(frozen: Path, new_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Their prediction, and the folder of it."""
    folder = tmp_path_factory.mktemp("answer") / "out"
    return ask("predict", frozen, new_cells, "-o", folder, *OPTIONS), folder


def test_patients_held_out_are_predicted_as_by_cross_validation(
    drawn_study: Path, answered: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    found, _ = answered
    data = read_barcodes(drawn_study / "cohort" / "barcodes.h5ad")
    data.obs["fold"] = pd.Categorical(["held out" if name in HELD_OUT else "other" for name in data.obs_names])
    data.write_h5ad(tmp_path / "all.h5ad")
    classify(tmp_path / "all.h5ad", tmp_path / "classification", QUICK, folds="fold")
    expected = pd.read_csv(tmp_path / "classification" / "predictions.csv").set_index("patient")
    assert [patient["patient"] for patient in found["patients"]] == HELD_OUT
    for patient in found["patients"]:
        row = expected.loc[patient["patient"]]
        assert patient["predicted"] == row["predicted"]
        for name, probability in patient["probability"].items():
            assert probability == pytest.approx(row[f"p {name}"], abs=1e-5)
        carrying = dict(pair.split(":") for pair in row["concepts"].split())
        for latent, adds in patient["concepts"].items():
            assert adds == pytest.approx(float(carrying[latent]), rel=1e-2)


def test_cells_and_sets_follow_from_the_barcodes_and_the_models(
    drawn_study: Path, frozen: Path, answered: tuple[dict[str, Any], Path]
) -> None:
    found, _ = answered
    whole = read_concepts(drawn_study / "concepts", "synthetic")
    data = read_barcodes(drawn_study / "cohort" / "barcodes.h5ad")[HELD_OUT]
    folder = frozen / "cohort" / "classification"
    result = json.loads((folder / "classification.json").read_text(encoding="utf-8"))
    models = read_classifiers(folder / "models.safetensors", result)
    assert list(models[0].classes) == found["classes"]
    of_folds = [model.probabilities(model.representation.values(data)) for model in models[1:]]
    for place, patient in enumerate(found["patients"]):
        mine = whole[(whole.obs["patient"] == patient["patient"]).to_numpy()]
        assert patient["cells"] == mine.n_obs
        adds = models[0].cell_contributions(mine.X, patient["predicted"])
        expected = {cell: value for cell, value in zip(mine.obs_names, adds, strict=True) if value > 0}
        assert patient["strongest_cells"] == pytest.approx(expected, abs=1e-4)
        assert list(patient["strongest_cells"]) == sorted(expected, key=lambda cell: -expected[cell])
        for c, name in enumerate(found["classes"]):  # three patients suffice for a coverage of 50 %
            rows = [row for row in result["conformal"]["calibration"] if row["class"] == name]
            unseen = np.array([[1 - np.mean([of_folds[m][place, c] for m in row["models"]])] for row in rows])
            p = interpolated_p(np.array([row["score"] for row in rows]), unseen)
            left_out = np.array([row["left_out_p"] for row in result["conformal"]["calibration"]])
            expected_p = interpolated_p(1 - left_out, np.broadcast_to(1 - p, (15, 1)))[0]
            assert patient["p"][name] == pytest.approx(expected_p, abs=1e-5)
            assert (name in patient["set"]) == (patient["p"][name] > 0.5)
    assert 0 < sum(len(patient["set"]) for patient in found["patients"]) < 25
    assert found["conformal"]["by_class"] == found["classes"]
    assert found["conformal"]["training_patients"] == 15


def test_answer_on_disk_and_two_runs_alike(
    frozen: Path, new_cells: Path, answered: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    found, folder = answered
    assert json.loads((folder / "prediction.json").read_text(encoding="utf-8")) == found
    table = pd.read_csv(folder / "predictions.csv")
    assert table["patient"].tolist() == HELD_OUT
    assert table["set"].fillna("").tolist() == [" | ".join(patient["set"]) for patient in found["patients"]]
    strongest = pd.read_csv(folder / "strongest_cells.csv")
    assert set(strongest["cell_id"]) <= set(pd.read_csv(new_cells)["cell_id"])
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert set(manifest.outputs) == ANSWER
    assert manifest.inputs["sae/model.safetensors"] == found["inputs"]["sae/model.safetensors"]
    before = {name: content for name, content in contents(folder).items() if name in ANSWER}
    elsewhere = Path(shutil.copytree(frozen, tmp_path / "another hospital"))
    note = json.loads((elsewhere / "backbone.json").read_text(encoding="utf-8"))
    note["request"]["settings"]["backbone"] = f"{tmp_path / 'gone'}"
    (elsewhere / "backbone.json").write_text(json.dumps(note), encoding="utf-8")
    assert "gone" in refused("predict", elsewhere, new_cells, "-o", tmp_path / "out")
    ask("predict", elsewhere, new_cells, "-o", tmp_path / "out", "--weights", TINY, *OPTIONS)
    again = contents(tmp_path / "out")
    assert {name: again[name] for name in ANSWER} == before


def test_doubts_are_named(drawn_study: Path, frozen: Path, tmp_path: Path) -> None:
    cells = cells_of(drawn_study, ["P000", "P007"])
    single = cells[cells["patient"] == "P000"].head(1)
    known = cells[cells["patient"] == "P007"]
    rng = np.random.default_rng(0)
    noise = []
    for number in range(9):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        noise.append({"cell_id": f"n{number}", "path": str(tmp_path / f"{number}.png"), "patient": "noise"})
    (tmp_path / "broken.png").write_bytes(b"no image")
    further = [
        {"cell_id": "broken", "path": str(tmp_path / "broken.png"), "patient": "noise"},
        {"cell_id": "of nobody", "path": str(tmp_path / "0.png")},
    ]
    table = pd.concat([single, known, pd.DataFrame(noise + further).assign(dataset="synthetic")])
    table["diagnosis"] = table["patient"].map({"noise": "something else"})
    table.to_csv(tmp_path / "new.csv", index=False)
    found, said = ask_with_messages("predict", frozen, tmp_path / "new.csv", "-o", tmp_path / "out")
    doubts = {patient["patient"]: " ".join(patient["warnings"]) for patient in found["patients"]}
    assert "a single cell; the training patients have 4 or more" in doubts["P000"]
    assert "the study has a patient of this name" in doubts["P007"]
    assert "farther from the training patients than 100% of them" in doubts["noise"]
    assert "100% of the patient's cells (9 of 9) lie farther from those of the study" in doubts["noise"]
    assert "lie farther from those of the study" not in doubts["P007"]
    assert {patient["patient"]: patient["far_cells"] for patient in found["patients"]}["noise"] == 9
    assert "states something else, a class that the classifier does not know" in doubts["noise"]
    assert "single cell" not in doubts["P007"]
    assert all(f"{name}: {text}"[:60] in said for name, text in doubts.items())
    assert {name: found["cells"][name] for name in ("predicted", "left_out", "rejected")} == {
        "predicted": 10 + len(known),
        "left_out": 1,
        "rejected": 1,
    }
    assert "broken" in (tmp_path / "out" / "cells.rejected.csv").read_text(encoding="utf-8-sig")
    (own,) = [patient for patient in found["patients"] if patient["patient"] == "P007"]
    assert own["distance"] == pytest.approx(0, abs=1e-2)
    assert own["farther_than"] == 0


def remove_classification(study: Path) -> None:
    shutil.rmtree(study / "cohort" / "classification")


def change_bytes(name: str) -> Callable[[Path], None]:
    def change(study: Path) -> None:
        content = bytearray((study / name).read_bytes())
        content[-1] ^= 1
        (study / name).write_bytes(content)

    return change


def other_manifest(name: str, **change: Any) -> Callable[[Path], None]:
    return lambda study: edit_manifest(study / name / "manifest.json", lambda raw: raw.update(change))


def concepts_of_other_cells(study: Path) -> None:
    edit_manifest(study / "concepts" / "manifest.json", lambda raw: raw["inputs"].update(cells="0" * 64))


def concepts_of_another_autoencoder(study: Path) -> None:
    edit_manifest(study / "concepts" / "manifest.json", lambda raw: raw["inputs"].update(sae="0" * 64))


def another_backbone(study: Path) -> None:
    note = json.loads((study / "backbone.json").read_text(encoding="utf-8"))
    note["info"]["fingerprint"] = "0" * 64
    (study / "backbone.json").write_text(json.dumps(note), encoding="utf-8")


def other_barcodes(study: Path) -> None:
    path = study / "cohort" / "barcodes.h5ad"
    data = read_barcodes(path)
    data.obs["age"] = 40
    data.write_h5ad(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_classification, r"no classification there. Run `cytosae classify .*barcodes.h5ad` first"),
        (other_manifest("cohort/classification", version=2), "made by version 2 of this stage"),
        (other_manifest("cohort/classification", stage="comparison"), "holds no classification but comparison"),
        (change_bytes("cohort/classification/models.safetensors"), "models.safetensors: is missing or was changed"),
        (change_bytes("cohort/classification/classification.json"), "classification.json: is missing or was changed"),
        (change_bytes("sae/model.safetensors"), "model.safetensors: is missing or was changed"),
        (lambda study: (study / "sae" / "config.json").unlink(), "config.json: is missing or was changed"),
        (other_barcodes, "a classification of other barcodes"),
        (concepts_of_other_cells, "not of the concepts in .*: they are of other cells or tokens"),
        (concepts_of_another_autoencoder, "made with another autoencoder"),
        (another_backbone, "its weights are not those with which"),
        (lambda study: (study / "backbone.json").unlink(), "Is .* a study"),
        (lambda study: (study / "cohort" / "barcodes.h5ad").unlink(), "a classification of other barcodes"),
    ],
)
def test_a_study_whose_files_do_not_belong_together_is_refused(
    frozen: Path, new_cells: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    study = Path(shutil.copytree(frozen, tmp_path / "study"))
    change(study)
    assert re.search(message, refused("predict", study, new_cells, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_cells_that_cannot_be_predicted_are_refused(
    drawn_study: Path, frozen: Path, new_cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    table = pd.read_csv(new_cells)
    table.drop(columns="patient").to_csv(tmp_path / "nobody.csv", index=False)
    done = cytosae("predict", frozen, tmp_path / "nobody.csv", "-o", out, check=False)
    assert_user_error(done, "none of its 35 cells has a patient", "--column patient=YOURS")
    assert not out.exists()
    assert "must be at most 0.99" in refused("predict", frozen, new_cells, "-o", out, "--coverage", "1")
    out.mkdir()
    (out / "predictions.csv").write_text("mine", encoding="utf-8")
    assert "not written by `cytosae predict`" in refused("predict", frozen, new_cells, "-o", out)
    assert contents(out) == {"predictions.csv": b"mine"}
    into_a_study = refused("predict", frozen, new_cells, "-o", drawn_study)
    assert "cells.parquet: exists already and was not written by `cytosae predict`" in into_a_study


def test_a_classification_of_one_cell_type_counts_its_cells_alone(
    drawn_study: Path, frozen: Path, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(frozen, tmp_path / "study"))
    path = study / "cohort" / "barcodes.h5ad"
    path.unlink()
    ask("barcodes", drawn_study / "concepts", "-o", path, "--by-cell-type", "--no-duplicates")
    pooled = read_concepts(drawn_study / "concepts", "synthetic", matrices=False).obs
    kind = pooled["label"].value_counts().index[0]
    result = classify(path, study / "cohort" / "classification", QUICK, cell_type=kind)
    data = read_barcodes(path, kind)[:3]
    cells = read_cells(drawn_study / "cells.parquet")
    cells[cells["patient"].isin(data.obs["patient"])].to_csv(tmp_path / "new.csv", index=False)
    found = ask("predict", study, tmp_path / "new.csv", "-o", tmp_path / "out")
    assert [patient["cells"] for patient in found["patients"]] == data.obs["n_cells"].tolist()
    models = read_classifiers(study / "cohort" / "classification" / "models.safetensors", result)
    expected = models[0].probabilities(models[0].representation.values(data))
    for patient, row in zip(found["patients"], expected, strict=True):
        assert list(patient["probability"].values()) == pytest.approx(row.tolist(), abs=1e-5)
    cells.drop(columns="label").to_csv(tmp_path / "unlabelled.csv", index=False)
    message = refused("predict", study, tmp_path / "unlabelled.csv", "-o", tmp_path / "other")
    assert f"no cell of a patient has the label '{kind}'" in message
