"""Shapes as signed distances in pixels: negative inside, zero on the outline, positive outside.

Distances of stretched shapes are approximate; near the outline, where they are used, the error is small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def coverage(distance: Field, softness: float = 1.5) -> Field:
    """Share of each pixel inside a shape: an outline blurred over `softness` px; float32 in [0, 1]."""
    return np.clip(0.5 - distance / np.float32(softness), 0.0, 1.0)


def rotated(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Coordinates in axes turned by `angle` radians."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def ellipse(x: Field, y: Field, a: float, b: float, angle: float = 0.0) -> Field:
    """Ellipse around the origin with semi-axes `a` and `b` px."""
    u, v = rotated(x, y, angle)
    return (np.hypot(u / np.float32(a), v / np.float32(b)) - np.float32(1)) * np.float32(min(a, b))


def wavy_disc(x: Field, y: Field, radius: float, waves: Sequence[tuple[int, float, float]]) -> Field:
    """Disc of `radius` px with a wavy rim.

    Parameters
    ----------
    waves
        For each wave its number of crests, its height as a share of the radius and its phase in radians.
    """
    angle = np.arctan2(y, x)
    rim = np.full_like(angle, radius)
    for crests, height, phase in waves:
        rim += np.float32(radius * height) * np.cos(np.float32(crests) * angle + np.float32(phase))
    return np.hypot(x, y) - rim


def capsule(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """Straight rod between two points, rounded at its ends."""
    ax, ay = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    along = np.clip((px * ax + py * ay) / max(ax * ax + ay * ay, np.float32(1e-6)), 0, 1)
    return np.hypot(px - ax * along, py - ay * along) - np.float32(radius)


def arc(x: Field, y: Field, middle: float, half_span: float, thickness: float) -> Field:
    """Horseshoe around the origin that opens towards negative x.

    Parameters
    ----------
    middle
        Radius of the middle line, px.
    half_span
        Angle from the middle of the horseshoe to each end, radians.
    thickness
        Half the width of the horseshoe, px.
    """
    angle = np.abs(np.arctan2(y, x))
    end_x, end_y = np.float32(middle * np.cos(half_span)), np.float32(middle * np.sin(half_span))
    to_end = np.hypot(x - end_x, np.abs(y) - end_y)
    to_line = np.abs(np.hypot(x, y) - np.float32(middle))
    return np.where(angle < half_span, to_line, to_end) - np.float32(thickness)


def union(first: Field, second: Field, blend: float) -> Field:
    """Both shapes together, with their seam rounded over `blend` px."""
    overlap = np.maximum(np.float32(blend) - np.abs(first - second), 0)
    return np.minimum(first, second) - overlap * overlap / np.float32(4 * blend)


def without(shape: Field, hole: Field, blend: float) -> Field:
    """The first shape less the second, with the edge rounded over `blend` px."""
    return -union(-shape, hole, blend)
