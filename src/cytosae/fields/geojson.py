"""Cells of a field as GeoJSON (RFC 7946), as QuPath reads and writes it: boxes in pixels, measurements as properties."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.artefacts import parse_json, whole_file
from cytosae.errors import CytosaeError
from cytosae.fields.table import BOX

UNNAMED = "nucleated cell"
"""Class of a cell without label."""
_SPACE = uuid.UUID("6f1cf2a1-0a43-5d0b-9a0e-3d1f4f4c6f5e")
_COLOUR = (31, 119, 180)


def features(cells: pd.DataFrame, measured: Mapping[str, Mapping[str, float]] | None = None) -> list[dict[str, Any]]:
    """A feature per cell: its box as a polygon, its label as class, score, scale and `measured` as measurements.

    Parameters
    ----------
    cells
        Of one field, see `cytosae.fields.read_field_cells`.
    measured
        Further measurements by name, by ``cell_id``; numbers that are not finite are left out.

    Examples
    --------
    >>> row = {"cell_id": "a", "x": 1, "y": 2, "box_width": 3, "box_height": 4, "score": 0.5, "mpp": 0.1}
    >>> features(pd.DataFrame([row]))[0]["geometry"]["coordinates"]
    [[[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]]
    """
    collected = []
    for row in cells.to_dict("records"):
        x, y, width, height = (int(row[name]) for name in BOX)
        corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
        values = {"score": row.get("score"), "mpp": row.get("mpp"), **(measured or {}).get(str(row["cell_id"]), {})}
        label = row.get("label")
        collected.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(_SPACE, str(row["cell_id"]))),
                "geometry": {"type": "Polygon", "coordinates": [corners]},
                "properties": {
                    "objectType": "annotation",
                    "name": str(row["cell_id"]),
                    "classification": {"name": UNNAMED if pd.isna(label) else str(label), "color": [*_COLOUR]},
                    "measurements": {
                        name: float(value) for name, value in values.items() if value is not None and np.isfinite(value)
                    },
                },
            }
        )
    return collected


def write_features(path: Path, features: Sequence[Mapping[str, Any]]) -> None:
    """Write features as a FeatureCollection; equal features give equal bytes."""
    text = ",\n".join(json.dumps(feature, ensure_ascii=False, allow_nan=False) for feature in features)
    with whole_file(path) as temporary:
        temporary.write_text('{"type": "FeatureCollection", "features": [\n' + text + "\n]}\n", encoding="utf-8")


def read_features(path: Path) -> list[dict[str, Any]]:
    """The features of a file, a FeatureCollection or, as QuPath also writes it, a list of features or a single one.

    Raises
    ------
    CytosaeError
        The file is no GeoJSON.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise CytosaeError(f"{path}: not a JSON file ({error}). Export the objects as GeoJSON again.") from error
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or any(not isinstance(f, dict) or f.get("type") != "Feature" for f in content):
        raise CytosaeError(f"{path}: no GeoJSON; expected a FeatureCollection or features.")
    return content


def boxes_of_features(path: Path) -> list[dict[str, Any]]:
    """Bounds, class and score of every area in a file; points and lines are none."""
    rows = []
    for number, feature in enumerate(read_features(path), 1):
        geometry, properties = feature.get("geometry") or {}, feature.get("properties") or {}
        if geometry.get("type") not in ("Polygon", "MultiPolygon"):
            continue
        try:
            points = np.array(_points(geometry["coordinates"]), dtype=float).reshape(-1, 2)
        except (KeyError, TypeError, ValueError):
            points = np.empty((0, 2))
        if len(points) < 3 or not np.isfinite(points).all():
            raise CytosaeError(f"{path}: feature {number} has no valid coordinates. Remove it or export it again.")
        (left, top), (right, bottom) = points.min(axis=0).round(), points.max(axis=0).round()
        given = properties.get("measurements") or {}
        if isinstance(given, list):  # QuPath before 0.4
            given = {str(one.get("name")): one.get("value") for one in given if isinstance(one, dict)}
        name = (properties.get("classification") or {}).get("name")
        box = dict(zip(BOX, (int(left), int(top), int(right - left), int(bottom - top)), strict=True))
        rows.append({**box, "score": given.get("score"), "label": None if name in (None, UNNAMED) else str(name)})
    return rows


def _points(coordinates: Any) -> list[Any]:
    """Positions of a polygon or of several, x and y alone."""
    if coordinates and not isinstance(coordinates[0], list):
        return [coordinates[:2]]
    return [point for part in coordinates for point in _points(part)]
