"""Boxes of other detectors are read as they are meant, and what is no box is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cytosae.errors import CytosaeError
from cytosae.fields import BOX, read_boxes
from support.commands import ask

NAMES = ["a/one.png", "a/two.png"]
FIELDS = pd.DataFrame({"cell_id": NAMES, "path": NAMES, "width": [200, 200], "height": [100, 100]})
BOXES = {"a/one.png": [(10, 20, 30, 40)], "a/two.png": [(0, 0, 50, 20), (100, 50, 21, 33)]}


def written(folder: Path, kind: str) -> Path:
    """The same boxes in each format."""
    if kind == "coco":
        images = [{"id": k, "file_name": name} for k, name in enumerate(BOXES)]
        marks = [
            {"image_id": k, "category_id": 5, "bbox": b, "score": 0.5}
            for k, own in enumerate(BOXES.values())
            for b in own
        ]
        content = {"images": images, "annotations": marks, "categories": [{"id": 5, "name": "blast"}]}
        (folder / "boxes.json").write_text(json.dumps(content))
        return folder / "boxes.json"
    for name, own in BOXES.items():
        stem = Path(name).stem
        if kind == "voc":
            objects = [
                f"<object><name>blast</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
                f"<ymax>{y + h}</ymax></bndbox></object>"
                for x, y, w, h in own
            ]
            (folder / f"{stem}.xml").write_text(
                f"<annotation><filename>{stem}.png</filename>{''.join(objects)}</annotation>"
            )
        elif kind == "yolo":
            lines = [f"0 {(x + w / 2) / 200} {(y + h / 2) / 100} {w / 200} {h / 100} 0.5" for x, y, w, h in own]
            (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")
            (folder / "classes.txt").write_text("blast\n")
        else:
            areas = [
                {
                    "type": "Feature",
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [[[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]],
                    },
                    "properties": {
                        "classification": {"name": "blast"},
                        "measurements": [{"name": "score", "value": 0.5}],
                    },
                }
                for x, y, w, h in own
            ]
            (folder / f"{stem}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": areas}))
    return folder


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "geojson"])
def test_every_format_gives_the_same_boxes(kind: str, tmp_path: Path) -> None:
    for asked in ("auto", kind):
        found = read_boxes(written(tmp_path, kind), asked, FIELDS).sort_values(["field", "x"])
        boxes = {
            field: [tuple(row) for row in own[list(BOX)].to_numpy().tolist()] for field, own in found.groupby("field")
        }
        assert boxes == BOXES
        assert set(found["label"]) == {"blast"}
        assert found["score"].isna().all() if kind == "voc" else (found["score"] == 0.5).all()


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("b.json", "{", "not a COCO file"),
        ("b.json", '{"images": [{"id": 1, "file_name": "three.png"}], "annotations": []}', "no field is called"),
        ("one.txt", "0 0.5 0.5", "line 1"),
        ("one.txt", "0 50 50 20 20", "shares of the image"),
        ("one.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotation/>", "DOCTYPE"),
        ("one.geojson", '{"type": "Feature"', "not a JSON file"),
        ("one.geojson", '{"type": "FeatureCollection", "features": []}', "no box"),
        ("one.csv", "x", "--box-format"),
    ],
)
def test_what_is_no_file_of_boxes_is_refused(name: str, text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CytosaeError, match=word):
        read_boxes(tmp_path / name, "auto", FIELDS)


def test_given_boxes_are_cut_out_in_place_of_a_search(source: Path, tmp_path: Path) -> None:
    box = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[600, 5], [700, 5], [700, 60], [600, 60], [600, 5]]]},
    }
    (tmp_path / "slide_0.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [box]}))
    found = ask("fields", source, "-o", tmp_path / "out", "--boxes", tmp_path / "slide_0.geojson")
    assert found["cells"] == 1
    table = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert table[list(BOX)].to_numpy().tolist() == [[600, 5, 40, 55]]  # within the field
    assert table["at_border"].tolist() == [True]
