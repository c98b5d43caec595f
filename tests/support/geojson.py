"""The schema of GeoJSON, after RFC 7946, as far as areas of a plane go."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

_POSITION = {"type": "array", "minItems": 2, "items": {"type": "number"}}
_RING = {"type": "array", "minItems": 4, "items": _POSITION}
_POLYGON = {
    "type": "object",
    "required": ["type", "coordinates"],
    "properties": {"type": {"const": "Polygon"}, "coordinates": {"type": "array", "items": _RING}},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "features"],
    "not": {"anyOf": [{"required": [name]} for name in ("geometry", "properties", "coordinates", "geometries")]},
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "not": {"anyOf": [{"required": [name]} for name in ("features", "coordinates", "geometries")]},
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": ["string", "number"]},
                    "geometry": _POLYGON,
                    "properties": {"type": ["object", "null"]},
                },
            },
        },
    },
}
"""A FeatureCollection (section 3.3) of features (3.2), polygons (3.1.6), without members of other types (7.1)."""


def is_closed(ring: list[list[float]]) -> bool:
    """Whether a ring ends where it begins (section 3.1.6)."""
    return ring[0] == ring[-1]


def signed_area(ring: list[list[float]]) -> float:
    """Twice the area; above 0 where the ring runs counterclockwise with y upwards (section 3.1.6)."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
