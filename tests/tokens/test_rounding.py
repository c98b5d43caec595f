"""Tokens that are made on the fly are rounded as those of the study, whoever makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cytosae.analysis import study_store, study_tokens
from cytosae.cells import read_cells, write_cells
from cytosae.cli.stages import _source
from cytosae.concepts.evaluation import images
from cytosae.explorer.activations import Activations
from cytosae.sae import SAE
from cytosae.settings import BackboneConfig, EvaluateConfig, StoreConfig
from cytosae.study import RunConfig, Study
from cytosae.tokens import LiveTokens, TokenStore, embed, store_layout
from support.planted import PlantedBackbone, numbered_cells, tiny_info

BFLOAT16 = StoreConfig(store_dtype="bfloat16")
TOKENS = torch.full((4, 7, 8), 1 + 2**-9)  # is one in bfloat16, and itself in float16


def backbone() -> PlantedBackbone:
    return PlantedBackbone(TOKENS, tiny_info(8, (2, 3), fingerprint="f"))


@pytest.fixture(params=["live", "stored"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A study whose tokens are in bfloat16, kept or not."""
    cells = numbered_cells(tmp_path / "images", 4)
    write_cells(cells, tmp_path / "cells.parquet", {})
    about = {"request": {"settings": asdict(BackboneConfig())}, "info": {}}
    if request.param == "live":
        about["store"] = asdict(BFLOAT16)
    else:
        embed(cells, backbone(), tmp_path / "tokens", store_layout(backbone().info, BFLOAT16), workers=0)  # type: ignore[arg-type]
    (tmp_path / "backbone.json").write_text(json.dumps(about))
    return tmp_path


def test_viewing_and_explorer_round_as_the_study_does(study: Path) -> None:
    assert study_store(study) == BFLOAT16
    with study_tokens(study, backbone()) as source:  # type: ignore[arg-type]
        (read,) = source.stream([np.arange(4)])
    assert read.dtype == torch.bfloat16
    activations = Activations(SimpleNamespace(folder=study), SimpleNamespace())  # type: ignore[arg-type]
    activations._backbone, activations._sae = backbone, lambda: SAE(8, 4)  # type: ignore[assignment]
    pixels = np.array(Image.open(study / "images" / "00002.bmp"))
    np.testing.assert_array_equal(activations.embed(pixels, "uploaded"), np.ones((7, 8)))


def test_a_study_of_an_earlier_version_is_in_float16(tmp_path: Path) -> None:
    (tmp_path / "backbone.json").write_text(json.dumps({"request": {}, "info": {}}))
    assert study_store(tmp_path) == StoreConfig()
    assert study_store(tmp_path / "none") == StoreConfig()


def test_a_study_remembers_how_it_rounds(tmp_path: Path) -> None:
    path = tmp_path / "backbone.json"
    for store in (StoreConfig(), BFLOAT16):
        study = Study(tmp_path, RunConfig(BackboneConfig("tiny"), store), store=False)
        assert study.layout().dtype == store.store_dtype
        study._remember_backbone()
        assert json.loads(path.read_text())["store"] == asdict(store)
        assert study_store(tmp_path) == store


def test_changed_images_are_rounded_as_the_tokens_that_they_are_compared_with(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def spy(sae: SAE, tokens: torch.Tensor, *_: Any) -> Any:
        seen.append(tokens)
        return cell_activations(sae, tokens)

    cell_activations = images.cell_activations
    monkeypatch.setattr(images, "cell_activations", spy)
    monkeypatch.setattr(images, "PERTURBATIONS", {"nothing": lambda image: image})
    cells = read_cells(study / "cells.parquet")
    sample = SimpleNamespace(cells=cells, frozen={}, concepts=np.array([0, 1]), draw_rows=lambda count: np.arange(4))
    source = LiveTokens(cells, backbone, store_layout(backbone().info, BFLOAT16), 0)  # type: ignore[arg-type]
    sae = SAE(8, 4)
    sae.initialise(torch.Generator().manual_seed(0))

    model = SimpleNamespace(info=SimpleNamespace(image_size=224, name="x"), tokens=backbone().tokens)
    evaluation = SimpleNamespace(
        sample=sample,
        backbone=model,
        config=EvaluateConfig(),
        source=source,
        sae=sae,
        per_concept=pd.DataFrame(index=[0, 1]),
        mean=lambda *_: None,
    )
    images.robustness.run(evaluation)  # type: ignore[arg-type]
    assert seen
    assert all(bool((tokens.float() == 1).all()) for tokens in seen)


def test_encoding_on_the_fly_rounds_as_the_training_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered_cells(tmp_path / "images", 4)
    cells = numbered_cells(tmp_path / "images", 4)
    write_cells(cells, tmp_path / "cells.parquet", {})
    monkeypatch.setattr("cytosae.study.load_backbone", lambda *_: backbone())
    assert _source(tmp_path / "cells.parquet", None, BackboneConfig(), rounding=BFLOAT16).layout.dtype == "bfloat16"
    assert _source(tmp_path / "cells.parquet", None, BackboneConfig()).layout.dtype == "float16"


def test_an_autoencoder_knows_the_rounding_of_its_tokens(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    from cytosae.sae import train
    from cytosae.settings import TrainConfig

    store = make_store(torch.randn(12, 7, 8))
    train(store, tmp_path / "sae", TrainConfig(expansion=2, images=16, batch_images=8, init_images=8), device="cpu")
    assert SAE.from_pretrained(tmp_path / "sae").metadata["store_dtype"] == store.layout.dtype
