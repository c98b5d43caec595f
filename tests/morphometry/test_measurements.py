"""Measurements of planted shapes, and of drawn cells of which one thing is turned."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cytosae.morphometry import (
    PLACES,
    count_lobes,
    granularity,
    indentation,
    measure_cell,
    patch_places,
    place_map,
    shape_of,
    stain_of,
    texture_of,
)
from cytosae.segmentation import MEASUREMENTS, find_cell
from cytosae.synthetic import has_concept, random_cells, segmentation

Y, X = np.mgrid[:120, :120]


def disc(row: float, column: float, radius: float) -> np.ndarray:
    return np.asarray(np.hypot(Y - row, X - column) < radius)


def test_lobes_and_notches() -> None:
    assert count_lobes(disc(60, 60, 20)) == 1
    assert count_lobes(disc(60, 40, 14) | disc(60, 66, 14)) == 2
    three = disc(40, 60, 13) | disc(72, 44, 13) | disc(72, 76, 13)
    assert count_lobes(three) == 3
    assert indentation(disc(60, 60, 20)) < 0.06
    kidney = disc(60, 60, 20) & ~disc(44, 60, 10)
    assert 0.2 < indentation(kidney) < 0.6


def test_shape_is_that_of_plain_formulas() -> None:
    cell, nucleus = disc(60, 60, 40), disc(60, 50, 20)
    found = shape_of(nucleus, cell)
    assert found["cell_area"] == cell.sum()
    assert found["cytoplasm_area"] == cell.sum() - nucleus.sum()
    assert found["nuclear_fraction"] == pytest.approx(0.25, abs=0.01)
    assert found["nucleus_offset"] == pytest.approx(10 / 40, abs=0.02)
    assert found["cell_solidity"] > 0.95
    wide = (Y - 60) ** 2 / 10**2 + (X - 60) ** 2 / 20**2 < 1
    assert shape_of(wide, cell)["nucleus_eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.02)


def test_granules_vacuoles_and_nucleoli_are_told_apart() -> None:
    cell, nucleus = disc(60, 60, 50), disc(60, 60, 20)
    cytoplasm = cell & ~nucleus
    plain = np.where(nucleus, 0.7, np.where(cell, 0.2, 0.0))
    rng = np.random.default_rng(0)

    def with_spots(depth: float, radius: float, where: np.ndarray, count: int = 25) -> dict[str, float]:
        density = plain.copy()
        rows, columns = np.nonzero(ndimage.binary_erosion(where, iterations=6))
        for k in rng.permutation(len(rows))[:count]:
            density[disc(rows[k], columns[k], radius)] += depth
        return texture_of(density[..., None] * np.array([0.3, 1.0, 0.3]), nucleus, cytoplasm)

    nothing = with_spots(0, 1, cytoplasm)
    granules = with_spots(0.3, 2.2, cytoplasm)
    vacuoles = with_spots(-0.18, 4.5, cytoplasm, 8)
    nucleoli = with_spots(-0.3, 4, nucleus, 3)
    assert nothing["granule_score"] < 0.005 < granules["granule_score"]
    assert nothing["vacuole_share"] == 0
    assert vacuoles["vacuole_share"] > 0.03
    assert vacuoles["vacuole_contrast"] > nothing["vacuole_contrast"] + 0.3
    assert granules["granule_redness"] > 0
    assert nucleoli["nucleolus_score"] > nothing["nucleolus_score"] + 0.01
    assert granules["cytoplasm_contrast"] > nothing["cytoplasm_contrast"]


def test_the_spectrum_peaks_at_the_size_of_the_grains() -> None:
    mask = disc(60, 60, 55)
    peaks = []
    for radius in (1.3, 3.4, 10.0):
        density = np.where(mask, 0.1, 0.0)
        for row in range(20, 101, 20):
            for column in range(20, 101, 20):
                density[disc(row, column, radius) & mask] = 0.8
        peaks.append(int(np.argmax(granularity(density, mask, 110.0))))
    assert peaks == sorted(set(peaks))


def test_a_tissue_of_few_pixels_has_no_texture() -> None:
    cell = disc(60, 60, 20)
    none = np.zeros_like(cell)
    density = np.where(cell, 0.5, 0.0)[..., None] * np.ones(3)
    assert np.isnan(texture_of(density, cell, none)["granule_score"])
    assert np.isnan(stain_of(density, cell, none)["cytoplasm_azure"])


def test_what_is_drawn_is_measured() -> None:
    images, masks = random_cells(66, seed=8)
    values: list[dict[str, float]] = []
    truth: dict[str, list[bool]] = {name: [] for name in ("vacuoles", "nuclear_lobes", "eosinophilic_granules")}
    for image, mask in zip(images, masks, strict=True):
        if not has_concept(mask, "nucleus").any():
            continue
        values.append(measure_cell(find_cell(image, tissues=np.asarray(segmentation(mask))), mpp=0.1))
        for name, list_of in truth.items():
            list_of.append(bool(has_concept(mask, name).sum() > 20))

    def area(name: str, concept: str) -> float:
        score, true = np.array([v[name] for v in values]), np.array(truth[concept])
        pairs = score[true][:, None] - score[~true]
        return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())

    assert area("vacuole_share", "vacuoles") > 0.85
    assert area("nucleus_lobes", "nuclear_lobes") > 0.9
    assert area("cytoplasm_eosin", "eosinophilic_granules") > 0.75
    for one in values:
        assert {*one} == {m.name for m in MEASUREMENTS}
        assert one["cell_area_um2"] == pytest.approx(one["cell_area"] * 0.01)


def test_without_a_cell_only_the_surroundings_are_measured() -> None:
    values = measure_cell(find_cell(np.full((60, 60, 3), 230, np.uint8)))
    assert values["red_cells"] == 0
    assert values["background_share"] == pytest.approx(1)
    assert np.isnan(values["cell_area"])


def test_places_of_a_drawn_cell() -> None:
    images, masks = random_cells(3, seed=0)
    found = find_cell(images[2], tissues=np.asarray(segmentation(masks[2])))
    places = place_map(found)
    share = patch_places(places[None], (16, 16))[0]
    np.testing.assert_allclose(share.sum(axis=0), 1, atol=1e-6)
    rows = np.mgrid[:16, :16] * 14 + 7
    inside = found.nucleus[rows[0], rows[1]]
    nucleus = share[PLACES.index("nucleus")] + share[PLACES.index("nuclear border")]
    assert nucleus[inside].mean() > 0.7
    assert nucleus[~found.cell[rows[0], rows[1]]].mean() < 0.05
    ring = share[PLACES.index("cell border")]
    assert ring.sum() > 5
    assert ring[inside].mean() < 0.1


def test_what_has_no_nucleus_is_a_platelet() -> None:
    images, masks = random_cells(3, seed=0)
    tissues = np.asarray(segmentation(masks[2]))
    places = place_map(find_cell(images[2], tissues=np.where(tissues > 0, 128, 0).astype(np.uint8)))
    inside = {PLACES[place] for place in np.unique(places)} - {"background", "red cell", "stained beside"}
    assert inside == {"platelet"}
    assert (places == PLACES.index("platelet")).mean() > 0.05
