"""`cytosae fields`: a table for `run` in which every cell has its place; large fields in tiles; interrupted and repeated."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.fields import counts
from PIL import Image

from cytosae.artefacts import Manifest
from cytosae.fields import BOX, cut_out, find_in_tiles, read_field_cells, read_fields, stage, workers
from cytosae.settings import FieldConfig
from cytosae.synthetic import DrawnField, FieldSpec, render_field
from support.commands import ask, refused


def test_cells_lie_where_the_table_says(found: Path, drawn: dict[str, DrawnField]) -> None:
    cells = read_field_cells(found)
    totals = np.zeros(3, int)
    for name, field in drawn.items():
        own = cells[cells["field"] == name]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in own[list(BOX)].itertuples(index=False)]
        totals += counts(boxes, field)
        assert own["mpp"].iloc[0] == pytest.approx(field.mpp, rel=0.1)
        assert ((own["mpp_low"] < own["mpp"]) & (own["mpp"] < own["mpp_high"])).all()
        assert set(own["mpp_from"]) == {"red cells"}
        row = own.iloc[0]
        image = np.asarray(Image.open(found / row["path"]))
        box = tuple(int(row[column]) for column in BOX)
        assert (image == cut_out(field.pixels, box, float(row["mpp"]), 25.0, 224)).all()  # type: ignore[arg-type]
    assert totals[0] / totals[:2].sum() > 0.85
    assert cells["score"].between(0, 1).all()


def test_columns_of_the_fields_are_carried_over_and_run_takes_the_table(found: Path, tmp_path: Path) -> None:
    cells = read_field_cells(found)
    assert dict(zip(cells["field"], cells["patient"], strict=True)) == {
        "slide 0.png": "P0",
        "slide 1.png": "P0",
        "slide 2.png": "P1",
    }
    assert set(cells["slide"]) == {"S0", "S1", "S2"}
    listed = ask("cells", found / "cells.csv", "-o", tmp_path / "cells.parquet")
    assert listed["cells"] == len(cells)
    table = pd.read_parquet(tmp_path / "cells.parquet")
    assert (table[list(BOX)].to_numpy() == cells[list(BOX)].to_numpy()).all()
    assert len(read_fields(found)) == 3


def test_what_is_left_out_has_a_reason(found: Path) -> None:
    rejected = pd.read_csv(found / "rejected.csv")
    assert rejected["reason"].notna().all()
    assert (rejected["field"] == "broken.png").sum() == 1
    assert {"platelet"} <= {*rejected["reason"]}


def test_repeating_does_nothing_and_a_killed_run_resumes(
    source: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ask("fields", source, "-o", found)
    assert "cut" not in again
    calls: list[int] = []
    real = workers.find_in_tiles

    def failing(*given: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "find_in_tiles", failing)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stage.find_cells_of_fields(source, tmp_path / "other")
    assert not (tmp_path / "other" / "cells.csv").exists()
    stage.find_cells_of_fields(source, tmp_path / "other")
    assert len(calls) == 4  # the first field is not searched again
    for name in ("cells.csv", "rejected.csv"):
        assert (tmp_path / "other" / name).read_bytes() == (found / name).read_bytes()
    assert not (tmp_path / "other" / "cytosae-pieces").exists()


def test_changed_settings_make_it_anew_and_files_of_others_stay(source: Path, found: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(found, tmp_path / "fields"))
    before = {path.name for path in (copy / "images").iterdir()}
    (copy / "images" / "mine.png").write_bytes(b"x")
    changed = ask("fields", source, "-o", copy, "--mpp", "0.14")
    assert changed["scale"] == {"option": 3}
    assert changed["cut"] == changed["cells"]
    after = {path.name for path in (copy / "images").iterdir()}
    assert after & before == set()
    assert "mine.png" in after
    manifest = Manifest.load(copy)
    assert manifest is not None
    assert manifest.parameters["mpp"] == 0.14
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "cells.csv").write_text("mine")
    assert "exists already" in refused("fields", source, "-o", tmp_path / "taken")
    assert (tmp_path / "taken" / "cells.csv").read_text() == "mine"


def test_scales_come_from_column_option_and_other_fields(drawn: dict[str, DrawnField], tmp_path: Path) -> None:
    field = drawn["slide 0.png"]
    Image.fromarray(field.pixels).save(tmp_path / "a.png")
    rich = pd.DataFrame({"path": ["a.png"], "mpp": [field.mpp]})
    rich.to_csv(tmp_path / "known.csv", index=False)
    assert ask("fields", tmp_path / "known.csv", "-o", tmp_path / "1")["scale"] == {"column": 1}
    bare = render_field(FieldSpec(cells=20, red_cells=0), 8)
    Image.fromarray(bare.pixels).save(tmp_path / "b.png")
    pd.DataFrame({"path": ["a.png", "b.png"]}).to_csv(tmp_path / "two.csv", index=False)
    assert ask("fields", tmp_path / "two.csv", "-o", tmp_path / "2")["scale"] == {"red cells": 1, "other fields": 1}
    pd.DataFrame({"path": ["b.png"]}).to_csv(tmp_path / "none.csv", index=False)
    assert "--mpp" in refused("fields", tmp_path / "none.csv", "-o", tmp_path / "3")
    rich.assign(mpp="wide").to_csv(tmp_path / "bad.csv", index=False)
    assert "'wide'" in refused("fields", tmp_path / "bad.csv", "-o", tmp_path / "4")


def test_tiles_find_what_the_whole_finds() -> None:
    field = render_field(FieldSpec(width=2600, height=600, cells=8), 2)
    assert field.pixels.shape[1] * field.mpp > 1.5 * 200
    whole = find_in_tiles(field.pixels, field.mpp, FieldConfig())
    from cytosae.fields import detecting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detecting, "TILE", 90.0)
        tiled = find_in_tiles(field.pixels, field.mpp, FieldConfig())
    first, second = ([one.box for one in found if one.reason is None] for found in (whole, tiled))
    hit, missed, _ = counts(second, field)
    assert hit / (hit + missed) > 0.9
    assert abs(len(first) - len(second)) <= 0.1 * len(first)
    assert len(second) == len({*second})
    assert not any(
        one.at_border for one in tiled if one.box[0] > 5 and one.box[1] > 5 and one.box[2] < 2595 and one.box[3] < 595
    )


def test_a_cell_at_the_border_is_completed_by_reflection() -> None:
    field = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)
    cell = cut_out(field, (0, 0, 10, 10), 1.0, 20.0, 20)
    assert (cell[5:, 5:] == field[:15, :15]).all()
    assert (cell[:5, 5:] == field[4::-1, :15]).all()
    assert (cell[5:, :5] == field[:15, 4::-1]).all()
    assert cut_out(field, (10, 10, 10, 10), 1.0, 200.0, 64).shape == (64, 64, 3)
