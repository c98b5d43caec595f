"""Fields in the explorer: cells where the table says, rejected objects with reasons, patients' contact sheets."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.concepts import read_concepts
from cytosae.fields import BOX, read_field_cells
from support.explorer import get, opened, refusal
from support.smears import smear_study

SET = "smear"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smear_study(tmp_path_factory.mktemp("fields"))


@pytest.fixture(scope="module")
def client(study: Path) -> TestClient:
    return opened(study)


def test_fields_of_a_data_set_and_of_a_patient(client: TestClient, study: Path) -> None:
    assert get(client, "study")["has"]["fields"]
    cells, rejected = read_field_cells(study.parent / "cells"), pd.read_csv(study.parent / "cells" / "rejected.csv")
    fields = get(client, f"fields/{SET}")["fields"]
    assert [field["name"] for field in fields] == [f"slide {k}.png" for k in range(4)]
    for field in fields:
        assert field["cells"] == (cells["field"] == field["name"]).sum()
        assert field["rejected"] == (rejected["field"] == field["name"]).sum()
        assert field["patient"] == f"P{field['index'] // 2}"
    assert [field["index"] for field in get(client, f"fields/{SET}", patient="P1")["fields"]] == [2, 3]


def test_a_field_has_its_cells_with_counts_and_what_was_rejected(client: TestClient, study: Path) -> None:
    cells, data = read_field_cells(study.parent / "cells"), read_concepts(study / "concepts", SET)
    field = get(client, f"fields/{SET}/1")
    latent = field["concepts"][0]["latent"]
    assert all(one["count"] is None for one in field["objects"])
    field = get(client, f"fields/{SET}/1", latent=latent)
    own = cells[cells["field"] == "slide 1.png"].set_index("cell_id")
    assert {one["cell_id"] for one in field["objects"]} == {*own.index}
    for one in field["objects"]:
        assert data.obs_names[one["row"]] == one["cell_id"]
        assert one["box"] == own.loc[one["cell_id"], list(BOX)].tolist()
        assert one["count"] == data.X[one["row"], latent]
        assert get(client, f"cells/{SET}/{one['row']}")["field"]["box"] == one["box"]
    rows = [one["row"] for one in field["objects"]]
    assert field["concepts"][0]["mean"] == pytest.approx(float(np.asarray(data.X[rows][:, latent].mean())))
    rejected = pd.read_csv(study.parent / "cells" / "rejected.csv")
    assert [one["reason"] for one in field["refused"]] == rejected[rejected["field"] == "slide 1.png"][
        "reason"
    ].tolist()


def test_the_image_is_the_field(client: TestClient, study: Path) -> None:
    answer = client.get(f"/api/fields/{SET}/2/image")
    with Image.open(io.BytesIO(answer.content)) as image:
        shown = np.asarray(image).astype(int)
    with Image.open(study.parent / "smear" / "slide 2.png") as image:
        assert np.abs(shown - np.asarray(image)).mean() < 4
    small = client.get(f"/api/fields/{SET}/2/image", params={"size": "320"})
    with Image.open(io.BytesIO(small.content)) as image:
        assert image.size == (320, 240)
    known = {"If-None-Match": answer.headers["ETag"]}
    assert client.get(f"/api/fields/{SET}/2/image", headers=known).status_code == 304


def test_what_is_not_there_is_said(client: TestClient, study: Path, tmp_path: Path) -> None:
    assert "fields 0 to 3" in refusal(client.get(f"/api/fields/{SET}/9"), 404)
    refusal(client.get(f"/api/fields/{SET}/1", params={"latent": 99999}), 404)
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    table = pd.read_parquet(copy / "cells.parquet").drop(columns="field")
    table.to_parquet(copy / "cells.parquet")
    other = opened(copy)
    assert not get(other, "study")["has"]["fields"]
    assert "cytosae fields" in refusal(other.get(f"/api/fields/{SET}"), 404)
    assert get(other, f"cells/{SET}/0")["field"] is None
