"""Masks of tissues become shares of patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import UnreadableImage, patch_tissues


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
