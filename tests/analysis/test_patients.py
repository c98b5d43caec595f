"""From images of synthetic patients to barcodes, classification, comparison and a patient's page, through the commands."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from safetensors.numpy import load_file

from cytosae.analysis import classify
from cytosae.artefacts import Manifest
from cytosae.backbones import load
from cytosae.cells import load_squashed, read_cells
from cytosae.cohort import read_barcodes
from cytosae.concepts import read_concepts, read_names
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.study import Study
from cytosae.synthetic import disease_concepts
from support.commands import ask, refused
from support.folders import contents
from support.studies import DRAWN, drawn_config

QUICK = ["--repeats", "1", "--splits", "3", "--step", "1", "--permutations", "19", "--bootstrap", "100"]


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of patients."""
    return Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("patients") / "study"))


def test_a_study_has_barcodes_and_shows_its_patients(study: Path) -> None:
    again = Study(study, drawn_config()).run(Path(DRAWN))
    assert again["cohort"]["patients"] == 20
    assert again["cohort"]["skipped"]
    assert again["report"]["skipped"]
    data = read_barcodes(study / "cohort" / "barcodes.h5ad")
    whole = read_concepts(study / "concepts", "synthetic")
    for name in data.obs_names[:3]:
        mine = (whole.obs["patient"] == name).to_numpy()
        np.testing.assert_allclose(data[name].X[0], whole.X[mine].toarray().mean(axis=0), rtol=1e-6)
    assert set(data.obs["diagnosis"].unique()) == set(disease_concepts)
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    assert all(f'alt="{name} of the patients"' in page for name in ("diseases", "correlation", "map"))
    assert (study / "report" / "figures" / "correlation.png").is_file()


def test_barcodes_from_the_command_line(study: Path, tmp_path: Path) -> None:
    found = ask("barcodes", study / "concepts", "-o", tmp_path / "b.h5ad")
    assert found["patients"] == found["rows"] == 20
    assert found["shared_cells"] == 0
    assert (tmp_path / "b.h5ad").read_bytes() == (study / "cohort" / "barcodes.h5ad").read_bytes()
    drawn = ask(
        "barcodes",
        study / "concepts",
        "-o",
        tmp_path / "b.h5ad",
        "--figures",
        tmp_path / "f",
        "--group-by",
        "laboratory",
    )
    assert all(Path(path).is_file() for path in drawn["figures"].values())
    types = ask("barcodes", study / "concepts", "-o", tmp_path / "types.h5ad", "--by-cell-type", "--no-duplicates")
    assert types["rows"] > 40
    assert types["patients"] == 20
    pooled = ask(
        "barcodes", study / "concepts", "-o", tmp_path / "c.h5ad", "--by-cell-type", "--figures", tmp_path / "p"
    )
    for name, path in pooled["figures"].items():  # of patients, not of their cell types
        assert Path(path).with_suffix(".png").stat().st_size > 10_000, name
    message = refused("classify", tmp_path / "types.h5ad")
    assert "--cell-type" in message
    assert "lymphocyte" in message


def test_classification_beside_all_others(study: Path) -> None:
    barcodes = study / "cohort" / "barcodes.h5ad"
    found = ask("classify", barcodes, "--tokens", study / "tokens", "--leave-out", "laboratory", *QUICK)
    names = [row["method"] for row in found["methods"]]
    assert names == [
        "barcodes",
        "barcodes, threshold -3 (paper)",
        "mean CLS token",
        "mean patch token",
        "mean and maximum of patch tokens",
        "colour histogram",
        "cell-type fractions",
        "attention over CLS tokens",
    ]
    assert [row["method"] for row in found["left_out"]["methods"]] == names
    assert found["left_out"]["folds"] == ["azure", "eosin", "reference"]
    for row in found["methods"]:
        assert row["low"] <= row["value"] <= row["high"]
        for score in ("macro_f1", "balanced_accuracy", "auroc"):
            assert row[f"{score}_low"] <= row[score] <= row[f"{score}_high"], score
    assert sum(choice["folds"] for choice in found["chosen"]) == 3
    assert len(found["model"]["choices"]) == 4
    assert found["null"]["permutations"] == 19
    assert np.array(found["barcodes"]["confusion"]).sum() == pytest.approx(20)
    assert len(found["sweep"]) == 7
    assert found["sweep"][0]["latents"] >= found["sweep"][-1]["latents"]
    assert any("smallest class has 4" in text for text in found["caveats"])
    assert [(one["kind"], one["figures"]["column"]) for one in found["warnings"]] == [("variance", "laboratory")]
    folder = study / "cohort" / "classification"
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 20
    right = (predictions["truth"] == predictions["predicted"]).mean()
    assert right == pytest.approx(found["barcodes"]["accuracy"])
    assert {p.stem for p in folder.glob("*.png")} == {"sweep", "methods", "confusion", "calibration", "abstention"}
    assert [row["share"] for row in found["abstention"]] == [round(0.1 * i, 1) for i in range(1, 11)]
    assert found["abstention"][-1]["accuracy"] == pytest.approx(right)
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert set(manifest.outputs) == {"methods.csv", "predictions.csv", "models.safetensors", "classification.json"}
    before = (folder / "classification.json").read_bytes()
    ask("classify", barcodes, "--tokens", study / "tokens", "--leave-out", "laboratory", *QUICK)
    assert (folder / "classification.json").read_bytes() == before


def test_an_untrained_backbone_stands_beside_the_trained_one(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barcodes, folder = study / "cohort" / "barcodes.h5ad", tmp_path / "c"
    command = ["classify", barcodes, "--tokens", study / "tokens", "-o", folder, "--untrained", "--deep", *QUICK]
    name = "untrained backbone, mean and maximum of patch tokens"
    found = {row["method"]: row for row in ask(*command)["methods"]}
    assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert found[name] != found["mean and maximum of patch tokens"] | {"method": name}
    assert list(found)[-4:] == [
        "attention over CLS tokens",
        "transformer over CLS tokens",
        "attention over concept counts",
        "transformer over concept counts",
    ]
    features = load_file(folder / "untrained_tokens.safetensors")["features"]
    assert features.shape == (20, 2 * 192)
    cells = read_concepts(study / "concepts", "synthetic", matrices=False).obs
    model = load("tiny", layer=-2, device="cpu", untrained=0)
    paths = cells.loc[(cells["patient"] == "P007").to_numpy(), "path"].tolist()
    patches = model.tokens(np.stack([load_squashed(Path(path), 224) for path in paths]))[:, 1:]
    expected = torch.cat([patches.mean(dim=(0, 1)), patches.amax(dim=1).mean(dim=0)])
    np.testing.assert_allclose(features[7], expected, atol=5e-3)
    monkeypatch.setattr("cytosae.analysis.untrained_baseline.patient_tokens", None)  # is not made again
    assert {row["method"]: row for row in ask(*command)["methods"]} == found
    assert "needs --tokens" in refused("classify", barcodes, "-o", tmp_path / "d", "--untrained")
    ask("classify", barcodes, "-o", folder, *QUICK)
    assert not (folder / "untrained_tokens.safetensors").exists()


def test_a_planted_leak_is_reported_before_anything_is_fitted(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_barcodes(study / "cohort" / "barcodes.h5ad")
    data.obs["image_width"] = pd.Categorical(np.where(data.obs["diagnosis"] == "healthy", "360", "224"))
    data.write_h5ad(tmp_path / "leak.h5ad")
    found = ask("classify", tmp_path / "leak.h5ad", "-o", tmp_path / "c", *QUICK)
    assert [warning["kind"] for warning in found["warnings"]] == ["leak", "variance"]
    assert "image width predicts the diagnosis" in found["warnings"][0]["text"]

    def fitted(*_: object) -> None:
        raise RuntimeError("fitted")

    monkeypatch.setattr("cytosae.analysis.classification.sweep", fitted)
    capsys.readouterr()
    with pytest.raises(RuntimeError, match="fitted"):
        classify(tmp_path / "leak.h5ad", tmp_path / "c")
    assert "leak: image width predicts the diagnosis" in capsys.readouterr().err  # said before anything is fitted
    assert "no column 'hospital'" in refused("classify", tmp_path / "leak.h5ad", "--leave-out", "hospital", *QUICK)
    assert "no column 'stage'" in refused("classify", tmp_path / "leak.h5ad", "--target", "stage")
    assert "no such file" in refused("classify", tmp_path / "none.h5ad")


def test_given_folds_and_a_patient_in_two(study: Path, tmp_path: Path) -> None:
    data = read_barcodes(study / "cohort" / "barcodes.h5ad")
    data.obs["fold"] = pd.Categorical([str(i // 10) for i in range(20)])
    data.write_h5ad(tmp_path / "b.h5ad")
    found = ask("classify", tmp_path / "b.h5ad", "--folds", "fold", *QUICK)
    assert found["folds"] == "one fold left out"
    assert found["model"]["rows"]["P000"] == 0
    assert found["model"]["rows"]["P019"] == 1
    data.obs["patient"] = pd.Categorical([f"P{i % 10}" for i in range(20)])
    data.write_h5ad(tmp_path / "b.h5ad")
    assert "in two folds" in refused("classify", tmp_path / "b.h5ad", "--folds", "fold", *QUICK)


def test_comparison_with_the_cells_of_both_sides(study: Path, tmp_path: Path) -> None:
    barcodes = study / "cohort" / "barcodes.h5ad"
    found = ask(
        "compare",
        barcodes,
        "healthy",
        "APL_PML_RARA",
        "--study",
        study,
        "-o",
        tmp_path / "c",
        "--top",
        "20",
        "--shown",
        "3",
    )
    table = pd.read_csv(tmp_path / "c" / "latents.csv")
    assert len(found["first"]["latents"]) == len(found["second"]["latents"]) == 20
    assert (table["favours"] == "healthy").sum() == 20
    data = read_barcodes(barcodes)
    means = [data.X[(data.obs["diagnosis"] == name).to_numpy()].mean(axis=0) for name in ("healthy", "APL_PML_RARA")]
    np.testing.assert_allclose(table["difference"], means[0] - means[1], atol=1e-4)
    ratio = table.loc[table["tested"], "rate_ratio"]
    assert table.loc[table["tested"], "rate_p"].between(0, 1).all()
    assert ((ratio > 1) == (table.loc[table["tested"], "difference"] > 0)).mean() > 0.8  # patients weigh by their cells
    assert found["rates_below_fdr_0.1"] == (table["rate_fdr"] <= 0.1).sum()
    best = int(np.argmax(means[0] - means[1]))
    assert found["first"]["latents"][0]["latent"] == best
    for name in ("scatter", "references-first", "references-second"):
        assert (tmp_path / "c" / f"{name}.png").is_file()
    rest = ask("compare", barcodes, "NPM1", "--adjust", "laboratory", "-o", tmp_path / "rest", "--permutations", "100")
    assert rest["second"]["name"] == "rest"
    shares = ask("compare", barcodes, "NPM1", "--features", "share", "-o", tmp_path / "share", "--permutations", "100")
    assert shares["rates_below_fdr_0.1"] is None
    assert "rate_p" not in pd.read_csv(tmp_path / "share" / "latents.csv")
    assert rest["second"]["patients"] == 16
    assert any("NPM1 has 4 patients" in text for text in rest["caveats"])
    assert "there are APL_PML_RARA" in refused("compare", barcodes, "CML")
    assert "with itself" in refused("compare", barcodes, "NPM1", "NPM1")


def test_page_of_a_patient(study: Path, tmp_path: Path) -> None:
    ask("classify", study / "cohort" / "barcodes.h5ad", *QUICK)
    found = ask("patient", study, "P000", "-o", tmp_path / "page.html", "--concepts", "3", "--cells", "4")
    assert set(found["against"]) == {"healthy", "APL_PML_RARA"}
    assert found["against"]["healthy"]["patients"] == 4
    assert found["against"]["APL_PML_RARA"]["patients"] == 3  # not itself
    whole = read_concepts(study / "concepts", "synthetic")
    mine = whole[(whole.obs["patient"] == "P000").to_numpy()]
    for group, figures in found["against"].items():
        latents = [row["latent"] for row in figures["concepts"]]
        scale = np.array([row["scale"] for row in figures["concepts"]])
        mean = np.array([row["group"] for row in figures["concepts"]])
        scores = ((mine.X.toarray()[:, latents] - mean) / scale).sum(axis=1)
        order = np.argsort(-scores, kind="stable")[:4]
        assert [cell["cell"] for cell in figures["cells"]] == mine.obs_names[order].tolist(), group
        assert scores.mean() == pytest.approx(sum(row["t"] for row in figures["concepts"]), rel=1e-3)
    said = found["prediction"]
    assert said["unseen"]
    predictions = pd.read_csv(study / "cohort" / "classification" / "predictions.csv").set_index("patient")
    assert said["predicted"] == predictions.loc["P000", "predicted"]
    assert said["classes"][said["predicted"]] == pytest.approx(
        predictions.loc["P000", f"p {said['predicted']}"], abs=1e-3
    )
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert html.count("A concept is unusual if the patient") == 2  # the rule of selection, for each group
    again = ask("patient", study, "P000", "-o", tmp_path / "again.html", "--concepts", "3", "--cells", "4")
    assert again | {"page": ""} == found | {"page": ""}
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_a_new_patient_beside_those_of_the_study(study: Path, tmp_path: Path) -> None:
    """The images of P000 under another name, beside barcodes without P000, are as unusual as P000 is in the study."""
    data = read_barcodes(study / "cohort" / "barcodes.h5ad")
    (tmp_path / "cohort").mkdir()
    without = tmp_path / "cohort" / "barcodes.h5ad"
    data[(data.obs["patient"] != "P000").to_numpy()].copy().write_h5ad(without)
    cells = read_cells(study / "cells.parquet")
    own = cells.loc[cells["patient"] == "P000", ["path", "diagnosis"]].assign(person="new")
    own.to_csv(tmp_path / "new.csv", index=False)
    before = contents(study)
    few = ("--concepts", "3", "--cells", "4")
    options = ("--new", tmp_path / "new.csv", "--column", "patient=person", "--barcodes", without)
    found = ask("patient", study, "new", *options, *few, "-o", tmp_path / "new.html")
    known = ask("patient", study, "P000", *few, "-o", tmp_path / "known.html")
    for group, figures in known["against"].items():
        rows = found["against"][group]["concepts"]
        assert [row["latent"] for row in rows] == [row["latent"] for row in figures["concepts"]], group
        assert [row["t"] for row in rows] == pytest.approx([row["t"] for row in figures["concepts"]], rel=1e-4)
    assert found["cells"] == known["cells"]
    assert contents(study) == before
    folder = tmp_path / "images"  # a folder says of no image whose it is
    folder.mkdir()
    for path in own["path"].head(5):
        shutil.copy(path, folder)
    assert ask("patient", study, "other", "--new", folder, *few, "-o", tmp_path / "other.html")["cells"] == 5
    page = tmp_path / "refused.html"
    assert "has a patient of this name" in refused("patient", study, "P001", "--new", folder, "-o", page)
    assert "no cell of" in refused("patient", study, "someone", *options, "-o", page)
    assert not page.exists()


def test_patients_that_cannot_be_shown(study: Path, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    assert "no such patient" in refused("patient", study, "P999", "-o", page)
    assert "cytosae barcodes" in refused("patient", tmp_path, "P000", "-o", page)
    assert not page.exists()
    found = ask("patient", study, "P001", "-o", page, "--healthy", "nobody")
    assert list(found["against"]) == ["NPM1"]
    assert any("nobody: 0 other patients" in text and "RUNX1_RUNX1T1" in text for text in found["caveats"])
    other = tmp_path / "cohort"
    shutil.copytree(study / "cohort" / "classification", other / "classification")
    data = read_barcodes(study / "cohort" / "barcodes.h5ad")
    data.obs["diagnosis"] = data.obs["diagnosis"].cat.rename_categories({"healthy": "well"})
    data.write_h5ad(other / "barcodes.h5ad")
    found = ask(
        "patient", study, "P001", "--barcodes", other / "barcodes.h5ad", "-o", tmp_path / "p.html", "--healthy", "well"
    )
    assert found["prediction"] is None
    assert any("other barcodes" in text for text in found["caveats"])
    manifest = Manifest.load(other / "classification")
    assert manifest is not None
    replace(manifest, version=1).save(other / "classification")
    found = ask(
        "patient", study, "P001", "--barcodes", other / "barcodes.h5ad", "-o", tmp_path / "p.html", "--healthy", "well"
    )
    assert any("made by version 1" in text for text in found["caveats"])


def test_names_that_raters_gave_stand_in_report_page_and_figures(
    drawn_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    shown = ask("patient", study, "P000", "-o", tmp_path / "before.html", "--concepts", "3", "--cells", "2")
    latent = shown["against"]["healthy"]["concepts"][0]["latent"]
    strongest = read_concepts(study / "concepts", "synthetic", matrices=False).var["mean_activation"].argmax()
    said = tmp_path / "said.csv"
    said.write_text(
        "dataset,latent,rater,verdict,name\n"
        f"synthetic,{latent},Ann,meaningful,Auer <b>rods</b>\nsynthetic,{strongest},Ann,artefact,plasma stain\n"
    )
    with pytest.raises(CytosaeError, match="no annotations yet"):
        ask("annotations", "apply", study)
    assert ask("annotations", "import", study, said)["added"] == 2
    assert ask("annotations", "apply", study) == {"named": 2, "verdicts": 2, "files": 1}
    assert read_names(study / "concepts") == {latent: "Auer <b>rods</b>", strongest: "plasma stain"}
    stages = Study(study, drawn_config()).run(Path(DRAWN))
    assert [name for name, stage in stages.items() if not stage["skipped"]] == ["report"]
    galleries = re.search(r"galleries = (.*?);\n", (study / "report" / "index.html").read_text(encoding="utf-8"))
    assert galleries is not None
    named = {one["latent"]: one["name"] for one in json.loads(galleries[1])[0]["concepts"] if one["name"]}
    assert named[strongest] == "plasma stain (Ann)"
    ask("patient", study, "P000", "-o", tmp_path / "after.html", "--concepts", "3", "--cells", "2")
    page = (tmp_path / "after.html").read_text(encoding="utf-8")
    assert f"Latent {latent}: Auer &lt;b&gt;rods&lt;/b&gt;" in page
    drawn: list[Figure] = []
    monkeypatch.setattr("cytosae.analysis.concepts.save", lambda figure, _: drawn.append(figure))
    ask("concept", study, latent, "-o", tmp_path / "concept")
    assert any(text.get_text().startswith(f"Latent {latent}: Auer") for text in drawn[0].findobj(Text))


def test_a_study_with_an_autoencoder_that_is_there_already(drawn_study: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(drawn_study / "sae" / name, given)
    cells = pd.read_csv(drawn_study / "cohort" / "cohort.csv", dtype=str).head(36)  # of four patients
    for column in ("path", "mask", "concepts"):
        cells[column] = [str(drawn_study / "cohort" / name) for name in cells[column]]
    cells.to_csv(tmp_path / "cells.csv", index=False)
    command = [
        "run",
        tmp_path / "cells.csv",
        "--study",
        tmp_path / "study",
        "--no-store",
        "--sae",
        given,
    ]
    stages = ask(*command)["stages"]
    assert not stages["sae"]["skipped"]
    before = Manifest.load(drawn_study / "sae")
    assert before is not None
    assert stages["sae"]["explained_variance"] == pytest.approx(before.summary["explained_variance"], abs=0.05)
    ours, theirs = (read_concepts(folder / "concepts", "synthetic") for folder in (tmp_path / "study", drawn_study))
    assert ours.n_obs == 36
    assert (ours.X != theirs[ours.obs_names].X).nnz == 0
    means = [one.layers["mean_activation"].toarray() for one in (ours, theirs[ours.obs_names])]
    assert np.array_equal(*means)
    page = (tmp_path / "study" / "report" / "index.html").read_text(encoding="utf-8")
    assert "The autoencoder was given" in page
    assert "Training curves" not in page
    assert all(stage["skipped"] for name, stage in ask(*command)["stages"].items() if name != "tokens")
    assert "model.safetensors: missing" in refused(*command[:-1], tmp_path)
    SAE(10, 20).save_pretrained(tmp_path / "narrow")
    before_it = (tmp_path / "study" / "sae" / "model.safetensors").read_bytes()
    assert "10" in refused(*command[:-1], tmp_path / "narrow", "--restart")
    assert (tmp_path / "study" / "sae" / "model.safetensors").read_bytes() == before_it
