"""An untrained backbone: the shape of the trained one, the same weights for the same seed, nothing of what was learnt."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from cytosae.backbones import Backbone, load
from cytosae.cells import load_squashed
from support.paths import SHARED

IDENTITY = ("fingerprint", "source")


@pytest.fixture(scope="module")
def backbones() -> tuple[Backbone, Backbone, Backbone, Backbone]:
    """Trained, untrained, untrained again, untrained with another seed."""
    seeds = (None, 0, 0, 1)
    trained, first, again, other = (load("tiny", dtype="float32", device="cpu", untrained=seed) for seed in seeds)
    return trained, first, again, other


def test_shape_is_kept_and_the_seed_decides(backbones: tuple[Backbone, ...]) -> None:
    trained, first, again, other = backbones
    about = [{k: v for k, v in asdict(one.info).items() if k not in IDENTITY} for one in backbones]
    assert about[0] == about[1] == about[2] == about[3]
    assert first.info.fingerprint == again.info.fingerprint
    assert len({one.info.fingerprint for one in (trained, first, other)}) == 3
    images = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), dtype=np.uint8)
    tokens = [one.tokens(images) for one in backbones]
    assert torch.equal(tokens[1], tokens[2])
    assert not torch.allclose(tokens[1], tokens[3], atol=0.1)
    state = torch.random.get_rng_state()
    load("tiny", dtype="float32", device="cpu", untrained=0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_nothing_that_was_learnt_is_left(backbones: tuple[Backbone, ...]) -> None:
    trained, first, *_ = backbones
    learnt, new = (dict(one._blocks.named_parameters()) for one in (trained, first))
    for name, value in new.items():
        assert value.std() < 0.03 if value.ndim > 1 else value.unique().tolist() in ([0.0], [1.0]), name
        if value.ndim > 1:
            assert abs(np.corrcoef(value.flatten(), learnt[name].flatten())[0, 1]) < 0.1, name


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="no real cells here")
def test_tokens_of_a_real_cell_differ_from_place_to_place(backbones: tuple[Backbone, ...]) -> None:
    path = next((SHARED / "data" / "cells" / "pbc").rglob("*.jpg"))
    (tokens,) = backbones[1].tokens(load_squashed(path, 224)[None])
    assert torch.isfinite(tokens).all()
    assert tokens[1:].std(dim=0).mean() > 0.01
