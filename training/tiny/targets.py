"""What has to be predicted, computed once from the undisturbed images; no labels, no masks.

Locally the colour, oriented gradients and graininess of every patch, after the idea of MaskFeat (Wei et al., CVPR 2022)
that features which tell texture make better targets than pixels. Globally how often each "visual word" occurs in the
picture, after BoWNet (Gidaris et al., CVPR 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from training.tiny.data import SIZE, Geometry, Pixels

CELL = 7
"""Edge in pixels of the squares that are described: four to a patch."""
SIDE = SIZE // CELL
WIDTH = 16
"""Numbers that describe a square: 3 colours, 4 orientations, 3 + 3 graininess fine and coarse, 3 spreads of colour."""
WORDS, COLOURS = 256, 256
GLOBAL = 2 * WORDS + COLOURS
KINDS = (3, 6, 16, 64, 256)
"""Sizes of the vocabularies of patches, coarse ones (nucleus, red cell, background) to fine ones (textures)."""
_BY_COLOUR = 2
"""So many of them, the coarsest, go by colour alone."""
_SCALE = 31
"""Descriptors are kept as int8, in steps of 1/31 standard deviation, up to 4."""


def describe(images: Pixels) -> Tensor:
    """Colour, orientation and graininess of every 7 x 7 square.

    Parameters
    ----------
    images
        uint8 ``(n, 224, 224, 3)``.

    Returns
    -------
    float32 ``(n, 32, 32, WIDTH)``.
    """
    density = -torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).clamp_min_(1 / 255).log_()
    mean = density.mean(1, keepdim=True)
    x = torch.cat([mean, density[:, :1] - density[:, 2:], density[:, 1:2] - density[:, 2:]], dim=1)
    padded = F.pad(x[:, :1], (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    diagonal = 0.5**0.5
    oriented = torch.cat([dx, (dx - dy) * diagonal, dy, (dx + dy) * diagonal], dim=1).abs()
    fine, coarse = F.avg_pool2d(x, 3, 1, 1), F.avg_pool2d(x, 7, 1, 3)
    energies = F.avg_pool2d(torch.cat([oriented, (x - fine).abs(), (fine - coarse).abs()], dim=1), CELL)
    colour = F.avg_pool2d(x, CELL)
    spread = (F.avg_pool2d(x * x, CELL) - colour.square()).clamp_min(0).sqrt()
    # Roots: a granule on pale cytoplasm should count beside the edge of the nucleus.
    return torch.cat([colour, (energies + 1e-3).sqrt(), (spread + 1e-3).sqrt()], dim=1).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Targets:
    """Of all images of the training pool."""

    local: NDArray[np.int8]
    """Standardised descriptors times 31, ``(n, 32, 32, WIDTH)``."""
    words: NDArray[np.float32]
    """Square root of the share of every word among the squares in the middle, of every word among the others, and of every
    colour among the pixels in the middle; centred, ``(n, GLOBAL)``."""
    colours: NDArray[np.float32]
    """Mean and standard deviation of an image's three colours, ``(n, 2, 3)``."""
    centres: NDArray[np.float32]
    """Of the kinds of patches, all vocabularies after one another, ``(sum(KINDS), 16)``."""

    @classmethod
    def load(cls, file: Path) -> Targets:
        """As `save` wrote them."""
        with np.load(file) as found:
            return cls(*(found[field.name] for field in fields(cls)))

    def save(self, file: Path) -> None:
        """Under a temporary name first, so that what is there is whole."""
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **{field.name: getattr(self, field.name) for field in fields(self)})
        partial.rename(file)

    def patches(self, row: int, geometry: Geometry) -> NDArray[np.float32]:
        """Descriptors of the 256 patches of a view, ``(256, 4 * WIDTH)``; sampled in the same crop, turn and flip."""
        left, upper, right, lower = geometry.box
        centres = (np.arange(SIDE) + 0.5) / SIDE
        columns = _nearest(left + (right - left) * centres)
        rows = _nearest(upper + (lower - upper) * centres)
        found = geometry.oriented(self.local[row][rows[:, None], columns[None, :]])
        order = np.arange(WIDTH)
        if geometry.turns % 2:  # a quarter turn swaps horizontal with vertical and the two diagonals
            order[3:7] = order[[5, 6, 3, 4]]
        if geometry.flip:
            order[[4, 6]] = order[[6, 4]]
        grid = SIDE // 2
        found = found[..., order].reshape(grid, 2, grid, 2, WIDTH).transpose(0, 2, 1, 3, 4)
        return found.reshape(grid * grid, 4 * WIDTH).astype(np.float32) / _SCALE

    def kinds(self, shown: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Which kind every patch is in each vocabulary, ``(n, 256, len(KINDS))``, for `patches` of images ``(n,)``."""
        colours = torch.from_numpy(self.colours[rows])
        found = kind_features(shown.unflatten(2, (4, WIDTH)).mean(2), colours[:, None, 0], colours[:, None, 1])
        nearest = []
        for number, centres in enumerate(torch.from_numpy(self.centres).split(KINDS)):
            used = slice(0, 6) if number < _BY_COLOUR else slice(None)
            nearest.append(torch.cdist(found[..., used], centres[:, used]).argmin(-1))
        return torch.stack(nearest, dim=-1)


def kind_features(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """By what patches are told apart: colour within the image, so that stain counts less, colour itself, and texture.

    Parameters
    ----------
    x
        Standardised descriptors, ``(..., WIDTH)``.
    mean, std
        Of the three colours over the image.
    """
    texture = torch.cat([x[..., 3:7].mean(-1, keepdim=True), x[..., 7:]], dim=-1)
    return torch.cat([(x[..., :3] - mean) / (std + 0.1), 0.7 * x[..., :3], 0.5 * texture], dim=-1)


def _nearest(places: NDArray[np.float64]) -> NDArray[np.int64]:
    beyond = (places < 0) | (places > 1)
    within = np.where(beyond, 1 - np.abs(1 - np.abs(places)), places)  # reflected at the border
    return np.minimum((within * SIDE).astype(np.int64), SIDE - 1)


def compute(images: Pixels, seed: int) -> Targets:
    """Targets of the whole pool, and the vocabularies (k-means) that they need, from a seed.

    In one thread: several add up in an order that differs from run to run, and k-means makes much of little.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = _compute(images, seed)
    torch.set_num_threads(threads)
    return found


def _compute(images: Pixels, seed: int) -> Targets:
    rng = np.random.default_rng(seed)
    raw = np.empty((len(images), SIDE, SIDE, WIDTH), np.float16)
    for first in range(0, len(images), 16):
        raw[first : first + 16] = describe(np.array(images[first : first + 16])).numpy()
    some = np.sort(rng.choice(len(images), min(1000, len(images)), replace=False))
    sample = raw[some].reshape(-1, WIDTH).astype(np.float32)
    mean, std = sample.mean(0), sample.std(0)
    sample = ((sample - mean) / std)[rng.choice(len(sample), min(100_000, len(sample)), replace=False)]
    dots = np.concatenate([images[row].reshape(-1, 3)[rng.integers(0, SIZE * SIZE, 100)] for row in some])
    vocabulary, palette = _kmeans(sample.clip(-4, 4), WORDS, seed), _kmeans(dots.astype(np.float32), COLOURS, seed)
    table = _nearest_colour(palette)
    middle, middle_pixels = _disc(SIDE).ravel(), _disc(SIZE)
    local = np.empty(raw.shape, np.int8)
    words = np.empty((len(images), GLOBAL), np.float32)
    for row in range(len(images)):
        standard = ((raw[row].reshape(-1, WIDTH).astype(np.float32) - mean) / std).clip(-4, 4)
        local[row] = np.round(standard * _SCALE).reshape(SIDE, SIDE, WIDTH)
        word = ((vocabulary**2).sum(1) - 2 * standard @ vocabulary.T).argmin(1)
        r, g, b = (images[row][middle_pixels] >> 3).T.astype(np.int64)
        words[row] = np.concatenate(
            [
                np.bincount(word[middle], minlength=WORDS) / middle.sum(),
                np.bincount(word[~middle], minlength=WORDS) / (~middle).sum(),
                np.bincount(table[r << 10 | g << 5 | b], minlength=COLOURS) / middle_pixels.sum(),
            ]
        )
    words = np.sqrt(words)
    words -= words.mean(0)
    # One scale for all: a word that is nearly never seen must not weigh like the others.
    words = (words / np.sqrt(np.square(words).mean())).astype(np.float32)
    grid = SIDE // 2
    squares = torch.from_numpy(local[some]).float().div_(_SCALE).view(len(some), grid, 2, grid, 2, WIDTH).mean((2, 4))
    colours = np.empty((len(images), 2, 3), np.float32)
    for row in range(len(images)):
        own = local[row, ..., :3].astype(np.float32).reshape(grid, 2, grid, 2, 3).mean((1, 3)) / _SCALE
        colours[row] = own.mean((0, 1)), own.std((0, 1))
    known = torch.from_numpy(colours[some])[:, None, None]
    seen = kind_features(squares, known[..., 0, :], known[..., 1, :]).flatten(0, 2).numpy()
    seen = seen[rng.choice(len(seen), min(100_000, len(seen)), replace=False)]
    centres = np.zeros((sum(KINDS), seen.shape[1]), np.float32)
    for number, (k, end) in enumerate(zip(KINDS, np.cumsum(KINDS), strict=True)):
        used = slice(0, 6) if number < _BY_COLOUR else slice(None)
        centres[end - k : end, used] = _kmeans(seen[:, used], k, seed)
    return Targets(local, words, colours, centres)


def _disc(side: int) -> NDArray[np.bool_]:
    """Where the cell is in a picture of a single cell: up to 0.7 of the way from the middle to the edge."""
    place = (np.arange(side) + 0.5) / side * 2 - 1
    return np.asarray(np.hypot(place[:, None], place[None, :]) < 0.7)


def _kmeans(points: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    found = MiniBatchKMeans(k, random_state=seed, batch_size=4096, n_init=1, max_iter=30).fit(points)
    return np.asarray(found.cluster_centers_, np.float32)


def _nearest_colour(palette: NDArray[np.float32]) -> NDArray[np.int64]:
    """Entry of the palette for each of 32 x 32 x 32 colours."""
    level = np.arange(32) * 8 + 4.0
    colours = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
    return np.asarray(((palette**2).sum(1) - 2 * colours @ palette.T).argmin(1))
