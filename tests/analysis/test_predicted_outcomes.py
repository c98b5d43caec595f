"""Numbers and times of new patients, by a study without its images: as cross-validation predicts them, or refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytosae.analysis import predict_outcome
from cytosae.artefacts import Manifest
from cytosae.cells import read_cells
from cytosae.cohort import read_barcodes, read_regressions
from cytosae.concepts import read_concepts
from cytosae.settings import ClassifyConfig
from support.commands import ask, refused
from support.folders import contents

QUICK = ClassifyConfig(repeats=2, splits=3, inner=2, permutations=19, bootstrap=100)
HELD_OUT = [f"P{number:03}" for number in range(5)]
TARGETS = {"blasts": None, "months": "died"}
ANSWER = {"predictions.csv", "prediction.json", "strongest_cells.csv", "cells.parquet"}


@pytest.fixture(scope="module")
def whole(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Barcodes of all patients with a number that their cells show and a time that follows it, and the fold held out."""
    data = read_barcodes(drawn_study / "cohort" / "barcodes.h5ad")
    rng = np.random.default_rng(0)
    values = np.log1p(data.X)
    first = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)[0][:, 0] * np.sqrt(20)
    data.obs["blasts"] = 40 + 10 * first
    data.obs["months"] = np.exp(1.5 * first) * rng.uniform(0.5, 1.5, 20) + 0.1
    data.obs["died"] = np.arange(20) % 10 > 0
    data.obs["fold"] = pd.Categorical(["held out" if name in HELD_OUT else "other" for name in data.obs_names])
    path = tmp_path_factory.mktemp("whole") / "barcodes.h5ad"
    data.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def frozen(drawn_study: Path, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What another hospital gets of a study of 15 of the 20 patients: no images, no tokens, no concepts of cells."""
    folder = tmp_path_factory.mktemp("frozen") / "study"
    shutil.copytree(drawn_study / "sae", folder / "sae")
    for part in ("backbone.json", "concepts/manifest.json"):
        (folder / part).parent.mkdir(exist_ok=True)
        shutil.copy(drawn_study / part, folder / part)
    data = read_barcodes(whole)
    path = folder / "cohort" / "barcodes.h5ad"
    path.parent.mkdir()
    data[[name not in HELD_OUT for name in data.obs_names]].copy().write_h5ad(path)
    for target, event in TARGETS.items():
        predict_outcome(path, folder / "cohort" / f"outcome-{target}", QUICK, target=target, event=event)
    return folder


@pytest.fixture(scope="module")
def new_cells(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the patients that the study has not seen."""
    path = tmp_path_factory.mktemp("new") / "new.csv"
    cells = read_cells(drawn_study / "cells.parquet")
    own = cells.loc[cells["patient"].isin(HELD_OUT), ["cell_id", "path", "patient", "dataset"]]
    own.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def answered(frozen: Path, new_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of their predictions."""
    folder = tmp_path_factory.mktemp("answer")
    for target in TARGETS:
        options = ("-o", folder / target, "--strongest", "100", "--coverage", "0.8")
        ask("predict", frozen, new_cells, "--target", target, *options)
    return {target: folder / target for target in TARGETS}


def answer(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_patients_held_out_are_predicted_as_by_cross_validation(
    whole: Path, drawn_study: Path, answered: dict[str, Path], tmp_path: Path, target: str
) -> None:
    predict_outcome(whole, tmp_path / "out", QUICK, target=target, event=TARGETS[target], folds="fold")
    expected = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("patient")
    column = "predicted" if TARGETS[target] is None else "log relative hazard"
    found = answer(answered[target])
    assert [patient["patient"] for patient in found["patients"]] == HELD_OUT
    said = [patient["predicted"] for patient in found["patients"]]
    assert said == pytest.approx(expected.loc[HELD_OUT, column].tolist(), abs=1e-5, rel=1e-3)
    assert np.ptp(said) > 0.01


@pytest.mark.parametrize("target", TARGETS)
def test_intervals_risks_and_cells_follow_from_the_models(
    drawn_study: Path, frozen: Path, whole: Path, answered: dict[str, Path], target: str
) -> None:
    found, folder = answer(answered[target]), frozen / "cohort" / f"outcome-{target}"
    result = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    model, *of_folds = read_regressions(folder / "models.safetensors", result)
    data, cells = read_barcodes(whole)[HELD_OUT], read_concepts(drawn_study / "concepts", "synthetic")
    said = [each.linear_predictor(each.representation.values(data))[:, 0] for each in of_folds]
    assert len(of_folds) == {"blasts": 6, "months": 4}[target]  # two patients without event: two folds, drawn twice
    rows = result["calibration"]
    assert len(rows) == found["training_patients"] == 15
    for place, patient in enumerate(found["patients"]):
        mine = cells[(cells.obs["patient"] == patient["patient"]).to_numpy()]
        adds = model.cell_contributions(mine.X, target)
        above = patient["predicted"] - float(model.linear_predictor(model.centre[None])[0, 0])
        assert adds.sum() == pytest.approx(above, abs=1e-2)
        carrying = {name: value for name, value in zip(mine.obs_names, adds, strict=True) if value * above > 0}
        assert patient["strongest_cells"] == pytest.approx(carrying, abs=1e-3)
        assert all(value * above > 0 for value in patient["concepts"].values())
        unseen = [np.mean([said[m][place] for m in row["models"]]) for row in rows]
        if target == "blasts":
            error = [abs(row["value"] - row["left_out"]) for row in rows]
            lows, highs = np.sort(np.subtract(unseen, error)), np.sort(np.add(unseen, error))
            at = 0.2 * 16 - 1  # place of alpha (n + 1) among the ordered values, counted from 0
            between = at - int(at)
            low = lows[int(at)] * (1 - between) + lows[int(at) + 1] * between
            high = highs[14 - int(at)] * (1 - between) + highs[13 - int(at)] * between
            assert (patient["low"], patient["high"]) == pytest.approx((low, high), abs=1e-2)
        else:
            smaller = np.mean([own > row["left_out"] for own, row in zip(unseen, rows, strict=True)])
            assert patient["riskier_than"] == pytest.approx(smaller)
            assert patient["third"] == ("low", "middle", "high")[min(int(3 * smaller), 2)]
    if target == "months":
        assert [third["patients"] for third in found["risk"]["thirds"]] == [5, 5, 5]
        assert found["risk"]["thirds"][2]["median"] < found["risk"]["thirds"][0]["median"]


def test_answer_on_disk_and_two_runs_alike(
    frozen: Path, new_cells: Path, answered: dict[str, Path], tmp_path: Path
) -> None:
    elsewhere = Path(shutil.copytree(frozen, tmp_path / "another hospital"))
    columns = {"blasts": ["predicted", "low", "high"], "months": ["log relative hazard", "riskier_than", "third"]}
    for target, folder in answered.items():
        table = pd.read_csv(folder / "predictions.csv")
        assert list(table) == ["patient", "cells", *columns[target], "concepts", "farther_than", "warnings"]
        manifest = Manifest.load(folder)
        assert manifest is not None
        assert set(manifest.outputs) == ANSWER
        out = tmp_path / target
        ask("predict", elsewhere, new_cells, "--target", target, "-o", out, "--strongest", "100", "--coverage", "0.8")
        again, before = contents(out), contents(folder)
        assert {name: again[name] for name in ANSWER} == {name: before[name] for name in ANSWER}


def test_doubts_are_named(frozen: Path, new_cells: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(frozen, tmp_path / "study"))
    folder = study / "cohort" / "outcome-blasts"
    path = study / "cohort" / "barcodes.h5ad"
    data = read_barcodes(path)
    data.obs["blasts"] = np.random.default_rng(3).permutation(data.obs["blasts"])  # nothing to learn
    data.write_h5ad(path)
    predict_outcome(path, folder, QUICK, target="blasts")
    pd.read_csv(new_cells).groupby("patient").head(1).to_csv(tmp_path / "single.csv", index=False)
    found = ask(
        "predict", study, tmp_path / "single.csv", "--target", "blasts", "-o", tmp_path / "out", "--coverage", "0.99"
    )
    for patient in found["patients"]:
        assert (patient["low"], patient["high"]) == (None, None)
        said = " ".join(patient["warnings"])
        assert "a single cell; the training patients have" in said
        assert "15 training patients are too few for a coverage of 99%" in said
    assert any("not predicted better than by chance: R2" in text for text in found["warnings"])


def remove_models(study: Path) -> None:
    (study / "cohort" / "outcome-blasts" / "models.safetensors").unlink()


def change_result(study: Path) -> None:
    path = study / "cohort" / "outcome-blasts" / "outcome.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0", "1", 1), encoding="utf-8")


def of_another_target(study: Path) -> None:
    shutil.rmtree(study / "cohort" / "outcome-blasts")
    (study / "cohort" / "outcome-months").rename(study / "cohort" / "outcome-blasts")


def other_barcodes(study: Path) -> None:
    path = study / "cohort" / "barcodes.h5ad"
    data = read_barcodes(path)
    data.obs["age"] = 40
    data.write_h5ad(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_models, r"models.safetensors: is missing or was changed.*--target blasts"),
        (change_result, "outcome.json: is missing or was changed"),
        (of_another_target, "predicts 'months', not 'blasts'"),
        (other_barcodes, "of other barcodes than those"),
        (lambda study: shutil.rmtree(study / "cohort" / "outcome-blasts"), "no classification there.*--target months"),
    ],
)
def test_a_study_whose_files_do_not_belong_together_is_refused(
    frozen: Path, new_cells: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    study = Path(shutil.copytree(frozen, tmp_path / "study"))
    change(study)
    said = refused("predict", study, new_cells, "--target", "blasts", "-o", tmp_path / "out")
    assert re.search(message, " ".join(said.split()))
    assert not (tmp_path / "out").exists()
