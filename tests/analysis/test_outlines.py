"""`cytosae outline`: GeoJSON keeps to its schema, boxes come back unchanged, and a correction redoes only itself."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from cytosae.fields import read_features, read_field_cells, write_features
from cytosae.synthetic import FieldSpec, render_field
from support.commands import ask, refused
from support.geojson import SCHEMA, is_closed, signed_area


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smear")
    for k in range(2):
        Image.fromarray(render_field(FieldSpec(cells=12), 70 + k).pixels).save(folder / f"field {k}.png")
    return folder


@pytest.fixture(scope="module")
def cells(smear: Path) -> Path:
    ask("fields", smear, "-o", smear.parent / "cells")
    return smear.parent / "cells"


def test_geojson_keeps_to_its_schema(cells: Path, tmp_path: Path) -> None:
    answer = ask("outline", cells, "-o", tmp_path / "out")
    files = sorted((tmp_path / "out").glob("*.geojson"))
    assert answer["files"] == len(files) == 2
    for file in files:
        content = json.loads(file.read_text())
        jsonschema.validate(content, SCHEMA)
        for feature in content["features"]:
            (ring,) = feature["geometry"]["coordinates"]
            assert is_closed(ring)
            assert signed_area(ring) > 0
    assert sum(len(read_features(file)) for file in files) == len(read_field_cells(cells))


def test_the_round_trip_is_stable_to_the_byte(smear: Path, cells: Path, tmp_path: Path) -> None:
    ask("outline", cells, "-o", tmp_path / "out")
    for file in (tmp_path / "out").glob("*.geojson"):
        write_features(tmp_path / "again.geojson", read_features(file))
        assert (tmp_path / "again.geojson").read_bytes() == file.read_bytes()
    ask("fields", smear, "-o", tmp_path / "cells", "--boxes", tmp_path / "out")
    ask("outline", tmp_path / "cells", "-o", tmp_path / "back")
    for file in (tmp_path / "out").glob("*.geojson"):
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()


def test_of_corrected_boxes_only_the_changed_are_cut_out_again(smear: Path, cells: Path, tmp_path: Path) -> None:
    ask("outline", cells, "-o", tmp_path / "out")
    ask("fields", smear, "-o", tmp_path / "cells", "--boxes", tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells" / "images").iterdir()}
    file = sorted((tmp_path / "out").glob("*.geojson"))[0]
    content = read_features(file)
    ring = np.array(content[0]["geometry"]["coordinates"][0]) + 7
    content[0]["geometry"]["coordinates"] = [ring.tolist()]
    write_features(file, content[:-1])  # one moved, one deleted
    again = ask("fields", smear, "-o", tmp_path / "cells", "--boxes", tmp_path / "out")
    assert again["cut"] == 1
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells" / "images").iterdir()}
    assert len(after) == len(before) - 1 == again["cells"]
    assert len({*before} & {*after}) == len(before) - 2
    assert all(before[name] == after[name] for name in {*before} & {*after})


def test_coco_names_fields_and_comes_back(smear: Path, cells: Path, tmp_path: Path) -> None:
    ask("outline", cells, "-o", tmp_path / "out", "--format", "coco")
    content = json.loads((tmp_path / "out" / "coco.json").read_text())
    table = read_field_cells(cells)
    assert [one["bbox"] for one in content["annotations"]] == table[
        ["x", "y", "box_width", "box_height"]
    ].to_numpy().tolist()
    ask("fields", smear, "-o", tmp_path / "cells", "--boxes", tmp_path / "out" / "coco.json")
    back = read_field_cells(tmp_path / "cells")
    assert back["cell_id"].tolist() == table["cell_id"].tolist()
    assert "--format" in refused("outline", cells, "-o", tmp_path / "x", "--format", "svg")


def test_concepts_and_measurements_of_a_study_go_with_the_cells(
    cells: Path, drawn_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "none of these cells" in refused("outline", cells, "-o", tmp_path / "out", "--study", drawn_study)
    from cytosae.analysis import outlines
    from cytosae.concepts import read_concepts

    data = read_concepts(drawn_study / "concepts", "synthetic")
    table = read_field_cells(cells)
    table["cell_id"] = list(data.obs_names[: len(table)])
    monkeypatch.setattr(outlines, "read_field_cells", lambda folder: table)
    answer = ask("outline", cells, "-o", tmp_path / "out", "--study", drawn_study, "--concepts", "3")
    assert answer["measurements"] >= 3
    for file in (tmp_path / "out").glob("*.geojson"):
        for feature in read_features(file):
            values = feature["properties"]["measurements"]
            row = data.obs_names.get_loc(feature["properties"]["name"])
            named = {int(name.split()[1]): value for name, value in values.items() if name.startswith("concept ")}
            assert len(named) == 3
            assert all(data.X[row, latent] == value for latent, value in named.items())
            assert all(data.var["is_concept"].iloc[latent] for latent in named)
