"""Boxes that another detector or a person has drawn: COCO, Pascal VOC, YOLO, GeoJSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from cytosae.artefacts import LEDGER, MANIFEST, parse_json
from cytosae.errors import CytosaeError
from cytosae.fields.geojson import boxes_of_features
from cytosae.fields.names import FieldNames
from cytosae.fields.table import BOX

BOX_FORMATS = ("auto", "coco", "voc", "yolo", "geojson")
_ENDINGS = {".json": "coco", ".xml": "voc", ".txt": "yolo", ".geojson": "geojson"}
_CLASSES = "classes.txt"
_NO_BOXES = {_CLASSES, MANIFEST, LEDGER}

Rows = Iterator[dict[str, Any]]


def read_boxes(path: Path, kind: str, fields: pd.DataFrame) -> pd.DataFrame:
    """Boxes by field.

    Parameters
    ----------
    path
        A COCO file, or a file or folder of the other formats, whose files are called as the fields.
    kind
        One of `BOX_FORMATS`; ``auto`` goes by the endings of the files.
    fields
        Listing of the fields: ``cell_id, path, width, height``.

    Returns
    -------
    ``field``, left, top, width and height in pixels, ``score`` and ``label`` (missing where not given).

    Raises
    ------
    CytosaeError
        Nothing readable, a box without extent, a field that is not there.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _ENDINGS) if path.is_dir() else [path]
    files = [file for file in files if file.name not in _NO_BOXES and file.is_file()]
    if kind != "auto":
        files = [file for file in files if not path.is_dir() or _ENDINGS[file.suffix.lower()] == kind]
    if not files:
        raise CytosaeError(f"--boxes {path}: no file of boxes there ({', '.join(_ENDINGS)}).")
    names = FieldNames(dict(zip(fields["cell_id"].astype(str), fields["path"].astype(str), strict=True)))
    sizes = {str(f): (int(w), int(h)) for f, w, h in fields[["cell_id", "width", "height"]].itertuples(index=False)}
    rows = [row for file in files for row in _READERS[_kind(file, kind)](file, names, sizes)]
    table = pd.DataFrame(rows, columns=["field", *BOX, "score", "label"])
    bad = table[(table["box_width"] < 1) | (table["box_height"] < 1)]
    if len(bad):
        raise CytosaeError(f"--boxes {path}: {len(bad)} boxes are empty, the first in field {bad['field'].iloc[0]}.")
    if table.empty:
        raise CytosaeError(f"--boxes {path}: no box in {len(files)} file(s).")
    table["score"] = pd.to_numeric(table["score"], errors="coerce").astype(float)
    return table.astype(dict.fromkeys(BOX, np.int64))


def as_found(fields: pd.DataFrame, boxes: pd.DataFrame) -> list[pd.DataFrame]:
    """Boxes of `read_boxes` as if they had been found, a table per field; those that meet are touching."""
    tables = []
    for field, width, height in zip(fields["cell_id"], fields["width"], fields["height"], strict=True):
        own = boxes[boxes["field"] == field].reset_index(drop=True)
        x, y, w, h = (own[name].to_numpy(np.int64) for name in BOX)
        left, top = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        right, bottom = np.clip(x + w, left + 1, width), np.clip(y + h, top + 1, height)
        touching = [
            bool(((left[k] <= right) & (left <= right[k]) & (top[k] <= bottom) & (top <= bottom[k])).sum() > 1)
            for k in range(len(own))
        ]
        border = (left <= 0) | (top <= 0) | (right >= width) | (bottom >= height)
        table = pd.DataFrame(dict(zip(BOX, (left, top, right - left, bottom - top), strict=True)))
        extra = {name: own[name] for name in ("label",) if name in own and own[name].notna().any()}
        tables.append(table.assign(score=own["score"], reason=None, touching=touching, at_border=border, **extra))
    return tables


def _kind(file: Path, kind: str) -> str:
    known = kind if kind != "auto" else _ENDINGS.get(file.suffix.lower(), "")
    if known not in _READERS:
        raise CytosaeError(f"--boxes {file}: cannot tell the format; add --box-format {', '.join(BOX_FORMATS[1:])}.")
    return known


def _box(left: float, top: float, width: float, height: float) -> dict[str, int]:
    edges = round(left), round(top), round(left + width), round(top + height)
    return dict(zip(BOX, (edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]), strict=True))


def _coco(file: Path, names: FieldNames, sizes: dict[str, tuple[int, int]]) -> Rows:
    try:
        content = parse_json(file.read_text(encoding="utf-8-sig"))
        if isinstance(content, dict) and content.get("type") == "FeatureCollection":
            yield from _geojson(file, names, sizes)
            return
        images = {image["id"]: names(str(image["file_name"]), str(file)) for image in content["images"]}
        classes = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        for one in content["annotations"]:
            box, label = _box(*(float(value) for value in one["bbox"])), classes.get(one.get("category_id"))
            label = None if label == "nucleated cell" else label
            yield {"field": images[one["image_id"]], **box, "score": one.get("score"), "label": label}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise CytosaeError(f"{file}: not a COCO file of boxes ({type(error).__name__}: {error}).") from error


def _voc(file: Path, names: FieldNames, sizes: dict[str, tuple[int, int]]) -> Rows:
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CytosaeError(f"{file}: has definitions of its own, which are not read. Remove its DOCTYPE.")
    try:
        root = ElementTree.fromstring(text)
        field = names(root.findtext("filename") or file.stem, str(file))
        for one in root.iter("object"):
            left, top, right, bottom = (
                float(one.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")
            )
            # In Pascal VOC pixels are counted from 1, and the last one belongs to the box.
            yield {
                "field": field,
                **_box(left - 1, top - 1, right - left + 1, bottom - top + 1),
                "label": one.findtext("name"),
            }
    except (ElementTree.ParseError, ValueError) as error:
        raise CytosaeError(f"{file}: not a Pascal VOC file ({error}).") from error


def _yolo(file: Path, names: FieldNames, sizes: dict[str, tuple[int, int]]) -> Rows:
    field = names(file.stem, str(file))
    width, height = sizes[field]
    known = file.parent / _CLASSES
    classes = known.read_text(encoding="utf-8").split("\n") if known.is_file() else []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, x, y, w, h, *rest = (float(word) for word in line.split())
        except ValueError:
            raise CytosaeError(
                f"{file}: line {number}: expected class, x, y, width, height [score]; found {line!r}."
            ) from None
        if max(x, y, w, h) > 1.001 or min(x, y, w, h) < 0:
            raise CytosaeError(
                f"{file}: line {number}: YOLO's numbers are shares of the image, 0 to 1; found {line!r}."
            )
        label = classes[int(kind)].strip() if 0 <= int(kind) < len(classes) else None
        box = _box((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        yield {"field": field, **box, "score": rest[0] if rest else None, "label": label or None}


def _geojson(file: Path, names: FieldNames, sizes: dict[str, tuple[int, int]]) -> Rows:
    field = next(iter(sizes)) if len(sizes) == 1 else names(file.stem, str(file))
    yield from ({"field": field, **box} for box in boxes_of_features(file))


_READERS: dict[str, Callable[[Path, FieldNames, dict[str, tuple[int, int]]], Rows]] = {
    "coco": _coco,
    "voc": _voc,
    "yolo": _yolo,
    "geojson": _geojson,
}
