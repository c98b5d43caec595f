"""From patches and cells to concepts; masks, attributes and changes of images that the measures rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cytosae.cells import PERTURBATIONS, UnreadableImage, load_squashed, patch_tissues, read_attributes
from cytosae.concepts import cell_concepts, is_common, patch_concepts, tissue_shares
from cytosae.errors import CytosaeError
from cytosae.sae import SAE


@pytest.fixture
def sae() -> SAE:
    """Latent s is dimension s, where it is above 0."""
    model = SAE(5, 5)
    with torch.no_grad():
        model.W_enc.copy_(torch.eye(5))
        model.W_dec.copy_(torch.eye(5))
    return model


def test_patch_is_explained_by_its_latents_without_the_common_ones(sae: SAE) -> None:
    common = is_common([1.0, 0.2, 0.995, 0.99, 0.0], share=0.99)
    assert common.tolist() == [True, False, True, False, False]
    table = patch_concepts(sae, torch.tensor([5.0, 2, 3, 4, -1]), common)
    assert table["latent"].tolist() == [0, 3, 2, 1]
    assert table["activation"].tolist() == [5, 4, 3, 2]
    assert table["latent"][~table["common"]].tolist() == [3, 1]


def test_cell_is_ranked_by_image_activation_and_maps_lie_where_the_patches_are(sae: SAE) -> None:
    tokens = torch.zeros(7, 5)
    tokens[0, 4] = 7  # CLS counts for the image activation, and is on no map
    tokens[1, 1] = 3
    tokens[6, 1] = 6
    tokens[2, 2] = 1
    tokens[:, 0] = 100
    found = cell_concepts(sae, tokens, (2, 3), [True, False, False, False, False])
    assert found.table["latent"].tolist() == [1, 4, 2]
    np.testing.assert_allclose(found.table["mean_activation"], [9 / 7, 1, 1 / 7], rtol=1e-6)
    assert found.table["patches"].tolist() == [2, 0, 1]
    assert found.maps[0].tolist() == [[3, 0, 0], [0, 0, 6]]
    assert not found.maps[1].any()
    assert cell_concepts(sae, tokens, (2, 3), np.zeros(5), top=1).table["latent"].tolist() == [0]


def test_shares_of_tissues_by_hand() -> None:
    tissues = np.zeros((3, 2, 2))
    tissues[0, 0, 0] = 1  # nucleus
    tissues[1, 0, 1] = tissues[2, 0, 1] = 0.5
    tissues[2, 1] = 1
    found = tissue_shares([[[2, 1], [0, 1]], [[0, 0], [0, 0]]], tissues)
    assert found.iloc[0].tolist() == [0.5, 0.125, 0.375]
    assert found.iloc[1].isna().all()


def test_masks_become_shares_of_patches(tmp_path: Path) -> None:
    mask = np.zeros((224, 224), np.uint8)
    mask[:14, :7] = 255
    mask[:14, 7:28] = 128
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = patch_tissues(tmp_path / "mask.png", (16, 16))
    assert found.shape == (3, 16, 16)
    assert found[:, 0, 0].tolist() == [0.5, 0.5, 0]
    assert found[:, 0, 1].tolist() == [0, 1, 0]
    assert found[:, 5, 5].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.sum(axis=0), 1)
    with pytest.raises(UnreadableImage, match="missing"):
        patch_tissues(tmp_path / "none.png", (16, 16))
    with pytest.raises(ValueError, match="do not divide"):
        patch_tissues(tmp_path / "mask.png", (15, 15))


def test_real_masks_have_all_tissues(real_cells: Path) -> None:
    table = pd.read_csv(real_cells / "cells.csv")
    masks = table["mask"].dropna()
    shares = np.stack([patch_tissues(real_cells / mask, (16, 16)) for mask in masks[::10]]).mean(axis=(0, 2, 3))
    assert (shares > 0.05).all()
    assert shares[2] > shares[0]


def test_attributes_of_real_cells_are_joined_by_the_end_of_their_path(real_cells: Path) -> None:
    cells = pd.read_csv(real_cells / "cells.csv").sample(500, random_state=0)
    expected = pd.read_csv(real_cells / "pbc_attributes.csv", keep_default_na=False).set_index("path")
    cells = cells.assign(cell_id=[f"c{i}" for i in range(500)], key=cells["path"], path="/somewhere/" + cells["path"])
    found = read_attributes(real_cells / "pbc_attributes.csv", cells)
    assert found.shape == (500, 11)
    assert found.index.equals(cells.index)
    assert 150 < found["granularity"].notna().sum() < 400
    for key, row in zip(cells["key"], found.itertuples(), strict=True):
        if key in expected.index:
            assert row.nucleus_shape == expected.loc[key, "nucleus_shape"]
        else:
            assert pd.isna(row.nucleus_shape)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,granules\na,yes\nb,no\n", "no column 'cell_id' or 'path'"),
        ("cell_id,granules\nx,yes\ny,no\n", "none of its 2 rows"),
        ("cell_id,label\na,yes\nb,no\n", "has no attribute"),
        ("cell_id,always\na,yes\nb,yes\n", "has no attribute"),
    ],
)
def test_tables_that_are_no_attributes_of_these_cells(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    cells = pd.DataFrame({"cell_id": ["a", "b"], "path": ["/p/a.png", "/p/b.png"]})
    with pytest.raises(CytosaeError, match=words):
        read_attributes(tmp_path / "t.csv", cells)


def test_attributes_by_cell_id_keep_the_order_of_the_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("cell_id,granules\nb,no\na,yes\n")
    cells = pd.DataFrame({"cell_id": ["a", "c", "b"], "path": [""] * 3}, index=[5, 6, 7])
    found = read_attributes(tmp_path / "t.csv", cells)
    assert found["granules"].tolist() == ["yes", pd.NA, "no"]
    assert found.index.tolist() == [5, 6, 7]


def test_changed_images_are_the_same_cell(real_cells: Path) -> None:
    path = pd.read_csv(real_cells / "cells.csv")["path"][0]
    pixels = load_squashed(real_cells / path, 224)
    for name, change in PERTURBATIONS.items():
        after = change(pixels)
        assert after.shape == pixels.shape
        assert after.dtype == np.uint8
        assert not np.array_equal(after, pixels)
        assert np.corrcoef(after.ravel(), pixels.ravel())[0, 1] > 0.9, name
        assert np.array_equal(change(pixels), after)
    stained = PERTURBATIONS["stain"](pixels).astype(int).mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))
    assert stained[0] < 0 < stained[1]  # more density of red light, less of green
    sharp, blurred = (np.abs(np.diff(x.astype(int), axis=0)).mean() for x in (pixels, PERTURBATIONS["blur"](pixels)))
    assert blurred < 0.7 * sharp
