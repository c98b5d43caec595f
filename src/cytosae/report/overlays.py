"""Concept maps over the images they belong to. Arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

COLOURS = "viridis"
"""Green and yellow do not occur in stained blood, unlike the reds and pinks of magma and inferno."""


def enlarge(map_: ArrayLike, edge: int, smooth: bool = False) -> NDArray[np.float32]:
    """A concept map in the size of its image.

    Parameters
    ----------
    map_
        Activations of the patches, without CLS; ``(rows, columns)``.
    edge
        Edge of the image in pixels.
    smooth
        Bicubic between the centres of the patches, within the range of the map. Otherwise every pixel has the value of
        its patch, and `edge` has to be a multiple of `rows` and of `columns`.

    Returns
    -------
    ``(edge, edge)``.

    Raises
    ------
    ValueError
        The map is not two-dimensional, is empty, holds NaN or infinity, or its patches do not fit into `edge`.

    Examples
    --------
    >>> enlarge(np.ones((2, 2)), 4).shape
    (4, 4)
    """
    values = np.asarray(map_, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"a concept map has the shape (rows, columns); this one has {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the concept map holds NaN or infinity")
    if smooth:
        pixels = np.asarray(Image.fromarray(values).resize((edge, edge), Image.Resampling.BICUBIC))
        return np.clip(pixels, values.min(), values.max())
    rows, columns = values.shape
    if edge % rows or edge % columns:
        raise ValueError(f"{rows} x {columns} patches do not fit into {edge} x {edge} whole pixels")
    return values.repeat(edge // rows, axis=0).repeat(edge // columns, axis=1)


def overlay(
    image: NDArray[np.uint8],
    map_: ArrayLike,
    *,
    top: float | None = None,
    opacity: float = 0.6,
    smooth: bool = False,
    colours: str = COLOURS,
) -> NDArray[np.uint8]:
    """An image with its concept map in colour over it.

    Colour and opacity grow with the activation; where it is 0 the image stays as it is.

    Parameters
    ----------
    image
        uint8 of shape ``(edge, edge, 3)``.
    map_
        Activations of the patches, without CLS, none negative; ``(rows, columns)``.
    top
        Activation with the strongest colour, shared by images that are to be compared; the map's own maximum if None.
    opacity
        Opacity of the strongest colour, from 0 to 1.
    smooth
        See `enlarge`.
    colours
        Name of a colour map of matplotlib.

    Returns
    -------
    uint8 of shape ``(edge, edge, 3)``.

    Raises
    ------
    ValueError
        Wrong shape or type of the image, a map that `enlarge` refuses or with negative activations, `top` not above 0.

    Examples
    --------
    >>> overlay(np.zeros((4, 4, 3), np.uint8), np.ones((2, 2))).shape
    (4, 4, 3)
    """
    strength = _strength(image, map_, top, smooth)
    alpha = opacity * strength
    colour = 255 * mpl.colormaps[colours](strength[..., 0])[..., :3]
    return _pixels((1 - alpha) * image + alpha * colour)


def multiplied(
    image: NDArray[np.uint8], map_: ArrayLike, top: float | None = None, smooth: bool = False
) -> NDArray[np.uint8]:
    """Each patch of an image multiplied by its activation (CytoSAE, Fig. 3C): bright where the concept is.

    Parameters, shapes and errors as for `overlay`; activations are divided by `top` and clipped to 1.

    Examples
    --------
    >>> multiplied(np.full((4, 4, 3), 200, np.uint8), np.ones((2, 2))).shape
    (4, 4, 3)
    """
    return _pixels(_strength(image, map_, top, smooth) * image)


def _strength(image: NDArray[np.uint8], map_: ArrayLike, top: float | None, smooth: bool) -> NDArray[np.float64]:
    """Activation of every pixel as a share of `top`, 0 to 1; ``(edge, edge, 1)``."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise ValueError(
            f"an image is uint8 of shape (edge, edge, 3); this one is {image.dtype} of shape {image.shape}"
        )
    pixels = enlarge(map_, len(image), smooth).astype(np.float64)
    if pixels.min() < 0:
        raise ValueError(f"activations are never negative; this map reaches {pixels.min():g}")
    if top is None:
        top = float(np.max(map_)) or 1.0  # a map of zeros has no maximum to divide by
    if not top > 0:
        raise ValueError(f"top, the activation with the strongest colour, has to be above 0; it is {top}")
    return np.clip(pixels / top, 0, 1)[..., None]


def _pixels(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(values).astype(np.uint8)
