"""From patches and cells to concepts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.concepts import cell_concepts, is_common, patch_concepts, tissue_fractions
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
    common = is_common([1.0, 0.2, 0.995, 0.99, 0.0], fraction=0.99)
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
    found = tissue_fractions([[[2, 1], [0, 1]], [[0, 0], [0, 0]]], tissues)
    assert found.iloc[0].tolist() == [0.5, 0.125, 0.375]
    assert found.iloc[1].isna().all()
