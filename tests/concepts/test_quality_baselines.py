"""Beside the quality figures: autoencoders with a frozen matrix, and another backbone's view of the cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from concepts.test_evaluation import assert_registered, planted, value
from cytosae.concepts import encode, evaluate_study
from cytosae.concepts.evaluation.frozen import FROZEN, train_frozen
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, recorded
from cytosae.settings import EvaluateConfig
from cytosae.tokens import TokenStore
from support.planted import PlantedBackbone, tiny_info
from support.training import SHORT_TRAINING

CONFIG = EvaluateConfig(cells=300, token_cells=50, changed_cells=10, draws=20, baseline_images=1600)
LEARNED = replace(SHORT_TRAINING, expansion=2, objective="batchtopk", k=2, centring="position", seeds=3)


def study(make_store: Callable[..., TokenStore]) -> tuple[Path, TokenStore]:
    folder, store = planted(make_store, "labels")
    sae = SAE.from_pretrained(folder / "sae")
    sae.metadata["training"] = recorded(LEARNED)
    sae.save_pretrained(folder / "sae")
    encode(store, sae, folder / "concepts")
    return folder, store


class Judge(PlantedBackbone):
    """Sees what a test says that it sees."""

    can_finish = False


def judge(embeddings: torch.Tensor, fingerprint: str = "another") -> Any:
    return Judge(embeddings[:, None].repeat(1, 7, 1), tiny_info(embeddings.shape[1], fingerprint=fingerprint))


def test_frozen_baselines_stand_beside_the_figures(make_store: Callable[..., TokenStore]) -> None:
    folder, store = study(make_store)
    result = evaluate_study(folder, store, CONFIG)
    assert_registered(result)
    rows = {(row["measure"], row["method"]): row for row in result["figures"]}
    for name in FROZEN.values():
        beside = {measure for measure, method in rows if method == name}
        assert {"explained variance", "L0", "dense latents (share)", "position share"} <= beside
        assert "monosemanticity, by the backbone that is explained" in beside
        assert any(measure.startswith("k-sparse probe") for measure in beside)
        assert 0.03 < rows["explained variance", name]["value"] < 1
        assert 0.5 < rows["L0", name]["value"] < 4  # k is 2
    over = {gain["over"] for gain in result["gains"] if gain["measure"] == "explained variance"}
    assert set(FROZEN.values()) <= over  # in the same draws
    assert evaluate_study(folder, store, CONFIG) == result
    assert not list((folder / "quality").glob("*frozen*"))
    without = evaluate_study(folder, store, replace(CONFIG, baseline_images=0))
    assert not {row["method"] for row in without["figures"]} & {*FROZEN.values()}


def test_what_is_frozen_stays_as_it_was_drawn(make_store: Callable[..., TokenStore]) -> None:
    _, store = study(make_store)
    sae = SAE(8, 16, {"training": recorded(replace(LEARNED, seeds=1))})
    drawn = SAE(8, 16)
    drawn.initialise(torch.Generator().manual_seed(0))
    trained = train_frozen(store, sae, 320)
    assert torch.equal(trained["frozen decoder"].W_dec, drawn.W_dec)
    assert torch.equal(trained["frozen encoder"].W_enc, drawn.W_enc)
    assert not torch.equal(trained["frozen encoder"].W_dec, drawn.W_dec)
    with pytest.raises(CytosaeError, match="does not say how it was trained"):
        train_frozen(store, drawn, 320)


def test_another_backbone_judges_which_images_are_alike(make_store: Callable[..., TokenStore]) -> None:
    folder, store = study(make_store)
    plain = replace(CONFIG, baseline_images=0)
    by_label = torch.eye(3)[torch.arange(600) % 3]
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32))
    scores = [
        value(evaluate_study(folder, store, plain, judge=judge(seen)), "monosemanticity, by planted")
        for seen in (by_label, noise)
    ]
    assert scores[0] > 0.4
    assert abs(scores[1]) < 0.1
    with pytest.raises(CytosaeError, match="is the backbone that this study explains"):
        evaluate_study(folder, store, plain, judge=judge(by_label, fingerprint="f"))
