"""The explorer's server: every answer against the arrays of a small study, and everything that it has to refuse."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import schemathesis
import torch
from anndata.io import write_elem
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image

from cytosae.analysis import show_patient
from cytosae.analysis.comparison import compare_groups
from cytosae.artefacts import FileRecord, Manifest
from cytosae.cells import load_squashed, read_cells
from cytosae.cohort import read_barcodes
from cytosae.concepts import concept_files, read_activations, read_concepts, read_inputs, read_maps, read_rows
from cytosae.errors import CytosaeError
from cytosae.explorer import cohorts, create_app, export, exporting, schemas
from cytosae.explorer.app import BUNDLE, _once
from cytosae.explorer.caching import bounded
from cytosae.explorer.directions import Directions
from cytosae.explorer.measures import shortened
from cytosae.explorer.routes import uploads
from cytosae.explorer.security import is_loopback
from cytosae.sae import SAE
from cytosae.settings import CompareConfig
from cytosae.tokens import TokenStore

CLOSE = {"rel": 1e-5, "abs": 1e-12}
HERE = "http://127.0.0.1:8765"
SET = "synthetic"


@pytest.fixture(scope="module")
def study(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty synthetic patients of five groups, nine cells each, classified."""
    return Path(shutil.copytree(classified_study, tmp_path_factory.mktemp("explored") / "study"))


@pytest.fixture(scope="module")
def client(study: Path) -> TestClient:
    """A browser on this machine, without a token."""
    return opened(study)


def opened(folder: Path, **given: Any) -> TestClient:
    """A browser that looks at a study."""
    return TestClient(create_app(folder, **given), base_url=HERE, follow_redirects=False)


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    """The same study, to be spoilt; its images are where they were before."""
    return Path(shutil.copytree(study, tmp_path / "copy"))


@pytest.fixture(scope="module")
def data(study: Path) -> Any:
    """Concepts of the study."""
    return read_concepts(study / "concepts", SET)


@pytest.fixture(scope="module")
def h(study: Path) -> Callable[[int], np.ndarray]:
    """Activations of a cell, ``(n_tokens, n_latents)``."""
    sae, store = SAE.from_pretrained(study / "sae"), TokenStore(study / "tokens")

    def of(row: int) -> np.ndarray:
        with torch.no_grad():
            return sae.encode(store.read(np.array([row]))[0].float()).numpy()

    return of


def get(client: TestClient, path: str, **query: Any) -> Any:
    """The JSON of an answer that is there."""
    answer = client.get(f"/api/{path}", params=query)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def refusal(answer: Any, status: int) -> str:
    """The sentence of an answer that refuses."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["detail"]
    return str(answer.json()["detail"])


def decoded(text: str, top: float) -> np.ndarray:
    """A map as the browser reads it."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(16, 16) * (top / 255)


def test_the_study(client: TestClient, study: Path, data: Any) -> None:
    found = schemas.study.StudyInfo.model_validate(get(client, "study"))
    assert (found.name, found.static, found.n_latents, found.grid) == ("study", False, data.n_vars, (16, 16))
    assert (found.tau, found.concept_threshold) == (0.2, -3)
    assert (found.backbone.name, found.backbone.layer, found.backbone.depth) == ("tiny", 5, 6)
    (of,) = found.datasets
    assert (of.name, of.cells, of.concepts) == (SET, data.n_obs, int(data.var["is_concept"].sum()))
    assert {g.name: g.cells for g in of.labels} == data.obs["label"].value_counts().to_dict()
    assert {g.name: g.cells for g in of.diagnoses} == data.obs["diagnosis"].value_counts().to_dict()
    assert of.kinds == ["reference", "spread", "random", "middle", "low"]
    assert of.has_patients
    assert found.has == schemas.study.Has(patients=True, classification=True, quality=False, tokens=True, uploads=True)
    assert found.groups["diagnosis"] == sorted(data.obs["diagnosis"].unique())
    assert found.groups["laboratory"] == sorted(data.obs["laboratory"].unique())
    table = get(client, f"latents/{SET}")
    assert {m.key for m in found.measures} == set(table) - {"latent", "concept", "top_label"}


def test_latents_of_a_data_set(client: TestClient, study: Path, data: Any) -> None:
    table = get(client, f"latents/{SET}")
    schemas.latents.LatentTable.model_validate(table)
    active = np.flatnonzero(data.var["activation_frequency"] > 0)
    assert table["latent"] == active.tolist()
    assert table["concept"] == data.var["is_concept"].to_numpy()[active].astype(int).tolist()
    for name in ("activation_frequency", "mean_activation", "label_entropy", "n_references"):
        assert table[name] == pytest.approx(data.var[name].to_numpy()[active], **CLOSE)
    latents, maps = read_maps(study / "concepts", SET)
    border = dict.fromkeys(range(data.n_vars))
    for latent, of in zip(latents, maps.astype(float), strict=True):
        ring = sum(m[0].sum() + m[-1].sum() + m[1:-1, 0].sum() + m[1:-1, -1].sum() for m in of)
        border[int(latent)] = ring / of.sum()
    assert sum(value is not None for value in border.values()) == len(latents)
    assert table["border"] == [None if border[s] is None else pytest.approx(border[s], rel=1e-4) for s in active]
    means = pd.DataFrame(data.layers["mean_activation"].toarray()).groupby(data.obs["label"].to_numpy()).mean()
    assert table["top_label"] == means.to_numpy().argmax(axis=0)[active].tolist()
    assert [g["name"] for g in get(client, "study")["datasets"][0]["labels"]] == means.index.tolist()


def test_silent_latents_are_not_listed(copied: Path) -> None:
    path, _ = concept_files(copied / "concepts", SET)
    with h5py.File(path, "r+") as file:
        file["var/activation_frequency"][:7] = 0
    table = get(opened(copied), f"latents/{SET}")
    assert table["latent"] == list(range(7, 384))
    assert {len(column) for column in table.values()} == {377}


def test_one_latent(client: TestClient, study: Path, data: Any) -> None:
    sae = SAE.from_pretrained(study / "sae").W_dec.detach().numpy()
    unit = sae / np.linalg.norm(sae, axis=1, keepdims=True)
    concepts = np.flatnonzero(data.var["is_concept"])
    h_mean = data.layers["mean_activation"].toarray()
    table = get(client, f"latents/{SET}")
    for latent in (0, 7, 200, data.n_vars - 1):
        found = get(client, f"latents/{SET}/{latent}")
        schemas.latents.LatentDetail.model_validate(found)
        assert (found["latent"], found["dataset"]) == (latent, SET)
        assert found["is_concept"] == bool(data.var["is_concept"].iloc[latent])
        for name in ("activation_frequency", "mean_activation", "label_entropy", "n_references"):
            assert found["statistics"][name] == pytest.approx(data.var[name].iloc[latent], **CLOSE), name
        for column in ("label", "diagnosis"):
            groups = pd.Series(h_mean[:, latent]).groupby(data.obs[column].to_numpy())
            shown = {g["name"]: g for g in found[f"by_{column}"]}
            assert {n: g["cells"] for n, g in shown.items()} == groups.size().to_dict()
            for name, of in groups:
                assert shown[name]["mean"] == pytest.approx(of.mean(), **CLOSE)
                assert shown[name]["frequency"] == pytest.approx((of > 0).mean(), **CLOSE)
        cosines = unit[concepts] @ unit[latent]
        cosines[concepts == latent] = -2
        nearest = concepts[np.argsort(-cosines)[:10]]
        assert [one["latent"] for one in found["similar"]] == nearest.tolist()
        assert [one["cosine"] for one in found["similar"]] == pytest.approx(np.sort(cosines)[::-1][:10], rel=1e-4)
        assert found["datasets"][SET]["mean_activation"] == found["statistics"]["mean_activation"]
        border = table["border"][table["latent"].index(latent)]
        assert found["statistics"]["border"] == border
        assert found["flags"] == {"border": border > 1.5 * 60 / 256, "background": None}
        assert found["quality"] is None


def test_directions_are_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytosae.explorer.directions._BLOCK", 7)
    sae = SAE(5, 40)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.W_dec *= torch.arange(1, 41)[:, None]  # lengths must not matter
    sae.save_pretrained(tmp_path)
    among = np.arange(40) % 2 == 0
    latents, cosines = Directions(tmp_path / "model.safetensors").similar(4, among, 6)
    w = sae.W_dec.detach().numpy()
    expected = (w @ w[4]) / np.linalg.norm(w, axis=1) / np.linalg.norm(w[4])
    expected[~among] = expected[4] = -2
    assert latents.tolist() == np.argsort(-expected)[:6].tolist()
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:6], rtol=1e-5)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CytosaeError, match="not the weights"):
        Directions(tmp_path / "model.safetensors").similar(0, among)


@pytest.mark.parametrize("kind", ["reference", "spread", "random", "middle", "low"])
def test_images_of_a_latent(
    client: TestClient, study: Path, data: Any, h: Callable[[int], np.ndarray], kind: str
) -> None:
    latent = int(np.flatnonzero(data.var["is_concept"])[9])
    found = get(client, f"latents/{SET}/{latent}/images/{kind}")
    schemas.latents.LatentImages.model_validate(found)
    rows, values = (data.varm[f"{kind}_{what}"][latent] for what in ("cells", "values"))
    rows, values = rows[rows >= 0], values[rows >= 0]
    assert [cell["row"] for cell in found["cells"]] == rows.tolist()
    assert [cell["value"] for cell in found["cells"]] == pytest.approx(values, **CLOSE)
    maps = [h(row)[1:, latent].reshape(16, 16) for row in rows]
    assert found["top"] == pytest.approx(max(m.max() for m in maps), rel=1e-3)
    for cell, row, map_ in zip(found["cells"], rows, maps, strict=True):
        about = data.obs.iloc[row]
        known = {"cell_id": data.obs_names[row], **{c: about[c] for c in ("label", "patient", "diagnosis")}}
        assert {key: cell[key] for key in known} == known
        np.testing.assert_allclose(decoded(cell["map"], found["top"]), map_, atol=found["top"] / 400)


def test_images_that_there_are_none_of(client: TestClient, data: Any) -> None:
    assert "there are reference" in refusal(client.get(f"/api/latents/{SET}/3/images/best"), 404)
    assert "latents 0 to 383" in refusal(client.get(f"/api/latents/{SET}/384"), 404)
    assert "latents 0 to 383" in refusal(client.get(f"/api/latents/{SET}/384/images/reference"), 404)
    assert "there are synthetic" in refusal(client.get("/api/latents/pbc"), 404)
    assert "there are synthetic" in refusal(client.get("/api/cells/pbc/3"), 404)
    for number in ("-1", "x", "1.5", "99999999999999999999", "NaN"):
        assert "latent" in refusal(client.get(f"/api/latents/{SET}/{number}"), 422)
        assert "row" in refusal(client.get(f"/api/cells/{SET}/{number}/image"), 422)


def test_cells(client: TestClient, data: Any) -> None:
    found = get(client, f"cells/{SET}")
    schemas.cells.CellList.model_validate(found)
    assert found["total"] == data.n_obs
    assert [cell["cell_id"] for cell in found["cells"]] == data.obs_names[:60].tolist()
    part = get(client, f"cells/{SET}", label="blast", patient="P001", offset=1, limit=2)
    rows = np.flatnonzero((data.obs["label"] == "blast") & (data.obs["patient"] == "P001"))
    assert (part["total"], [cell["row"] for cell in part["cells"]]) == (len(rows), rows[1:3].tolist())
    assert get(client, f"cells/{SET}", label="' OR 1=1 --") == {"total": 0, "cells": []}
    assert get(client, f"cells/{SET}", label="")["total"] == data.n_obs
    assert get(client, f"cells/{SET}", offset=10**6) == {"total": data.n_obs, "cells": []}
    for query in ({"limit": 0}, {"limit": 501}, {"offset": -1}, {"label": "x" * 301}):
        assert next(iter(query)) in refusal(client.get(f"/api/cells/{SET}", params=query), 422)


def test_one_cell(client: TestClient, data: Any) -> None:
    for row in (0, 77, data.n_obs - 1):
        found = get(client, f"cells/{SET}/{row}")
        schemas.cells.CellDetail.model_validate(found)
        assert (found["cell_id"], found["label"]) == (data.obs_names[row], data.obs["label"].iloc[row])
        assert (found["width"], found["height"]) == (224, 224)
        means, counts = data.layers["mean_activation"][row].toarray()[0], data.X[row].toarray()[0]
        assert found["n_active"] == (means > 0).sum()
        order = np.argsort(-means, kind="stable")[: int((means > 0).sum())]
        shown = found["concepts"]
        assert [one["mean_activation"] for one in shown] == pytest.approx(means[order], **CLOSE)
        assert {one["latent"]: one["count"] for one in shown} == {int(s): int(counts[s]) for s in order}
        common = data.var["activation_frequency"].to_numpy() > 0.99
        assert all(one["common"] == common[one["latent"]] for one in shown)
        assert {one["common"] for one in shown} == {True, False}
    assert "cells 0 to" in refusal(client.get(f"/api/cells/{SET}/{data.n_obs}"), 404)


def test_pictures(client: TestClient, study: Path, data: Any) -> None:
    path = Path(read_cells(study / "cells.parquet")["path"][11])
    for size in (64, 112, 224, 448):
        answer = client.get(f"/api/cells/{SET}/11/image", params={"size": size})
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"].startswith("private")
        pixels = np.asarray(Image.open(io.BytesIO(answer.content)), float)
        assert pixels.shape == (size, size, 3)
        assert np.abs(pixels - load_squashed(path, size)).mean() < 6
    assert client.get(f"/api/cells/{SET}/11/image").content != client.get(f"/api/cells/{SET}/12/image").content
    tag = answer.headers["etag"]
    again = client.get(f"/api/cells/{SET}/11/image?size=448", headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/api/cells/{SET}/12/image?size=448", headers={"If-None-Match": tag}).status_code == 200
    for size in ("225", "0", "-64", "1e3", "x"):
        assert "size" in refusal(client.get(f"/api/cells/{SET}/11/image?size={size}"), 422)


def test_patches_and_maps(client: TestClient, data: Any, h: Callable[[int], np.ndarray]) -> None:
    common = data.var["activation_frequency"].to_numpy() > 0.99
    for row in (5, 160):
        found = get(client, f"cells/{SET}/{row}/patches")
        schemas.cells.Patches.model_validate(found)
        activations = h(row)[1:]
        left = np.where(common, 0, activations)
        assert len(found["patches"]) == 256
        assert found["top"] == pytest.approx(left.max(), rel=1e-4)
        for patch, of in zip(found["patches"], left, strict=True):
            order = np.argsort(-of, kind="stable")[:12]
            order = order[of[order] > 0]
            assert [s for s, _ in patch] == order.tolist()
            assert [v for _, v in patch] == pytest.approx(of[order], rel=1e-3, abs=1e-4)
        for latent in (3, 250):
            one = get(client, f"cells/{SET}/{row}/maps/{latent}")
            schemas.cells.LatentMap.model_validate(one)
            map_ = activations[:, latent].reshape(16, 16)
            assert one["top"] == pytest.approx(map_.max(), rel=1e-4)
            np.testing.assert_allclose(decoded(one["map"], one["top"]), map_, atol=one["top"] / 500 + 1e-6)
    assert "latents 0 to" in refusal(client.get(f"/api/cells/{SET}/5/maps/384"), 404)
    assert "cells 0 to" in refusal(client.get(f"/api/cells/{SET}/{data.n_obs}/patches"), 404)


def test_without_tokens_the_image_passes_the_backbone(client: TestClient, copied: Path) -> None:
    shutil.rmtree(copied / "tokens")
    live = opened(copied)
    for path in (f"cells/{SET}/5/patches", f"latents/{SET}/9/images/low"):
        before, now = get(client, path), get(live, path)
        assert now["top"] == pytest.approx(before["top"], rel=0.02)
    assert get(live, "study")["has"]["tokens"]
    (copied / "backbone.json").unlink()
    gone = opened(copied)
    assert get(gone, "study")["has"] | {"tokens": False, "uploads": False} == get(gone, "study")["has"]
    assert "backbone.json: missing" in refusal(gone.get(f"/api/cells/{SET}/5/patches"), 404)
    assert [cell["map"] for cell in get(gone, f"latents/{SET}/9/images/low")["cells"]] == [None] * 10
    assert all(cell["map"] for cell in get(gone, f"latents/{SET}/9/images/reference")["cells"])
    assert "No such route" in refusal(gone.post("/api/uploads"), 404)


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
            np.testing.assert_allclose(decoded(cell["map"], found["top"]), map_, atol=found["top"] / 400)
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


def test_quality_measures_of_the_same_concepts(copied: Path) -> None:
    shares = np.linspace(0, 1, 384)
    table = pd.DataFrame({"latent": np.arange(384), f"{SET}/mean_activation": 0.5, "background_share": shares})
    table["best_label"], table["monosemanticity"], table["border_share"] = "blast", np.nan, 0.1
    (copied / "quality").mkdir()
    table.to_parquet(copied / "quality" / "latents.parquet")
    inputs = read_inputs(copied / "concepts")
    Manifest("quality", {}, {**inputs, "attributes": "x"}).save(copied / "quality")
    client = opened(copied)
    assert get(client, "study")["has"]["quality"]
    assert {"background_share", "monosemanticity"} <= {m["key"] for m in get(client, "study")["measures"]}
    found = get(client, f"latents/{SET}")
    schemas.latents.LatentTable.model_validate(found)
    assert found["background_share"] == pytest.approx(shares[found["latent"]], **CLOSE)
    assert set(found["monosemanticity"]) == {None}
    one = get(client, f"latents/{SET}/300")
    assert one["quality"]["best_label"] == "blast"
    assert one["quality"]["monosemanticity"] is None
    assert one["flags"]["background"] is True
    assert get(client, f"latents/{SET}/100")["flags"]["background"] is False
    Manifest("quality", {}, {**inputs, "sae": "another"}).save(copied / "quality")
    assert not get(opened(copied), "study")["has"]["quality"]


def test_images_that_are_gone_or_broken(copied: Path) -> None:
    table = read_cells(copied / "cells.parquet")
    files = [Path(path) for path in table["path"][:5]]
    assert all(file.is_relative_to(copied) for file in files)  # a study can be moved
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes()[:300])
    files[3].write_text("<script>alert(1)</script>")
    files[4].unlink()
    files[4].mkdir()
    client = opened(copied)
    for row, reason in enumerate(("file is missing", "damaged", "", "not a JPEG", "a folder")):
        answer = client.get(f"/api/cells/{SET}/{row}/image")
        if reason:
            assert reason in refusal(answer, 404 if "missing" in reason else 500)
            assert str(copied) not in answer.text
        else:
            assert answer.status_code == 200
        assert get(client, f"cells/{SET}/{row}")["row"] == row
    good = client.get(f"/api/cells/{SET}/2/image").content
    shutil.copy(table["path"][9], files[2])
    assert client.get(f"/api/cells/{SET}/2/image").content != good  # a file that changes is read anew


def test_no_request_names_a_file(copied: Path, study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    app = create_app(study, hosts=["export"])
    (study.parent / "secret.txt").write_text("nobody may read this")
    for path in (
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fapp.py",
        "/assets/..%2f..%2fapp.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/..%5c..%5capp.py",
        f"/api/cells/..%2f{SET}/3/image",
        "/api/cells/..%2f..%2fetc/3/image",
        f"/api/cells/{SET}/..%2f3/image",
        f"/api/cells/{SET}/3/image/..%2f..%2fsecret.txt",
        f"/api/latents/{SET}/3/images/..%2f..%2fsecret",
        "/api/%2e%2e/%2e%2e/secret.txt",
        "/app.py",
        "/\x00",
        "/%00",
        "/" + "a" * 5000,
        "/api/../openapi.py",
    ):
        status, kind, body = asyncio.run(exporting._ask(app, path))  # as it is: a client would tidy the path first
        assert status in {404, 422}, (path, status)
        assert kind == "application/json"
        assert b"nobody may" not in body
        assert b"import" not in body
    table = pd.read_parquet(copied / "cells.parquet")
    table["path"] = table["path"].astype(str)
    table.loc[3, ["path", "cell_id"]] = ["/etc/passwd", "other"]
    table.to_parquet(copied / "cells.parquet")
    address = f"/api/cells/{SET}/3/image"
    assert "no longer that row" in refusal(opened(copied).get(address), 500)
    assert f"explorer: {address}: synthetic-" in capfd.readouterr().err  # its output says so too


def test_foreign_hosts_and_origins(study: Path, client: TestClient) -> None:
    foreign = ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example@127.0.0.1", "[::2]")
    odd = ("", "localhost.", "[::1", "127.0.0.1/x", "a b", "127.0.0.1:x", "evil.example:8765")
    for host in (*foreign, *odd):
        told = refusal(client.get("/api/study", headers={"Host": host}), 400)
        assert "Host not allowed. Open the address that the server printed" in told
        assert "`--public-url`" in told
        forged = {"Host": host, "X-Forwarded-Host": "127.0.0.1", "X-Forwarded-Proto": "http"}
        assert "Host not allowed" in refusal(client.get("/api/study", headers=forged), 400)
    for host in ("localhost:8765", "127.0.0.1", "[::1]:8765", "LOCALHOST"):
        assert client.get("/api/study", headers={"Host": host}).status_code == 200
    named = opened(study, hosts=["lab.example"])
    assert named.get("/api/study", headers={"Host": "lab.example:80"}).status_code == 200
    assert named.get("/api/study").status_code == 400
    body = {"title": "x", "items": [{"dataset": SET, "latent": 3}]}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert "other sites" in refusal(client.post("/api/worklists", json=body, headers=headers), 403)
    assert client.get("/api/study", headers={"Origin": "http://evil.example"}).status_code == 200
    good = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/worklists", json={}, headers=good).status_code == 422
    answer = client.get("/api/study", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_token_guards_everything(study: Path) -> None:
    client = opened(study, token="right-token")
    for path in (
        "/",
        "/api/study",
        f"/api/cells/{SET}/3/image",
        "/openapi.json",
        "/assets/x.js",
        "/api/names",
        "/none",
    ):
        answer = client.get(path)
        assert "token" in refusal(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "token" in refusal(client.get(path, params={"token": "wrong"}), 401)
        assert "token" in refusal(client.get(path, headers={"Authorization": "Bearer right-toke"}), 401)
    assert "token" in refusal(client.put("/api/annotations?token=right-token", json={}), 401)
    assert client.get("/api/study", headers={"Authorization": "bearer right-token"}).status_code == 200
    assert client.get("/api/study", headers={"Authorization": "Basic right-token"}).status_code == 401
    assert client.get("/api/study", headers={"Cookie": "cytosae-8765=wrong"}).status_code == 401
    assert client.get("/api/study", headers={"Cookie": "cytosae-9999=right-token"}).status_code == 401
    given = client.get("/api/synthetic?label=blast&token=right-token&limit=2")
    assert (given.status_code, given.headers["location"]) == (303, "/api/synthetic?label=blast&limit=2")
    cookie = given.headers["set-cookie"].lower()
    assert cookie.startswith("cytosae-8765=right-token")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/study").status_code == 200  # the cookie is kept
    fresh = opened(study, token="right-token")
    away = fresh.get(f"{HERE}//evil.example/?token=right-token")
    assert away.headers["location"].startswith("/evil.example")
    assert fresh.get("/?token=right-token", headers={"Host": "evil.example"}).status_code == 400


def test_headers_of_every_answer(client: TestClient) -> None:
    for path in ("/api/study", f"/api/cells/{SET}/3/image", "/", "/none", "/api/none", "/openapi.json"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/api/study").headers["cache-control"] == "no-store"
    assert client.get("/api/none").json()["detail"] == "No such route."
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.get(path).status_code == 404
    large = client.get(f"/api/latents/{SET}", headers={"Accept-Encoding": "gzip"})
    assert large.headers["content-encoding"] == "gzip"
    refused = client.get("/api/study", headers={"Host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_bodies_end(client: TestClient) -> None:
    assert "larger than 4 MB" in refusal(client.post("/api/worklists", content=b"x" * (4 * 2**20 + 1)), 413)
    seen = 0

    def endless() -> Iterator[bytes]:
        nonlocal seen
        for _ in range(100):
            seen += 2**20
            yield b" " * 2**20

    answer = client.post("/api/worklists", content=endless(), headers={"Content-Type": "application/json"})
    assert "larger than 4 MB" in refusal(answer, 413)
    for length in ("-1", "x", "9" * 30):
        assert client.post("/api/worklists", content=b"{}", headers={"Content-Length": length}).status_code == 413


def jpeg_of(color: int = 90, size: tuple[int, int] = (50, 40), kind: str = "JPEG") -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", size, (color, 20, 200)).save(out, kind)
    return out.getvalue()


def test_uploads(client: TestClient, study: Path, monkeypatch: pytest.MonkeyPatch, h: Callable[[int], Any]) -> None:
    def to_disk(_: object) -> None:
        raise AssertionError("an upload went to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", to_disk)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in study.rglob("*") if "annotations" not in path.name)
    path = Path(read_cells(study / "cells.parquet")["path"][42])
    script = "<img src=x onerror=alert(1)>.jpg"
    files = [("files", ("../../etc/" + path.name, path.read_bytes())), ("files", (script, jpeg_of(kind="PNG")))]
    files.append(("files", ("large.bmp", jpeg_of(size=(900, 900), kind="BMP"))))  # more than a form keeps in memory
    answer = client.post("/api/uploads", files=files)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    schemas.cells.Uploaded.model_validate(found)
    assert [(cell["index"], cell["name"]) for cell in found["cells"]] == [
        (0, path.name),
        (1, script),
        (2, "large.bmp"),
    ]
    assert (found["cells"][1]["width"], found["cells"][1]["height"]) == (50, 40)
    known = get(client, f"cells/{SET}/42")  # the same image: the same concepts as in the study
    mine, theirs = ({c["latent"]: c for c in cell["concepts"]} for cell in (found["cells"][0], known))
    assert found["cells"][0]["n_active"] == pytest.approx(known["n_active"], abs=3)
    for latent in [c["latent"] for c in known["concepts"][:50]]:
        assert mine[latent]["mean_activation"] == pytest.approx(theirs[latent]["mean_activation"], rel=0.03, abs=3e-3)
        assert mine[latent]["count"] == pytest.approx(theirs[latent]["count"], abs=6)
        assert mine[latent]["common"] == theirs[latent]["common"]
    name = found["id"]
    latent = known["concepts"][0]["latent"]
    one = get(client, f"uploads/{name}/0/maps/{latent}")
    np.testing.assert_allclose(decoded(one["map"], one["top"]), h(42)[1:, latent].reshape(16, 16), atol=0.06)
    patches = get(client, f"uploads/{name}/0/patches")
    assert patches["top"] == pytest.approx(get(client, f"cells/{SET}/42/patches")["top"], rel=0.03)
    image = client.get(f"/api/uploads/{name}/1/image?size=112")
    assert Image.open(io.BytesIO(image.content)).size == (112, 112)
    for where in (f"{name}/3/image", "other/0/image", f"{name}/3/patches", f"other/0/maps/{latent}"):
        assert "dropped" in refusal(client.get(f"/api/uploads/{where}"), 404)
    assert "latents 0 to" in refusal(client.get(f"/api/uploads/{name}/0/maps/384"), 404)
    after = sorted((str(path), path.stat().st_mtime_ns) for path in study.rglob("*") if "annotations" not in path.name)
    assert before == after


def test_uploads_that_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(*files: tuple[str, bytes]) -> Any:
        return client.post("/api/uploads", files=[("files", file) for file in files])

    for data in (b"<script>alert(1)</script>", b"", b"GIF89a" + b"\0" * 40, jpeg_of()[:200], b"%PDF-1.4"):
        assert "cell.png" in refusal(sent(("cell.png", data)), 415)
    assert "20 files" in refusal(sent(*[(f"{i}.jpg", jpeg_of()) for i in range(21)]), 413)
    assert "No file" in refusal(client.post("/api/uploads", files=[("other", ("a.jpg", jpeg_of()))]), 422)
    assert "form-data" in refusal(client.post("/api/uploads", json={"files": []}), 415)
    assert "form-data" in refusal(client.post("/api/uploads"), 415)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        headers = {"Content-Type": kind}
        assert "Not a form" in refusal(client.post("/api/uploads", content=b"--y\r\nzzz", headers=headers), 400)
    wide = jpeg_of(size=(8000, 7000), kind="PNG")
    assert "megapixels" in refusal(sent(("wide.png", wide)), 413)
    large = client.post("/api/uploads", headers={"Content-Length": str(uploads.BODY + 1)}, content=b"")
    assert "larger than" in refusal(large, 413)
    monkeypatch.setattr(uploads, "FILE_BYTES", 1000)
    assert "A file is larger" in refusal(sent(("a.bmp", jpeg_of(kind="BMP"))), 413)
    none = opened(Path(str(client.app.state.study)), uploads=False)
    assert "No such route" in refusal(none.post("/api/uploads", files=[("files", ("a.jpg", jpeg_of()))]), 404)


def test_uploads_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_CELLS", 5)
    kept = uploads.Uploads()
    cells: Any = [object(), object()]
    names = [kept.add(cells) for _ in range(3)]
    assert len(set(names)) == 3
    assert len(kept) == 4  # the first made room
    assert kept.cell(names[2], 1) is cells[1]
    with pytest.raises(Exception, match="dropped"):
        kept.cell(names[0], 0)
    monkeypatch.setattr(uploads, "SECONDS", 0.05)
    name = kept.add(cells)
    for _ in range(3000):
        time.sleep(0.02)
        if name not in kept._uploads:
            break
    assert name not in kept._uploads
    assert names[2] in kept._uploads


def test_folders_that_are_no_study(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(CytosaeError, match=r"cells.parquet: missing.*cytosae run"):
        create_app(tmp_path)
    client = opened(copied)
    assert get(client, f"cells/{SET}/3")["row"] == 3
    path, _ = concept_files(copied / "concepts", SET)
    folder = copied / "concepts"
    manifest = Manifest.load(folder)
    assert manifest is not None
    os.utime(folder / "manifest.json", ns=(1, 1))  # as when names are written into the same concepts
    assert get(client, f"cells/{SET}/3")["row"] == 3
    Manifest(
        "concepts", manifest.parameters, {**manifest.inputs, "tokens": "other"}, manifest.outputs, manifest.summary
    ).save(folder)
    assert "made anew" in refusal(client.get(f"/api/cells/{SET}/3"), 500)
    path.write_bytes(b"not HDF5")
    assert f"{SET}.h5ad: not a readable AnnData" in refusal(opened(copied).get(f"/api/latents/{SET}"), 500)
    (copied / "sae" / "model.safetensors").unlink()
    with pytest.raises(CytosaeError, match=r"model.safetensors: missing"):
        create_app(copied)


def test_damaged_files_are_a_fault_of_the_server_and_stop_an_export(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file spoilt in turn: its answers are 500 and name it, and an export ends, names the page, leaves nothing."""
    _, maps = concept_files(copied / "concepts", SET)
    barcodes = copied / "cohort" / "barcodes.h5ad"
    latent = int(np.flatnonzero(read_concepts(copied / "concepts", SET).var["is_concept"])[0])
    shard = max((copied / "tokens").glob("*.safetensors"), key=lambda path: path.stat().st_size)
    image = Path(read_cells(copied / "cells.parquet")["path"][0])
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("the earlier export")
    Manifest(exporting.STAGE, {}, {}, {"index.html": FileRecord.from_file(folder / "index.html")}, {}).save(folder)
    earlier = sorted(folder.iterdir())

    async def none(*_: Any) -> None:
        """Patients and comparisons take their time."""

    monkeypatch.setattr(exporting._Export, "_patients", none)
    monkeypatch.setattr(exporting._Export, "_comparisons", none)
    weights = copied / "sae" / "model.safetensors"
    tried = (
        (barcodes, "patients", "study", lambda raw: raw[: len(raw) // 2]),
        (maps, f"latents/{SET}", f"latents/{SET}", lambda raw: raw[:40]),
        (shard, f"cells/{SET}/0/patches", "/patches", lambda raw: raw[:40]),
        (image, f"cells/{SET}/0/image", "", lambda raw: raw[:300]),
    )
    for file, path, page, spoil in tried:
        whole = file.read_bytes()
        file.write_bytes(spoil(whole))
        study = opened(copied)
        assert file.name in refusal(study.get(f"/api/{path}"), 500) or file in {shard, image}
        assert study.get("/api/nothing").status_code == 404
        if page:
            with pytest.raises(CytosaeError, match=f"--export: the page .*{page}.* cannot be made"):
                export(copied, folder, concepts=1)
            assert sorted(tmp_path.iterdir()) == [copied, folder]
            assert sorted(folder.iterdir()) == earlier
        file.write_bytes(whole)
    weights.write_bytes(b"x" * weights.stat().st_size)  # not those that the concepts were encoded with
    assert get(opened(copied), f"latents/{SET}/{latent}")["similar"] == []


def test_an_unexpected_failure_names_its_page(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> bytes:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("cytosae.explorer.routes.latents.latent_table", fails)
    folder = tmp_path / "page"
    with pytest.raises(CytosaeError, match=rf"the page latents/{SET} cannot be made: ZeroDivisionError: nobody"):
        export(study, folder, annotations=f"sqlite:///{tmp_path}/none.sqlite")
    client = TestClient(create_app(study), base_url=HERE, raise_server_exceptions=False)
    assert "ZeroDivisionError" in refusal(client.get(f"/api/latents/{SET}"), 500)


def test_rows_on_disk(study: Path) -> None:
    path, _ = concept_files(study / "concepts", SET)
    with h5py.File(path) as file:
        for rows in ([5, 3, 4, 100, 3], [0], [169], list(range(40, 60)), []):
            mine, theirs = read_rows(file, rows), read_activations(study / "concepts", SET, rows)
            for a, b in zip(mine, theirs, strict=True):
                assert a.shape == (len(rows), 384)
                if rows:
                    assert a.dtype == b.dtype
                    assert (a != b).nnz == 0


def test_what_is_kept_is_bounded_and_made_once() -> None:
    made = []

    @bounded(10)
    def make(name: str, length: int = 4) -> bytes:
        made.append(name)
        time.sleep(0.05)
        if name == "d":
            raise ValueError("no")
        return name.encode() * length

    threads = [threading.Thread(target=make, args=("a",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    assert make("b") == b"bbbb"
    assert make("a") == b"aaaa"  # now b is the longest unused
    make("c")
    assert make.cache.currsize == 8
    make("a")
    make("b")
    assert made == ["a", "b", "c", "b"]
    for _ in range(2):
        assert make("large", 3) == b"large" * 3  # not kept, and nothing else is given up for it
    assert made[4:] == ["large", "large"]
    assert make.cache.currsize == 8
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            make("d")


def test_short_numbers() -> None:
    values = np.array([0, np.nan, np.inf, -1.23456789, 1.23456789e-12, 98765432.1, 1])
    assert shortened(values) == [0, None, None, -1.23457, pytest.approx(1.23457e-12), pytest.approx(98765400), 1]
    assert [schemas.values.short(v) for v in values] == [0, None, None, -1.23457, 1.23457e-12, 98765400, 1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(host.replace("127", "128").replace("::1", "::2").replace("local", "foreign"))


KNOWN = {"dataset": SET, "id": "P003", "kind": "random", "first": "healthy", "second": "NPM1", "worklist": 1}
TOKEN = "token-of-the-fuzz"
OWNER = {"Authorization": f"Bearer {TOKEN}", "Origin": HERE, "Sec-Fetch-Site": "same-origin"}


def at_what_is_there(case: Any, upload: str, sae: str, number: int) -> None:
    """Turn a generated request to cells, latents and worklists of the study, for the rest as it is."""
    numbers = {key: value % 20 for key, value in case.path_parameters.items() if isinstance(value, int)}
    case.path_parameters |= numbers | {key: value for key, value in KNOWN.items() if key in case.path_parameters}
    if "uploads" in case.path:
        case.path_parameters |= {"id": upload, "index": 0}
    if case.method == "PUT":  # an annotation of a rater who has not said anything
        case.body |= {"dataset": SET, "latent": number % 20, "version": 0, "rater": f"rater {number}", "worklist": None}
    for place, item in enumerate(case.body.get("items", []) if isinstance(case.body, dict) else []):
        item |= {"dataset": SET, "latent": place % 384}
    if case.path.endswith("/import"):
        case.body["inputs"] = {"sae": sae}


def test_no_request_of_the_described_kinds_breaks_it(copied: Path) -> None:
    """Whatever comes to any route, reading or writing, the answer is one of those that the API describes; never 500."""
    app = create_app(copied, token=TOKEN, hosts=["127.0.0.1", "testserver"])
    client = TestClient(app, base_url=HERE, headers=OWNER)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=OWNER)
    wanted = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    every = [schemathesis.checks.CHECKS.get_one(name) for name in wanted]
    sae = read_inputs(copied / "concepts")["sae"]
    sent = client.post("/api/uploads", files=[("files", ("a.png", jpeg_of(kind="PNG")))])
    made = client.post("/api/worklists", json={"title": "first", "items": [{"dataset": SET, "latent": 3}]})
    assert made.json()["id"] == KNOWN["worklist"]
    statuses: dict[str, set[int]] = {"POST /api/uploads": {sent.status_code}}
    count = 0

    @settings(max_examples=5, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=strategies.data())
    def ask(operation: Any, data: Any) -> None:
        nonlocal count
        case = data.draw(operation.as_strategy())
        pairs = operation.path == "/api/study" or operation.path.endswith("/patches")
        checks = every[:3] if pairs else every  # schemathesis cannot read `prefixItems`; other tests check those two
        for aimed in (False, True):  # as it comes, and at what is there
            if aimed:
                count += 1
                at_what_is_there(case, sent.json()["id"], sae, count)
            answer = case.call(base_url=HERE, headers=OWNER)
            case.validate_response(answer, checks=checks)
            statuses.setdefault(operation.label, set()).add(answer.status_code)

    for operation in schema.get_all_operations():
        ask(operation.ok())
    described = {f"{method.upper()} {path}" for path, of in app.openapi()["paths"].items() for method in of}
    assert set(statuses) == described
    assert {label.partition(" ")[0] for label in described} == {"GET", "POST", "PUT", "PATCH"}
    for label, seen in statuses.items():
        assert {200, 201} & seen, (label, seen)
        assert not {401, 403} & seen, (label, seen)


def test_static_export(
    study: Path, exported_study: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "CompareConfig", lambda: CompareConfig(permutations=50, bootstrap=20))
    client = opened(study)
    folder, figures = exported_study
    assert sorted(path.name for path in folder.parent.iterdir()) == ["page"]
    page = (folder / "index.html").read_text()
    assert '<head>\n<meta name="cytosae-static" content="true">' in page
    assert "default-src 'none'" in page
    assert "frame-ancestors" not in page
    assert sorted(path.name for path in (folder / "assets").iterdir()) == sorted(
        path.name for path in (BUNDLE / "assets").iterdir()
    )
    files = [path.relative_to(folder / "data") for path in (folder / "data").rglob("*") if path.is_file()]
    assert figures["files"] == len(files)
    assert figures["missing"] == 0
    about = json.loads((folder / "data" / "study.json").read_text())
    live = get(client, "study")
    assert about["static"]
    assert not about["has"]["uploads"]
    of_the_server = {"static", "exported", "has", "annotations"}
    assert {k: v for k, v in about.items() if k not in of_the_server} == {
        k: v for k, v in live.items() if k not in of_the_server
    }
    kinds: Counter[str] = Counter()
    for path in sorted(files):
        kind = re.sub(r"\d+", "0", path.as_posix())
        kinds[kind] += 1
        if path.name == "study.json" or kinds[kind] > 6:  # six of each kind
            continue
        answer = client.get("/api/" + path.with_suffix("").as_posix())
        assert answer.status_code == 200, path
        assert (folder / "data" / path).read_bytes() == answer.content, path
    table = get(client, f"latents/{SET}")
    strongest = np.array(table["latent"])[np.argsort(-np.array(table["mean_activation"]))[:3]]
    pages = about["exported"][SET]
    assert set(strongest.tolist()) <= set(pages)
    names = {path.as_posix() for path in files}
    for latent in pages:
        assert f"latents/{SET}/{latent}.json" in names
        for kind in ("reference", "random"):
            for cell in json.loads((folder / "data" / f"latents/{SET}/{latent}/images/{kind}.json").read_text())[
                "cells"
            ]:
                of = f"cells/{SET}/{cell['row']}"
                assert {f"{of}.json", f"{of}/image.jpg", f"{of}/patches.json", f"{of}/maps/{latent}.json"} <= names
    assert {"names.json", "annotations.json", "patients.json", "patients/P000.json"} <= names
    assert "compare/healthy/rest.json" in names
    assert "compare/NPM1/healthy.json" in names
    for row in get(client, "patients/P000")["against"]["concepts"]:
        assert row["latent"] in pages


def test_an_export_is_whole_or_not_there(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def little(self: Any) -> dict[str, Any]:
        self._write_file("study", b"{}")
        return {"files": self.files}

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    folder = tmp_path / "page"
    with pytest.raises(CytosaeError, match="build it in frontend"):
        export(study, folder, bundle=bundle)
    (bundle / "index.html").write_text("<html><head></head></html>")
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("x")
    for other in (foreign, study, study / "report", bundle / "index.html"):
        with pytest.raises(CytosaeError, match="--export"):
            export(study, other, bundle=bundle)
    assert (foreign / "thesis.txt").read_text() == "x"

    async def fails(self: Any) -> dict[str, Any]:
        self._write_file("study", b"{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting._Export, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        export(study, folder, bundle=bundle)
    assert not folder.exists()
    monkeypatch.setattr(exporting._Export, "write", little)
    (tmp_path / ".page.cytosae-partial").mkdir()  # of a run that was killed
    folder.mkdir()
    assert export(study, folder, bundle=bundle) == {"folder": str(folder), "files": 1}
    monkeypatch.setattr(exporting._Export, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        export(study, folder, bundle=bundle)
    assert (folder / "data" / "study.json").read_text() == "{}"  # the earlier one
    monkeypatch.setattr(exporting._Export, "write", little)
    assert export(study, folder, bundle=bundle)["files"] == 1
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".page")]


def test_an_export_goes_where_a_link_leads(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_written", lambda _, data, *__: {"files": len(list(data.parent.iterdir()))})
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        export(study, tmp_path / "link", concepts=1)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "index.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if "cytosae" in path.name) == []


def test_an_export_makes_nothing_in_the_study(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def little(self: Any) -> dict[str, Any]:
        assert await self._json("names") == {}
        return {}

    monkeypatch.setattr(exporting._Export, "write", little)
    for file in copied.glob("annotations.sqlite*"):
        file.unlink()
    before = sorted(copied.rglob("*"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "index.html").write_text("<html><head></head></html>")
    export(copied, tmp_path / "page", bundle=bundle)
    assert sorted(copied.rglob("*")) == before


def asked(address: str) -> tuple[int, bytes]:
    """Status and body of an answer of a running server."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with opener.open(address, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_command(study: Path) -> None:
    command = [sys.executable, "-m", "cytosae", "explore", str(study), "--port", "0", "--no-open"]
    with subprocess.Popen(
        [*command, "--token", "some-token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            assert address.endswith("/?token=some-token")
            base = address.partition("?")[0]
            assert asked(f"{base}api/study")[0] == 401
            status, body = asked(f"{base}api/study?token=some-token")  # along the redirect, with the cookie
            assert status == 200
            assert json.loads(body)["name"] == "study"
            port = base.split(":")[2].rstrip("/")
            taken = subprocess.run(
                [*command[:-3], "--port", port, "--no-open"], capture_output=True, text=True, check=False, timeout=60
            )
            assert taken.returncode == 2
            assert "in use" in taken.stderr
        finally:
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=30)
    assert server.returncode == 0, errors
    assert "Traceback" not in errors
    assert "stopped" in errors


def test_what_is_heavy_is_made_once_for_all_threads() -> None:
    made: list[int] = []

    def slow() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    get = _once(slow)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, found) == ([1], [1] * 8)


def test_annotations_load_no_server() -> None:
    code = (
        "import sys, cytosae.explorer as e, cytosae.explorer.annotations; "
        "assert 'cytosae.explorer.app' not in sys.modules; assert callable(e.create_app)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_command_without_its_packages(study: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from cytosae.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "explore", str(study)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'cytosae[explorer]'" in done.stderr


def test_every_server_has_a_token_unless_the_user_says_no(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cytosae.explorer import serving

    made: dict[str, Any] = {}

    def app(folder: Path, **given: Any) -> None:
        made.update(given)
        raise CytosaeError("enough")

    monkeypatch.setattr(serving, "create_app", app)
    tokens = set()
    for host in ("0.0.0.0", "127.0.0.1", "localhost"):
        with pytest.raises(CytosaeError, match="enough"):
            serving.serve(study, host=host, port=0)
        assert len(made["token"]) >= 30
        assert {"127.0.0.1", "localhost"} <= set(made["hosts"])
        tokens.add(made["token"])
        with pytest.raises(CytosaeError, match="enough"):
            serving.serve(study, host=host, port=0, no_token=True)
        assert made["token"] is None
    assert len(tokens) == 3
    with pytest.raises(CytosaeError, match="--no-token: --token"):
        serving.serve(study, port=0, no_token=True, token="some-token")
    for token in ("", "short", "with space here", "ünïcödé-token"):
        with pytest.raises(CytosaeError, match="--token"):
            serving.serve(study, token=token, port=0)
    for host in ("203.0.113.9", "no such host", ""):
        with pytest.raises(CytosaeError, match=r"not an address|enough"):
            serving.serve(study, host=host, port=0)
