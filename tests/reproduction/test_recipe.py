"""The recipe in small: five published layouts with drawn cells, a backbone with DinoBloom's keys, up to the table."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.artefacts import Manifest
from cytosae.cells.datasets import DATASETS
from cytosae.concepts import read_concepts
from cytosae.errors import CytosaeError
from cytosae.reproduction import Recipe, cost, planned
from cytosae.reproduction.paper import REPORTED, VARIANTS
from cytosae.reproduction.steps import steps
from cytosae.reproduction.table import compared
from cytosae.sae.cost import rising
from cytosae.sae.joint import Member, Trained
from cytosae.settings import PRESETS, BackboneConfig, TrainConfig
from cytosae.synthetic import CohortSpec, write_cohort
from support.backbones import reference, zenodo
from support.commands import ask, refused

DISEASES = {"APL_PML_RARA": "PML_RARA", "healthy": "control"}
SUBTYPES = {"BNE": "neutrophil", "SNE": "neutrophil", "PMY": "ig", "MMY": "ig", "MY": "ig", "BA": "basophil"}
SUBTYPES |= {"EO": "eosinophil", "LY": "lymphocyte", "MO": "monocyte", "ERB": "erythroblast", "PLATELET": "platelet"}
LAYOUTS = {
    "mll23": ("{code}/{code}_{number:04d}.TIF", "RGB", 288),
    "acevedo": ("PBC_dataset_normal_DIB/{folder}/{code}_{number}.jpg", "RGB", 360),
    "matek19": ("AML-Cytomorphology/{code}/{code}_{number:04d}.tiff", "RGBA", 400),
    "bmc": ("{code}/0001-1000/{code}_{number:05d}.jpg", "RGB", 250),
}
SMALL = ["--images", 64, "--batch-images", 8, "--expansion", 4, "--init-images", 8, "--evaluate-images", 4]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five data sets of the paper in their published layouts, with drawn cells."""
    drawn = tmp_path_factory.mktemp("drawn")
    cells = write_cohort(CohortSpec.parse("patients=15,cells=6,seed=2"), drawn)
    folder = tmp_path_factory.mktemp("published")
    for name, (layout, mode, edge) in LAYOUTS.items():
        codes = {one.label: one.code for one in DATASETS[name].classes}
        known = cells[cells["label"].isin(codes)].groupby("label").head(2)
        assert len(known) > 8
        for number, row in enumerate(known.itertuples(), 1):
            code = codes[row.label]
            path = folder / name / layout.format(code=code, number=number, folder=SUBTYPES.get(code))
            save(drawn / row.path, path, mode, edge)
    for number, row in enumerate(cells.groupby("patient").head(3).itertuples()):
        of = DISEASES.get(row.diagnosis, row.diagnosis)
        save(drawn / row.path, folder / "hehr" / "data" / of / row.patient / f"image_{number}.tif", "RGB", 144)
    return folder


def save(source: Path, target: Path, mode: str, edge: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(source).convert(mode).resize((edge, edge)).save(target)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as DinoBloom's on Zenodo, but narrow and shallow."""
    return zenodo(reference().state_dict(), tmp_path_factory.mktemp("weights") / "DinoBloom-B")


@pytest.fixture(scope="module")
def done(published: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reproduction") / "out"
    return folder, ask("reproduce", folder, "--data", published, "--backbone", weights, "--seeds", 1, "--store", *SMALL)


@pytest.mark.slow
def test_all_of_it_goes_through_to_the_table(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    assert result["left_out"] == {}
    table = pd.read_csv(folder / "reproduction.csv").set_index("what")
    assert len(table) == len(REPORTED)
    experts = [what for what in table.index if what.startswith("specific")]
    assert table.index[table["obtained"].isna()].tolist() == experts  # nobody has judged
    assert table.loc["cells of MLL23", "paper"] == 41_906
    for name in LAYOUTS:
        data = read_concepts(folder / "study" / "concepts", name, matrices=False)
        row = next(one.quantity for one in REPORTED if one.key == f"cells {name}")
        assert table.loc[row, "obtained"] == data.n_obs
        assert data.obs["label"].notna().all()
    assert table.loc["patients of AML Hehr", "obtained"] == 15
    sae = Manifest.load(folder / "sae" / "chosen-0")
    assert sae is not None
    assert table.loc["dead share, ghost gradients", "obtained"] == pytest.approx(sae.summary["dead"])
    double = Manifest.load(folder / "sae" / "expansion-double-0")
    assert double is not None
    assert double.summary["n_latents"] == 2 * sae.summary["n_latents"]
    layer = Manifest.load(folder / "concepts" / "layer-12-0")
    assert layer is not None
    own = read_concepts(folder / "concepts" / "layer-12-0", "mll23", matrices=False)
    assert int(own.uns["cytosae"]["backbone"]["layer"]) + 1 == 4  # the last of four, as the twelfth of twelve
    assert table.loc["concepts, layer 12", "obtained"] == own.var["is_concept"].sum()
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<img class="figure"', page)) == 8
    assert "2,936 ± 114" in page
    panel = json.loads((folder / "panel.json").read_text())
    assert panel["format"] == "cytosae-worklist"
    classified = json.loads((folder / "study" / "cohort" / "classification" / "classification.json").read_text())
    (paper,) = (row for row in classified["methods"] if row["method"] == "barcodes, threshold -3 (paper)")
    assert table.loc["weighted F1 of patients at threshold -3", "obtained"] == pytest.approx(paper["value"])


@pytest.mark.slow
def test_again_it_does_nothing_and_the_plan_says_so(
    done: tuple[Path, dict[str, Any]], published: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = done
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    arguments = [folder, "--data", published, "--backbone", weights, "--seeds", 1, "--store", *SMALL]
    plan = ask("reproduce", *arguments, "--dry-run")
    assert {one["state"] for one in plan["steps"]} == {"done"}
    assert plan["seconds"] == 0
    ask("reproduce", *arguments, "--only", "train", "--only", "panel")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")} == before


def test_the_plan_names_what_is_missing_and_says_how_long_the_rest_takes(
    published: Path, weights: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "mll23").symlink_to(published / "mll23")
    folder = tmp_path / "out"
    plan = ask("reproduce", folder, "--data", data, "--backbone", weights, "--seeds", 2, *SMALL, "--dry-run")
    assert not folder.exists()
    states = {one["name"]: one for one in plan["steps"]}
    assert len(states) == 5 + 4 + 2 * 2 * len(VARIANTS) + 1 + 5
    assert states["cells mll23"]["state"] == "ready"
    assert states["cells bmc"]["state"] == "lacks"
    assert "cytosae datasets info bmc" in states["cells bmc"]["why"]
    assert states["classify"]["state"] == "waits"
    assert states["classify"]["why"] == "needs 'cells hehr'"
    assert states["study"]["state"] == "ready"
    assert states["tokens chosen"]["seconds"] > 0
    assert states["train expansion-double-1"]["seconds"] > 0
    assert plan["seconds"] == pytest.approx(
        sum(one["seconds"] or 0 for one in plan["steps"] if one["state"] == "ready")
    )
    assert plan["measured_on"] == str(weights)


def test_a_rate_and_a_length_by_rule_are_refused(tmp_path: Path) -> None:
    """Ten times the rule would be the rule."""
    with pytest.raises(CytosaeError, match="learning-rate and --images"):
        Recipe(tmp_path, tmp_path, BackboneConfig("tiny"), PRESETS["recommended"])


def test_without_any_data_nothing_is_written(tmp_path: Path) -> None:
    said = refused("reproduce", tmp_path / "out", "--data", tmp_path / "nowhere", "--backbone", "tiny")
    assert "holds none of the folders mll23, acevedo" in said
    assert not (tmp_path / "out").exists()


def test_more_work_is_never_expected_to_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However disturbed the measurements are."""
    noise = np.random.default_rng(0)
    monkeypatch.setattr(cost, "step_seconds", lambda *_: float(noise.uniform(1, 9)))
    monkeypatch.setattr(cost, "encode_seconds", lambda *_: float(noise.uniform(1, 9)))

    def expected(images: int) -> dict[str, float]:
        recipe = Recipe(tmp_path, tmp_path, BackboneConfig("tiny"), TrainConfig(images=images))
        todo = steps(recipe)
        units, _ = cost.units(recipe, todo)
        return {one.name: cost.estimate_seconds(one, units) or 0.0 for one in todo}

    for plan in (expected(64_000), expected(128_000)):
        for kind in ("train", "concepts"):
            by_expansion = [plan[f"{kind} {name}-0"] for name in ("expansion-quarter", "expansion-half", "chosen")]
            assert sorted([*by_expansion, plan[f"{kind} expansion-double-0"]]) == [
                *by_expansion, plan[f"{kind} expansion-double-0"]
            ]  # fmt: skip
        by_layer = [plan[f"tokens {name}"] for name in ("layer-2", "layer-7", "chosen", "layer-12")]
        assert sorted(by_layer) == by_layer
        assert by_layer[0] < by_layer[-1]
    assert rising({16: 15.8, 32: 9.3, 64: 20.0, 128: 19.0}) == {16: 9.3, 32: 9.3, 64: 19.0, 128: 19.0}
    recipe = Recipe(tmp_path, tmp_path, BackboneConfig("tiny"), TrainConfig(images=64_000))
    longer = Recipe(tmp_path, tmp_path, BackboneConfig("tiny"), TrainConfig(images=128_000))
    units, _ = cost.units(recipe, steps(recipe))
    for one, other in zip(steps(recipe), steps(longer), strict=True):
        assert (cost.estimate_seconds(one, units) or 0.0) <= (cost.estimate_seconds(other, units) or 0.0)


@pytest.mark.slow
def test_what_cannot_be_run_is_left_out_and_the_rest_runs(published: Path, weights: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "mll23").symlink_to(published / "mll23")
    (data / "hehr").mkdir()  # empty
    arguments = ["--data", data, "--backbone", weights, "--seeds", 1, "--no-ablation", *SMALL]
    result = ask("reproduce", tmp_path / "out", *arguments)
    absent = {f"cells {name}" for name in ("acevedo", "matek19", "bmc", "hehr")}
    assert set(result["left_out"]) == absent | {"study", "panel", "patch", "classify", "compare"}
    assert "holds no image of hehr" in result["left_out"]["cells hehr"]
    assert result["obtained"]["concepts at threshold -3, expansion 64"] > 0
    (data / "hehr").rmdir()
    result = ask("reproduce", tmp_path / "out", *arguments)
    assert "study" not in result["left_out"]
    assert result["left_out"]["classify"] == "needs 'cells hehr'"
    with pytest.raises(CytosaeError, match="--only figures: no such step; there are cells, tokens, train"):
        ask("reproduce", tmp_path / "out", *arguments, "--only", "figures")


@pytest.mark.slow
def test_a_given_autoencoder_takes_the_place_of_the_trained_one(
    done: tuple[Path, dict[str, Any]], published: Path, weights: Path, tmp_path: Path
) -> None:
    folder, _ = done
    given, data = folder / "sae" / "expansion-half-0", tmp_path / "data"
    data.mkdir()
    (data / "acevedo").symlink_to(published / "acevedo")
    result = ask(
        "reproduce", tmp_path, "--data", data, "--backbone", weights, "--sae", given, "--only", "study", *SMALL
    )
    assert not any(name.startswith("train") for name in result["done"])
    study = Manifest.load(tmp_path / "study" / "sae")
    trained = Manifest.load(given)
    assert study is not None
    assert trained is not None
    assert study.outputs["model.safetensors"].sha256 == trained.outputs["model.safetensors"].sha256


def test_means_and_spreads_over_trainings(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, tmp_path, BackboneConfig("tiny"), TrainConfig(), seeds=3)
    for seed, (concepts, dead, l0) in enumerate([(10, 0.5, 20.0), (13, 0.7, 22.0), (16, 0.6, 24.0)]):
        summary = {"datasets": {"mll23": {"cells": 5, "concepts": concepts}}, "files": {"mll23": "mll23"}}
        Manifest("concepts", {}, {"sae": "0" * 64}, {}, summary).save(made(recipe.concepts_folder("chosen", seed)))
        Manifest("sae", {}, {}, {}, {"dead": dead, "l0": l0}).save(made(recipe.sae_folder("chosen", seed)))
        Manifest("sae", {}, {}, {}, {"dead": 0.1, "l0": 90 * l0}).save(made(recipe.sae_folder("lambda-by-10", seed)))
    table = compared(recipe).set_index("what")
    row = table.loc["concepts at threshold -3, expansion 64"]
    assert (row["obtained"], row["obtained_spread"], row["trainings"]) == (13, 3, 3)
    row = table.loc["dead share, ghost gradients"]
    assert (row["obtained"], row["obtained_spread"]) == (
        pytest.approx(0.6),
        pytest.approx(np.std([5, 7, 6], ddof=1) / 10),
    )
    assert table.loc["L0, lambda a tenth, over the chosen", "obtained"] == pytest.approx(90)
    assert np.isnan(table.loc["concepts, layer 2", "obtained"])


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_the_papers_settings(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, tmp_path)
    grid = {name: recipe.train_config(name, 2) for name in VARIANTS}
    assert {name: c.expansion for name, c in grid.items() if c.expansion != 64} == {
        "expansion-quarter": 16, "expansion-half": 32, "expansion-double": 128
    }  # fmt: skip
    assert sorted({c.l1 for c in grid.values()}) == pytest.approx([8e-6, 8e-5, 8e-4])
    assert sorted({c.learning_rate for c in grid.values()}) == pytest.approx([4e-5, 4e-4, 4e-3])
    assert {c.seed for c in grid.values()} == {2}
    assert [name for name, c in grid.items() if c.dead_latent_loss == "none"] == ["no-ghost"]
    assert [name for name, c in grid.items() if c.b_dec_init == "mean"] == ["bias-mean"]
    assert [recipe.backbone_config(VARIANTS[name].layer).layer for name in ("chosen", "layer-2", "layer-12")] == [
        -2,
        2,
        12,
    ]
    by_name = {one.name: one for one in steps(recipe)}
    assert by_name["train chosen-0"].work == {("train", 64): 15_625}
    assert by_name["tokens chosen"].work == {("embed", 0): DATASETS["mll23"].images}
    assert by_name["study"].lacks
    plan = planned(Recipe(tmp_path, tmp_path, BackboneConfig("tiny")), ["panel"])
    assert {one["state"] for one in plan["steps"]} <= {"lacks", "waits"}


def test_what_the_same_tokens_train_is_trained_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[list[str]] = []

    def train_together(tokens: object, members: list[Member], **_: object) -> Trained:
        together.append([member.name for member in members])
        return Trained(diverged={"chosen-0": "not finite"})

    monkeypatch.setattr("cytosae.reproduction.steps.TokenStore", lambda folder: folder)
    monkeypatch.setattr("cytosae.reproduction.steps.closing", nullcontext)
    stale = SimpleNamespace(why_stale=lambda: "not made yet", folder=tmp_path)
    monkeypatch.setattr("cytosae.reproduction.steps.training", lambda *arguments, **options: stale)
    monkeypatch.setattr("cytosae.reproduction.steps.train_together", train_together)
    recipe = Recipe(tmp_path, tmp_path, seeds=2)
    by_name = {one.name: one for one in steps(recipe)}
    by_name["train expansion-half-0"].run(by_name)
    same_layer = [f"{name}-{seed}" for name in VARIANTS for seed in (0, 1) if VARIANTS[name].layer is None]
    assert len(same_layer) > 10
    by_name["train layer-2-1"].run({"train layer-2-1", "train chosen-0"})
    assert together == [same_layer, ["layer-2-1"]]
    with pytest.raises(CytosaeError, match="not finite"):
        by_name["train chosen-0"].run({"train chosen-0"})
