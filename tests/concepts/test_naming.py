"""Sentences are tested on cells from which they were not made; knobs on drawn cells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.analysis import evaluate
from cytosae.concepts.evaluation import tuning
from cytosae.settings import EvaluateConfig


@pytest.fixture(scope="module")
def evaluated(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The drawn study with its quality, two knobs turned on three cells, and its figures."""
    study = Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("named") / "study"))
    knobs = {name: tuning.KNOBS[name] for name in ("chromatin", "nucleoli")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "KNOBS", knobs)
        result = evaluate(study, EvaluateConfig(tuning=3, token_cells=20, changed_cells=10, draws=50))
    return study, pd.DataFrame(result["figures"]).set_index(["measure", "method"])


def test_sentences_find_cells_that_they_were_not_made_from(evaluated: tuple[Path, pd.DataFrame]) -> None:
    _, figures = evaluated
    found, chance = (figures.loc[("detection (AUROC)", method)] for method in ("latents", "shuffled sentences"))
    assert found["low"] > max(0.55, chance["high"])
    assert 0.4 < chance["value"] < 0.6
    row = "intruder (share found; 0.2 by chance)"
    found, chance = (figures.loc[(row, method)] for method in ("latents", "shuffled sentences"))
    assert found["low"] > chance["high"]


def test_curves_are_kept_with_their_intervals(evaluated: tuple[Path, pd.DataFrame]) -> None:
    study, figures = evaluated
    curves = pd.read_parquet(study / "quality" / "tuning.parquet")
    assert {*curves["knob"]} == {"chromatin", "nucleoli"}
    assert (curves.groupby(["latent", "knob"])["change"].first() == 0).all()
    assert (curves["low"] <= curves["change"] + 1e-9).all()
    assert (curves["change"] <= curves["high"] + 1e-9).all()
    row = "tuned to a knob, chromatin (share of concepts)"
    assert figures.loc[(row, "latents"), "value"] > 0.1
    manifest = json.loads((study / "quality" / "manifest.json").read_text(encoding="utf-8"))
    assert "tuning.parquet" in manifest["outputs"]
    per_latent = pd.read_parquet(study / "quality" / "latents.parquet")
    assert per_latent["detection"].notna().sum() > 50
    assert per_latent["knobs"].max() >= 1


def test_a_planted_response_is_found_and_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    levels = len(tuning.KNOBS["vacuoles"].levels)
    values = rng.normal(0, 0.2, (12, levels, 40)) + rng.normal(0, 1, (12, 1, 40))
    values[:, :, 0] += np.linspace(0, 2, levels)
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=100) / 12
    found = tuning._respond(*tuning._changes(values, weights))
    assert found.tolist() == [True] + [False] * 39
