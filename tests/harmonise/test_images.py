"""Colours of laboratories made alike: on real cells, stained otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cytosae.cells import load_squashed
from cytosae.cells.perturbations import stain
from cytosae.harmonise import IMAGE_METHODS, fit_image_maps, sample_pixels
from cytosae.harmonise.images import density, from_density, from_opponent, opponent


@pytest.fixture(scope="module")
def pair(real_cells: Path) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Cells of one data set, and the same cells in another stain."""
    cells = pd.read_csv(real_cells / "cells.csv")
    paths = cells.loc[cells["dataset"] == "pbc", "path"].iloc[::400][:20]
    images = [load_squashed(real_cells / path, 224) for path in paths]
    return images, [stain(image, (0.7, 1.2, 1.3)) for image in images]


def difference(first: list[NDArray[np.uint8]], second: list[NDArray[np.uint8]]) -> float:
    """Mean difference of the pixels."""
    return float(np.abs(np.stack(first).astype(int) - np.stack(second)).mean())


@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_another_stain_becomes_like_the_first(
    pair: tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]], method: str
) -> None:
    samples = [np.concatenate([sample_pixels(image, i) for i, image in enumerate(side)]) for side in pair]
    maps = fit_image_maps(method, samples)
    mapped = [[maps.apply(image, code) for image in side] for code, side in enumerate(pair)]
    assert difference(*mapped) < (0.6 if method in ("macenko", "vahadane") else 0.3) * difference(*pair)
    for side, images in zip(pair, mapped, strict=True):  # the same picture all the same
        assert np.corrcoef(side[0].mean(axis=2).ravel(), images[0].mean(axis=2).ravel())[0, 1] > 0.97
    assert np.array_equal(maps.apply(pair[0][0], -1), pair[0][0])


def test_spaces_lead_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 3)).astype(np.uint8)
    assert np.abs(from_density(density(pixels)).astype(int) - pixels).max() <= 1
    assert np.abs(from_opponent(opponent(pixels)).astype(int) - pixels).max() <= 1
    assert np.abs(density(np.full((1, 3), 255))).max() < 1e-12


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_planted_dyes_are_found(method: str) -> None:
    rng = np.random.default_rng(0)
    dyes = np.array([[0.6, 0.75, 0.25], [0.2, 0.7, 0.65]])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    amounts = rng.gamma(1.0, 0.6, (20_000, 2)) * (rng.random((20_000, 2)) < 0.6)
    found = IMAGE_METHODS[method].stain(amounts @ dyes + 0.004 * rng.normal(size=(20_000, 3)))
    unit = found.axes / np.linalg.norm(found.axes, axis=1, keepdims=True)
    assert (unit[:2] * dyes).sum(axis=1).min() > 0.99


def test_an_empty_slide_stays_empty() -> None:
    white = np.full((1000, 3), 250, np.uint8)
    for method in IMAGE_METHODS:
        assert fit_image_maps(method, [white, white]).apply(white[None], 0).min() >= 245
