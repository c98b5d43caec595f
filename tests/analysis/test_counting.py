"""`cytosae count`: shares of predicted types by patient, beside an expert's, never taken for a diagnosis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.cells import read_cells
from support.commands import ask, invoke, refused


@pytest.fixture(scope="module")
def labels(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counted")
    cells = read_cells(drawn_study / "cells.parquet")
    cells[["cell_id", "path", "dataset", "patient", "label"]].to_csv(folder / "cells.csv", index=False)
    ask("label", folder / "cells.csv", "--from", drawn_study, "-o", folder / "labels", "--accuracy", "0.8")
    return folder / "labels"


def test_counts_by_patient_beside_the_stated_labels(labels: Path, tmp_path: Path) -> None:
    found = ask("count", labels, "-o", tmp_path / "counts")
    table, cells = pd.read_csv(tmp_path / "counts" / "counts.csv"), pd.read_csv(labels / "labels.csv")
    assert "Not for diagnosis" in found["notice"]
    assert found["by"] == "patient"
    assert found["units"] == cells["patient"].nunique() == table["patient"].nunique()
    for patient, own in table.groupby("patient"):
        mine = cells[cells["patient"] == patient]
        assert own["share"].sum() == pytest.approx(1)
        assert own["answered_cells"].sum() == mine["label"].notna().sum()
        assert (own["cells"] == len(mine)).all()
        stated = mine["stated_label"].value_counts(normalize=True)
        assert own["expert"].to_numpy() == pytest.approx(own["label"].map(stated).fillna(0).to_numpy())
    known = found["expert"]
    assert known["difference"] == pytest.approx((table["share"] - table["expert"]).abs().mean())
    assert known["difference"] < 0.15
    whole = ask("count", labels, "-o", tmp_path / "dataset", "--by", "dataset")
    assert whole["units"] == 1
    before = (tmp_path / "counts" / "counts.csv").read_bytes()
    assert ask("count", labels, "-o", tmp_path / "counts") == found
    assert (tmp_path / "counts" / "counts.csv").read_bytes() == before


def test_an_experts_table_is_set_beside(labels: Path, tmp_path: Path) -> None:
    table = pd.read_csv(labels / "labels.csv")
    first = str(table["patient"].iloc[0])
    kinds = json.loads((labels / "labels.json").read_text())["classes"]
    rows = [{"patient": first, "label": kinds[0], "count": 3}, {"patient": first, "label": "mast cell", "count": 1}]
    pd.DataFrame(rows).to_csv(tmp_path / "expert.csv", index=False)
    found = ask("count", labels, "-o", tmp_path / "c", "--expert", tmp_path / "expert.csv")
    assert found["expert"]["units"] == 1
    assert found["expert"]["types_unknown_to_the_probe"] == ["mast cell"]
    counts = pd.read_csv(tmp_path / "c" / "counts.csv").set_index(["patient", "label"])
    assert counts.loc[(first, kinds[0]), "expert"] == 0.75
    others = counts[counts.index.get_level_values("patient") != first]
    assert np.isnan(others["expert"]).all()


def test_what_cannot_be_counted_is_refused(labels: Path, tmp_path: Path) -> None:
    assert "cytosae label" in refused("count", tmp_path, "-o", tmp_path / "c")
    assert "--by ward" in refused("count", labels, "-o", tmp_path / "c", "--by", "ward")
    (tmp_path / "e.csv").write_text("patient,label\nx,y\n")
    assert "count or share" in refused("count", labels, "-o", tmp_path / "c", "--expert", tmp_path / "e.csv")
    (tmp_path / "e.csv").write_text("patient,label,count\nnobody,y,1\n")
    assert "none of its patient" in refused("count", labels, "-o", tmp_path / "c", "--expert", tmp_path / "e.csv")
    assert not (tmp_path / "c").exists()
    assert "Not for diagnosis" in invoke("count", "--help").stdout
