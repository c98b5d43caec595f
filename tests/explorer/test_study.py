"""What the explorer answers of a study, and of one that is damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from cytosae.artefacts import FileRecord, Manifest
from cytosae.cells import read_cells
from cytosae.concepts import concept_files, read_concepts, read_inputs
from cytosae.errors import CytosaeError
from cytosae.explorer import create_app, export, exporting, schemas
from support.explorer import CLOSE, HERE, get, opened, refusal
from support.studies import SET


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
    assert found.has == schemas.study.Has(
        patients=True, classification=True, quality=False, tokens=True, uploads=True, fields=False
    )
    assert found.groups["diagnosis"] == sorted(data.obs["diagnosis"].unique())
    assert found.groups["laboratory"] == sorted(data.obs["laboratory"].unique())
    table = get(client, f"latents/{SET}")
    assert {m.key for m in found.measures} == set(table) - {
        "latent",
        "concept",
        "alike",
        "top_label",
        "typical_label",
        "beside",
    }


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
    assert get(client, f"latents/{SET}/100")["flags"] == {"border": ANY, "background": False, "position": ANY}
    Manifest("quality", {}, {**inputs, "sae": "another"}).save(copied / "quality")
    assert not get(opened(copied), "study")["has"]["quality"]


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
