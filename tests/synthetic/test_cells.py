"""Synthetic cells: the same bytes again, masks that agree with the pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from demo.sheet import contact_sheet
from numpy.typing import NDArray
from PIL import Image

from cytosae.synthetic import (
    CELL_TYPES,
    CONCEPT_MEANINGS,
    CONCEPTS,
    LABORATORIES,
    REFERENCE,
    TRAIT_RATES,
    has_concept,
    patch_labels,
    random_cells,
    render_cell,
    token_truth,
)

NUCLEATED = tuple(name for name in CELL_TYPES if name not in ("platelet", "smudge_cell"))

Cell = tuple[NDArray[np.uint8], NDArray[np.uint32]]


def cells_of(cell_type: str, n: int = 4, **traits: float) -> list[Cell]:
    return [render_cell(cell_type, np.random.default_rng((3, i)), traits=traits) for i in range(n)]


def mean_colour(cells: list[Cell], where: Callable[[NDArray[np.uint32]], NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Mean (R, G, B) over all pixels that the masks select."""
    return np.concatenate([image[where(masks)] for image, masks in cells]).mean(axis=0)


def only(concept: str, *without: str) -> Callable[[NDArray[np.uint32]], NDArray[np.bool_]]:
    """Pixels that carry one concept and none of the others."""

    def where(masks: NDArray[np.uint32]) -> NDArray[np.bool_]:
        selected = has_concept(masks, concept)
        for other in without:
            selected &= ~has_concept(masks, other)
        return selected

    return where


@pytest.fixture(scope="module")
def mix() -> Cell:
    return random_cells(110, seed=5)


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_same_seed_gives_the_same_bytes(cell_type: str) -> None:
    first = render_cell(cell_type, np.random.default_rng(7))
    again = render_cell(cell_type, np.random.default_rng(7))
    other = render_cell(cell_type, np.random.default_rng(8))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()
    assert first[0].tobytes() != other[0].tobytes()
    assert first[0].shape == (224, 224, 3)
    assert first[0].dtype == np.uint8
    assert first[1].shape == (224, 224)
    assert first[1].dtype == np.uint32


def test_cell_depends_on_seed_and_index_alone() -> None:
    few_images, few_masks = random_cells(3, seed=2)
    images, masks = random_cells(6, seed=2)
    np.testing.assert_array_equal(images[:3], few_images)
    np.testing.assert_array_equal(masks[:3], few_masks)
    assert (random_cells(1, seed=3)[0] != few_images[:1]).any()


def test_every_concept_appears_and_every_pixel_has_one(mix: Cell) -> None:
    images, masks = mix
    assert set(CONCEPTS) == set(CONCEPT_MEANINGS)
    missing = [name for name in CONCEPTS if not has_concept(masks, name).any()]
    assert not missing
    assert (masks > 0).all()
    assert int(masks.max()) < 1 << len(CONCEPTS)
    assert images.std() > 20


def test_masks_exclude_each_other_where_they_must(mix: Cell) -> None:
    _, masks = mix
    nucleus, cytoplasm = has_concept(masks, "nucleus"), has_concept(masks, "cytoplasm")
    assert not (nucleus & cytoplasm).any()
    covered = np.zeros(masks.shape, dtype=bool)
    for name in set(CONCEPTS) - {"background"}:
        covered |= has_concept(masks, name)
    np.testing.assert_array_equal(has_concept(masks, "background"), ~covered)
    for name in ("nucleoli", "open_chromatin", "dense_chromatin", "nuclear_lobes"):
        assert not (has_concept(masks, name) & ~nucleus).any(), name
    for name in ("cytoplasmic_basophilia", "hypogranulation", "perinuclear_halo"):
        assert not (has_concept(masks, name) & ~cytoplasm).any(), name
    assert not (has_concept(masks, "open_chromatin") & has_concept(masks, "dense_chromatin")).any()


@pytest.mark.parametrize("cell_type", NUCLEATED)
def test_nucleus_lies_inside_the_cell(cell_type: str) -> None:
    for _, masks in cells_of(cell_type, 3):
        nucleus = has_concept(masks, "nucleus")
        cell = nucleus | has_concept(masks, "cytoplasm")
        assert nucleus.sum() > 200
        beyond = np.zeros_like(cell)
        for axis in (0, 1):
            for step in (-1, 1):
                beyond |= np.roll(cell, step, axis=axis) & ~cell
        touching = sum(int((np.roll(nucleus, step, axis=a) & beyond).sum()) for a in (0, 1) for step in (-1, 1))
        assert touching == 0  # cytoplasm all around, be it thin
        assert not cell[[0, -1]].any()
        assert not cell[:, [0, -1]].any()


@pytest.mark.parametrize("cell_type", [name for name in NUCLEATED if name not in ("basophil", "eosinophil")])
def test_nucleus_is_darker_and_bluer_than_cytoplasm(cell_type: str) -> None:
    cells = cells_of(cell_type)
    nucleus = mean_colour(cells, only("nucleus"))
    cytoplasm = mean_colour(cells, only("cytoplasm"))
    assert nucleus.sum() < cytoplasm.sum() - 60
    assert nucleus[1] / nucleus[2] < cytoplasm[1] / cytoplasm[2] - 0.05


def test_eosinophilic_granules_are_redder_than_what_lies_between_them() -> None:
    cells = cells_of("eosinophil")
    granules = mean_colour(cells, only("eosinophilic_granules"))
    between = mean_colour(cells, only("cytoplasm", "eosinophilic_granules", "vacuoles"))
    neutrophil = mean_colour(cells_of("segmented_neutrophil", hypogranulation=0), only("cytoplasm"))
    assert granules[0] / granules[1:].mean() > between[0] / between[1:].mean() + 0.1
    assert granules[0] / granules[1:].mean() > neutrophil[0] / neutrophil[1:].mean() + 0.4


@pytest.mark.parametrize("cell_type", ["basophil", "eosinophil"])
def test_basophilic_granules_are_dark(cell_type: str) -> None:
    cells = cells_of(cell_type, **({"basophilic_granules": 1.0} if cell_type == "eosinophil" else {}))
    granules = mean_colour(cells, only("basophilic_granules", "nucleus"))
    between = mean_colour(cells, only("cytoplasm", "basophilic_granules", "vacuoles"))
    assert granules.sum() < between.sum() - 100


@pytest.mark.parametrize(
    ("concept", "cell_type"),
    [("azurophilic_granules", "promyelocyte"), ("auer_rod", "blast"), ("faggot", "promyelocyte")],
)
def test_azurophilic_structures_are_redder_than_cytoplasm(concept: str, cell_type: str) -> None:
    cells = cells_of(cell_type, **{concept: 1.0, "vacuoles": 0.0})
    structure = mean_colour(cells, only(concept, "nucleus"))
    around = mean_colour(cells, only("cytoplasm", concept, "azurophilic_granules"))
    assert structure[0] / structure[2] > around[0] / around[2] + 0.1
    assert structure.sum() < around.sum()


def test_vacuoles_and_halo_are_lighter_than_cytoplasm() -> None:
    cells = cells_of("monocyte", vacuoles=1.0, azurophilic_granules=0.0)
    assert mean_colour(cells, only("vacuoles")).sum() > mean_colour(cells, only("cytoplasm", "vacuoles")).sum() + 100
    cells = cells_of("blast", perinuclear_halo=1.0, vacuoles=0.0)
    rest = mean_colour(cells, only("cytoplasm", "perinuclear_halo"))
    assert mean_colour(cells, only("perinuclear_halo")).sum() > rest.sum() + 60


def test_optional_looks_show_in_the_pixels() -> None:
    deep = mean_colour(cells_of("blast", cytoplasmic_basophilia=1.0), only("cytoplasmic_basophilia", "vacuoles"))
    pale = mean_colour(cells_of("blast", cytoplasmic_basophilia=0.0), only("cytoplasm", "vacuoles"))
    assert deep[0] < pale[0] - 40  # red light is what azure takes away
    bare = mean_colour(cells_of("segmented_neutrophil", hypogranulation=1.0), only("hypogranulation", "vacuoles"))
    usual = mean_colour(cells_of("segmented_neutrophil", hypogranulation=0.0), only("cytoplasm", "vacuoles"))
    assert bare[1] - bare[0] > usual[1] - usual[0] + 8  # less eosin: greener, that is, less pink
    open_, dense = cells_of("blast", nucleoli=1.0), cells_of("lymphocyte")
    chromatin = mean_colour(open_, only("open_chromatin", "nucleoli"))
    assert chromatin.sum() > mean_colour(dense, only("dense_chromatin")).sum() + 60
    nucleoli = mean_colour(open_, only("nucleoli"))
    assert nucleoli[2] - nucleoli[0] > chromatin[2] - chromatin[0]  # bluer
    assert nucleoli[1] > chromatin[1]


def test_red_cells_platelets_and_background() -> None:
    cells = cells_of("platelet")
    red, empty = mean_colour(cells, only("red_cell", "platelet")), mean_colour(cells, only("background"))
    platelet = mean_colour(cells, only("platelet"))
    assert red.sum() < empty.sum() - 40
    assert red[0] > red[1]
    assert platelet.sum() < red.sum()
    assert platelet[2] > platelet[1]


@pytest.mark.parametrize(("cell_type", "rates"), TRAIT_RATES.items())
def test_traits_are_planted_when_asked_for(cell_type: str, rates: dict[str, float]) -> None:
    for trait in rates:
        others = {"faggot": 0.0} if trait == "auer_rod" and "faggot" in rates else {}
        with_trait = render_cell(cell_type, np.random.default_rng(1), traits={**others, trait: 1.0})[1]
        without = render_cell(cell_type, np.random.default_rng(1), traits={**others, trait: 0.0})[1]
        assert has_concept(with_trait, trait).any(), trait
        assert not has_concept(without, trait).any(), trait


def test_wrong_arguments() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown cell type 'macrophage'"):
        render_cell("macrophage", rng)
    with pytest.raises(ValueError, match="unknown trait 'tail'"):
        render_cell("blast", rng, traits={"tail": 0.5})
    with pytest.raises(ValueError, match="not between 0 and 1"):
        render_cell("blast", rng, traits={"auer_rod": 1.5})
    with pytest.raises(ValueError, match="do not divide"):
        token_truth(np.zeros((224, 224), dtype=np.uint32), grid=15)


def test_laboratories_differ_in_colour_and_without_shift_do_not() -> None:
    def colour(laboratory: object) -> NDArray[np.float64]:
        kinds = ("monocyte", "eosinophil", "blast")
        drawn = [
            render_cell(kind, np.random.default_rng((1, i)), laboratory=laboratory)[0]  # type: ignore[arg-type]
            for i, kind in enumerate(kinds)
        ]
        return np.mean(drawn, axis=(0, 1, 2))

    styles = (REFERENCE, *LABORATORIES)
    assert len({style.name for style in styles}) == len(styles) >= 4
    means = [colour(style) for style in styles]
    for first in range(len(styles)):
        for second in range(first):
            assert np.abs(means[first] - means[second]).max() > 8
    unshifted = REFERENCE.toward(LABORATORIES[0], 0.0)
    assert unshifted.name == LABORATORIES[0].name
    np.testing.assert_array_equal(colour(unshifted), means[0])


def test_patches_show_regions_by_half_and_structures_by_a_tenth() -> None:
    masks = np.zeros((28, 28), dtype=np.uint32)
    bits = {name: np.uint32(1 << CONCEPTS.index(name)) for name in ("nucleus", "vacuoles")}
    masks[:14, :6] |= bits["nucleus"]  # 6 of 14 columns
    masks[14:, :7] |= bits["nucleus"]
    masks[:1, 14:] |= bits["vacuoles"]  # 1 of 14 rows
    masks[14:16, 14:] |= bits["vacuoles"]
    shown = patch_labels(masks, grid=2)
    assert shown[CONCEPTS.index("nucleus")].tolist() == [[False, False], [True, False]]
    assert shown[CONCEPTS.index("vacuoles")].tolist() == [[False, False], [False, True]]
    assert shown.sum() == 2


def test_token_truth_is_the_share_of_each_patch() -> None:
    masks = np.zeros((2, 224, 224), dtype=np.uint32)
    auer = CONCEPTS.index("auer_rod")
    masks[1, 14:28, 28:35] |= np.uint32(1 << auer)  # left half of the patch in row 1, column 2
    masks[1, 14:28, 28:42] |= np.uint32(1 << CONCEPTS.index("cytoplasm"))
    shares = token_truth(masks)
    assert shares.shape == (2, len(CONCEPTS), 16, 16)
    assert shares.dtype == np.float32
    assert shares[1, auer, 1, 2] == 0.5
    assert shares[1, CONCEPTS.index("cytoplasm"), 1, 2] == 1.0
    assert shares.sum() == 1.5
    np.testing.assert_array_equal(token_truth(masks[1]), shares[1])


def test_planted_structures_are_large_enough_for_patches(mix: Cell) -> None:
    shares = token_truth(mix[1])
    for bit, name in enumerate(CONCEPTS):
        assert (shares[:, bit] > 0.1).sum() >= 5, name


def test_contact_sheet_is_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (300, 280), "red").save(tmp_path / "real.png")
    sheet = contact_sheet({"monocyte": [tmp_path / "real.png"]})
    assert sheet.mode == "RGB"
    assert sheet.width > 1000
    assert (np.asarray(sheet) == (255, 0, 0)).all(axis=-1).sum() > 10_000
