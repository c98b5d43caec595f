"""What the explorer answers of patients and groups."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from fastapi.testclient import TestClient

from cytosae.analysis import show_patient
from cytosae.analysis.comparison import compare_groups
from cytosae.cohort import read_barcodes
from cytosae.explorer import exporting, schemas
from cytosae.settings import CompareConfig, PatientConfig
from support.explorer import CLOSE, decoded_map, get, opened, refusal
from support.studies import SET


def test_patients(client: TestClient, study: Path, tmp_path: Path) -> None:
    barcodes = read_barcodes(study / "cohort" / "barcodes.h5ad")
    found = get(client, "patients")
    schemas.patients.PatientList.model_validate(found)
    assert [row["id"] for row in found["patients"]] == barcodes.obs_names.tolist()
    assert {"diagnosis", "laboratory"} <= set(found["columns"])
    for column in ("diagnosis", "laboratory", "n_cells"):
        assert [row[column] for row in found["patients"]] == barcodes.obs[column].tolist()
    page = show_patient(study, "P003", tmp_path / "page.html")
    for against, query in (("healthy", {}), ("RUNX1_RUNX1T1", {"against": "RUNX1_RUNX1T1"})):
        one = get(client, "patients/P003", **query)
        schemas.patients.PatientDetail.model_validate(one)
        expected = page["against"][against]
        assert (one["against"]["name"], one["against"]["patients"]) == (against, expected["patients"])
        assert (one["against"]["rule"], one["against"]["unusual"]) == (expected["rule"], expected["unusual"])
        assert [row["latent"] for row in one["against"]["concepts"]] == [row["latent"] for row in expected["concepts"]]
        for row, other in zip(one["against"]["concepts"], expected["concepts"], strict=True):
            assert row == pytest.approx({key: other[key] for key in row}, **CLOSE)
        assert [cell["cell_id"] for cell in one["against"]["cells"]] == [cell["cell"] for cell in expected["cells"]]
        scores = [cell["score"] for cell in expected["cells"]]
        assert [cell["score"] for cell in one["against"]["cells"]] == pytest.approx(scores, **CLOSE)
        said = one["prediction"]
        assert (said["predicted"], said["truth"]) == (page["prediction"]["predicted"], "RUNX1_RUNX1T1")
        assert said["unseen"]
        assert {c["name"]: c["probability"] for c in said["classes"]} == pytest.approx(
            page["prediction"]["classes"], **CLOSE
        )
        assert [c["latent"] for c in said["concepts"]] == [c["latent"] for c in page["prediction"]["concepts"]]
        assert [c["cell_id"] for c in said["cells"]] == [c["cell"] for c in page["prediction"]["cells"]]
        group = barcodes[barcodes.obs["diagnosis"] == against].copy()
        group = group[group.obs_names != "P003"].X.mean(axis=0)
        mine = barcodes["P003"].X[0]
        largest = np.argsort(-np.maximum(mine, group), kind="stable")[:200]
        told = one["barcode"]["latents"]
        np.testing.assert_allclose(np.maximum(mine, group)[told[:200]], np.maximum(mine, group)[largest])
        unusual = {concept["latent"] for concept in one["against"]["concepts"]}
        assert set(told[200:]) == unusual - set(told[:200])
        np.testing.assert_allclose(one["barcode"]["patient"], mine[one["barcode"]["latents"]], rtol=1e-5)
        np.testing.assert_allclose(one["barcode"]["group"], group[one["barcode"]["latents"]], rtol=1e-5)
    assert {g["name"]: g["patients"] for g in one["groups"]}["healthy"] == 4
    assert {g["name"]: g["patients"] for g in one["groups"]}["RUNX1_RUNX1T1"] == 3
    assert len(get(client, "patients/P003", concepts=2)["against"]["concepts"]) <= 3
    assert "no such patient" in refusal(client.get("/api/patients/P999"), 404)
    assert "no patient with this" in refusal(client.get("/api/patients/P003?against=CML"), 404)
    for cell in one["against"]["cells"]:
        assert get(client, f"cells/{SET}/{cell['row']}")["patient"] == "P003"


def test_a_patient_and_two_groups_in_another_block(client: TestClient, study: Path, tmp_path: Path) -> None:
    barcodes = read_barcodes(study / "cohort" / "barcodes.h5ad")
    chosen = {"features": "top", "transform": "log1p"}
    page = show_patient(study, "P003", tmp_path / "page.html", PatientConfig(**chosen))["against"]["healthy"]
    found = get(client, "patients/P003", **chosen)
    assert found["against"]["unit"] == "active patches in the 5 strongest cells, log1p"
    assert found["against"]["unit"] in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "active patches a cell, healthy" in (tmp_path / "page.html").read_text(encoding="utf-8")
    for concept, other in zip(found["against"]["concepts"], page["concepts"], strict=True):
        for name in ("latent", "patient", "group", "t", "p", "fdr", "above", "count", "group_count"):
            assert concept[name] == pytest.approx(other[name], **CLOSE)
    mine = np.log1p(barcodes["P003"].layers["top"][0])
    for concept in found["against"]["concepts"]:
        assert concept["patient"] == pytest.approx(mine[concept["latent"]], **CLOSE)
        assert concept["count"] == pytest.approx(barcodes["P003"].X[0, concept["latent"]], **CLOSE)
    plain = get(client, "patients/P003")["against"]
    assert found["against"]["unusual_by_counts"] == page["unusual_by_counts"] == plain["unusual"]
    np.testing.assert_allclose(found["barcode"]["patient"], mine[found["barcode"]["latents"]], rtol=1e-5)
    config = CompareConfig(order="reach", **chosen)
    expected = compare_groups(study / "cohort" / "barcodes.h5ad", tmp_path / "c", "healthy", "rest", config)
    compared = get(client, "compare/healthy/rest", order="reach", **chosen)
    assert [row["latent"] for row in compared["top_first"]] == [row["latent"] for row in expected["first"]["latents"]]
    for row, other in zip(compared["top_first"], expected["first"]["latents"], strict=True):
        for name in ("first", "count_first", "count_second", "reach_first", "reach_level"):
            assert row[name] == pytest.approx(other[name], **CLOSE)
    assert "features" in str(client.get("/api/patients/P003?features=mean").json())


def test_two_groups(client: TestClient, study: Path, data: Any, tmp_path: Path) -> None:
    path = study / "cohort" / "barcodes.h5ad"
    for second, adjust in (("NPM1", None), ("rest", "laboratory")):
        expected = compare_groups(path, tmp_path / second, "healthy", second, adjust=adjust)
        table = pd.read_csv(expected["table"]).set_index("latent")
        found = get(client, f"compare/healthy/{second}", **({} if adjust is None else {"adjust": adjust}))
        schemas.patients.ComparisonInfo.model_validate(found)
        assert found["first"] == {"name": "healthy", "patients": 4}
        assert found["second"]["patients"] == expected["second"]["patients"]
        assert found["tested"] == expected["tested"]
        assert found["caveats"] == expected["caveats"]
        for side in ("first", "second"):
            rows = [row["latent"] for row in expected[side]["latents"]]
            assert [row["latent"] for row in found[f"top_{side}"]] == rows
            for row in found[f"top_{side}"]:
                figures = table.loc[row["latent"]]
                assert row["difference"] == pytest.approx(figures["difference"], rel=1e-4, abs=1e-6)
                assert row["p"] == (None if np.isnan(figures["p"]) else pytest.approx(figures["p"], rel=1e-4))
            points = dict(zip(found["scatter"]["latent"], found["scatter"][side], strict=True))
            assert points == pytest.approx(table.loc[list(points), side].to_dict(), rel=1e-4, abs=1e-6)
        assert set(points) == set(table.index[(table["first"] > 0) | (table["second"] > 0)])
    assert "there are APL" in refusal(client.get("/api/compare/healthy/CML"), 404)
    assert "with itself" in refusal(client.get("/api/compare/healthy/healthy"), 422)
    assert "no column" in refusal(client.get("/api/compare/healthy/NPM1?adjust=hospital"), 404)


def test_images_of_two_groups(client: TestClient, study: Path, data: Any, h: Callable[[int], np.ndarray]) -> None:
    barcodes = read_barcodes(study / "cohort" / "barcodes.h5ad")
    latent = get(client, "compare/healthy/rest")["top_first"][0]["latent"]
    found = get(client, f"compare/healthy/rest/images/{latent}")
    schemas.patients.ComparisonImages.model_validate(found)
    healthy = (barcodes.obs["diagnosis"] == "healthy").to_numpy()
    means = barcodes.layers["mean_activation"][:, latent]
    top = 0.0
    for side, members in (("first", healthy), ("second", ~healthy)):
        chosen = sorted(np.flatnonzero(members), key=lambda row: -means[row])[:5]
        names = {barcodes.obs_names[row] for row in chosen if means[row] > 0}
        assert {cell["patient"] for cell in found[side]} == names
        for cell in found[side]:
            mine = (data.obs["patient"] == cell["patient"]).to_numpy()
            values = np.where(mine, data.layers["mean_activation"][:, [latent]].toarray()[:, 0], -1)
            assert (cell["row"], cell["dataset"]) == (values.argmax(), SET)
            assert cell["value"] == pytest.approx(values.max(), **CLOSE)
            map_ = h(cell["row"])[1:, latent].reshape(16, 16)
            top = max(top, map_.max())
            np.testing.assert_allclose(decoded_map(cell["map"], found["top"]), map_, atol=found["top"] / 400)
        assert [c["value"] for c in found[side]] == sorted((c["value"] for c in found[side]), reverse=True)
    assert found["top"] == pytest.approx(top, rel=1e-4)
    assert "latents 0 to" in refusal(client.get("/api/compare/healthy/rest/images/384"), 404)


def test_names_with_a_slash_and_a_classification_of_others(copied: Path) -> None:
    path = copied / "cohort" / "barcodes.h5ad"
    barcodes = read_barcodes(path)
    barcodes.obs["diagnosis"] = barcodes.obs["diagnosis"].cat.rename_categories({"NPM1": "CLL/SLL %2 ?"})
    barcodes.obs_names = pd.Index([f"ward 1/{name}" for name in barcodes.obs_names])
    barcodes.write_h5ad(path)
    client = opened(copied)
    assert get(client, "compare/CLL%2FSLL%20%252%20%3F/healthy")["first"]["name"] == "CLL/SLL %2 ?"
    one = get(client, "patients/ward%201%2FP000", against="CLL/SLL %2 ?")
    assert (one["patient"]["id"], one["against"]["name"]) == ("ward 1/P000", "CLL/SLL %2 ?")
    assert one["prediction"] is None
    assert any("other barcodes" in caveat for caveat in one["caveats"])
    assert exporting.segment("CLL/SLL %2 ?") == "CLL%2FSLL%20%252%20%3F"
    assert [exporting.segment(name) for name in ("..", ".", "a.b")] == ["%2E%2E", "%2E", "a.b"]


def test_where_healthy_are_too_few(copied: Path) -> None:
    path = copied / "cohort" / "barcodes.h5ad"
    barcodes = read_barcodes(path)
    keep = (barcodes.obs["diagnosis"] != "healthy").to_numpy() | (np.arange(20) < 8)
    barcodes[keep].copy().write_h5ad(path)
    one = get(opened(copied), "patients/P001")
    assert one["against"]["name"] == one["patient"]["diagnosis"]
    assert any(caveat.startswith("healthy: ") for caveat in one["caveats"])
    assert f"compared with {one['patient']['diagnosis']} instead" in one["caveats"]
    barcodes[:2].copy().write_h5ad(path)
    alone = get(opened(copied), "patients/P001")
    assert (alone["against"], alone["groups"]) == (None, [])
    assert set(alone["barcode"]["group"]) == {0}


def test_barcodes_of_another_autoencoder(copied: Path) -> None:
    path = copied / "cohort" / "barcodes.h5ad"
    with h5py.File(path, "r+") as file:
        write_elem(file[f"uns/cytosae/inputs/{SET}"], "sae", "another")
    client = opened(copied)
    for where in ("patients", "patients/P000", "compare/healthy/rest"):
        assert "another autoencoder" in refusal(client.get(f"/api/{where}"), 404)
    assert not get(client, "study")["has"]["patients"]


def test_a_study_without_patients(copied: Path) -> None:
    shutil.rmtree(copied / "cohort")
    client = opened(copied)
    assert not get(client, "study")["has"]["patients"]
    assert get(client, "study")["groups"] == {}
    for path in ("patients", "patients/P000", "compare/healthy/rest", "compare/healthy/rest/images/3"):
        assert "no patients" in refusal(client.get(f"/api/{path}"), 404)
