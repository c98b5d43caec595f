"""Views that the built-in backbone is trained on: what they show and what has to be predicted lie at the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from training.tiny import strong
from training.tiny.data import SIZE
from training.tiny.model import new_backbone, start_from
from training.tiny.strong import cells_of_many_laboratories, strong_view
from training.tiny.targets import GLOBAL, KINDS, SIDE, WIDTH, Targets
from training.tiny.train import Recipe, train

from cytosae.backbones import TINY
from cytosae.cells import load_squashed


def test_targets_follow_a_view_beyond_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strong, "hed_jitter", lambda rng: np.eye(3))
    monkeypatch.setattr(strong, "laboratory_shift", lambda rng: (np.ones(3), np.zeros(3)))
    monkeypatch.setattr(strong, "illumination", lambda rng: np.ones((SIZE, SIZE)))
    place = (np.arange(SIZE) + 0.5) / SIZE
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[..., 0], image[..., 1] = np.round(200 * place)[None, :], np.round(200 * place)[:, None]
    centres = (np.arange(SIDE) + 0.5) / SIDE
    local = np.zeros((1, SIDE, SIDE, WIDTH), np.int8)
    local[0, :, :, 0], local[0, :, :, 1] = np.round(100 * centres)[None, :], np.round(100 * centres)[:, None]
    targets = Targets(local, np.zeros((1, GLOBAL)), np.zeros((1, 2, 3)), np.zeros((sum(KINDS), 16)))
    rng, beyond = np.random.default_rng(0), 0
    for _ in range(12):
        view, geometry = strong_view(image, rng)
        beyond += geometry.box[2] - geometry.box[0] > 1
        shown = view.reshape(16, 14, 16, 14, 3).mean(axis=(1, 3)).reshape(256, 3)[:, :2] / 200
        asked = targets.patches(0, geometry).reshape(256, 4, WIDTH).mean(axis=1)[:, :2] * 31 / 100
        assert np.abs(shown - asked).mean() < 0.03
    assert 0 < beyond < 12


def test_a_view_depends_on_the_generator_alone_and_is_of_another_stain(real_cells: Path) -> None:
    cells = pd.read_csv(real_cells / "cells.csv")
    image = load_squashed(real_cells / cells.loc[cells["dataset"] == "pbc", "path"].iloc[0], SIZE)
    views = [strong_view(image, np.random.default_rng(seed))[0] for seed in (0, 0, *range(1, 20))]
    assert np.array_equal(views[0], views[1])
    means = np.array([view.reshape(-1, 3).mean(axis=0) for view in views])
    assert means.std(axis=0).min() > 10  # grey values: far more than cells of one laboratory differ


def test_drawn_cells_are_of_many_laboratories() -> None:
    first = cells_of_many_laboratories(6, 0)
    assert np.array_equal(first[:3], cells_of_many_laboratories(3, 0))
    white = np.array([np.percentile(image.reshape(-1, 3), 95, axis=0) for image in first])
    assert len(np.unique(white, axis=0)) == len(first)


def test_a_trained_backbone_is_gone_on_with_and_another_shape_refused(tmp_path: Path) -> None:
    backbone = new_backbone()
    start_from(backbone, "tiny")
    trained = type(backbone).from_pretrained(TINY, dtype=torch.float32).state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in backbone.state_dict().items())
    new_backbone(2).save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit, match="another shape"):
        start_from(backbone, str(tmp_path / "other"))


def _cells(real_cells: Path, folder: Path, n: int) -> None:
    table = pd.read_csv(real_cells / "cells.csv")
    table = table[table["dataset"] == "pbc"].iloc[:: 8000 // n][:n]
    for path in table["path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(real_cells / path)
    table.to_csv(folder / "cells.csv", index=False)


@pytest.mark.slow
def test_a_training_with_strong_views_leaves_a_backbone(real_cells: Path, tmp_path: Path) -> None:
    _cells(real_cells, tmp_path / "cells", 24)
    recipe = Recipe(steps=3, batch=8, synthetic=6, views="strong", start="tiny", pace=0.3)
    train(tmp_path / "cells", tmp_path / "out", recipe)
    tokens: NDArray[np.float32] = (
        type(new_backbone()).from_pretrained(tmp_path / "out" / "backbone").state_dict()["embeddings.cls_token"]
    )
    assert bool(torch.isfinite(torch.as_tensor(tokens)).all())
