"""Sweeps: the file, the table and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.errors import CytosaeError
from cytosae.settings import BackboneConfig, TrainConfig
from cytosae.study import RunConfig, Study
from cytosae.sweeps import read_spec
from cytosae.sweeps.table import over_seeds
from support.commands import assert_user_error, cytosae, figures


def test_means_and_deviations_by_hand() -> None:
    each = pd.DataFrame(
        {
            "setting": ["base", "base", "base", "wide", "wide", "wide"],
            "paper_variant": ["chosen"] * 3 + [None] * 3,
            "layer": 11,
            "expansion": [4, 4, 4, 8, 8, 8],
            "seed": [0, 1, 2] * 2,
            "state": ["trained"] * 4 + ["diverged"] * 2,
            "dataset": ["pbc"] * 4 + [None] * 2,
            "dead": [0.1, 0.2, 0.6, 0.5, np.nan, np.nan],
            "concepts_at_-3": [10, 12, 20, 7, np.nan, np.nan],
        }
    )
    table = over_seeds(each).set_index("setting")
    base, wide = table.loc["base"], table.loc["wide"]
    assert (base["trainings"], base["diverged"]) == (3, 0)
    assert base["dead"] == pytest.approx(0.3)
    assert base["dead_deviation"] == pytest.approx(((0.2**2 + 0.1**2 + 0.3**2) / 2) ** 0.5)
    assert base["concepts_at_-3"] == 14
    assert base["concepts_at_-3_deviation"] == pytest.approx(28**0.5)
    assert (wide["trainings"], wide["diverged"], wide["dead"]) == (1, 2, 0.5)
    assert np.isnan(wide["dead_deviation"])


SPEC = """
base: {expansion: 4, l1: 5e-4, images: 64, batch_images: 16}
vary:
  expansion: [2, 4]
  revival: [none]
grid: {l1: [5e-3, 5e-4], layer: [-2, 1]}
list: [{learning_rate: 4e-3, b_dec_init: mean}]
seeds: [0, 7]
"""


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SPEC)
    spec = read_spec(path)
    assert [setting.name for setting in spec.settings] == [
        "base",
        "expansion=2",
        "revival=none",
        "l1=0.005, layer=-2",
        "l1=0.005, layer=1",
        "layer=-2",
        "layer=1",
        "learning_rate=0.004, b_dec_init=mean",
    ]
    assert spec.seeds == (0, 7)
    assert spec.settings[1].config == TrainConfig(expansion=2, l1=5e-4, images=64, batch_images=16)
    by_name = {setting.name: setting for setting in spec.settings}
    found = {name: spec.variant(by_name[name], 11, 11, 12) for name in ("base", "expansion=2", "revival=none")}
    assert found == {"base": "chosen", "expansion=2": "expansion-half", "revival=none": "no-ghost"}
    assert spec.variant(by_name["layer=1"], 2, 11, 12) == "layer-2"
    assert spec.variant(by_name["l1=0.005, layer=1"], 2, 11, 12) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("base: {lambda: 1}", "lambda"),
        ("grids: {}", "grids"),
        ("base: {l1: much}", "much"),
        ("base: {expansion: 2.5}", "2.5"),
        ("vary: {l1: 3}", "l1"),
        (f"base: {{l1: 1{'0' * 400}}}", "not a finite number"),
        ("vary: {l1: [.nan]}", "not a finite number"),
        (f"thresholds: [1{'0' * 400}]", "thresholds .* finite"),
        (f"thresholds: [0x1{'0' * 9000}]", "too long"),
        ("thresholds: [.nan]", "thresholds .* finite"),
        ("seeds: 99999999999999", "at most 10,000"),
        ("seeds: [99999999999999999999]", "from 0 to 9223372036854775807"),
        ("base: {revival: magic}", "magic"),
        ("seeds: [-1]", "-1"),
        ("base: {seed: 1}", "seed"),
        ("- 1", "mapping"),
        ("a: [", "YAML"),
        ("[" * 5000, "YAML"),
        ("base: {l1: 2024-99-99}", "YAML"),
        ("!!python/object/apply:os.system ['true']", "YAML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(CytosaeError, match=word) as error:
        read_spec(path)
    assert str(path) in str(error.value)


def test_the_command(vit: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    config = RunConfig(
        backbone=BackboneConfig(str(vit)),
        train=TrainConfig(expansion=1, images=16, batch_images=8, dead_latent_loss="none"),
    )
    Study(study, config).run(Path("synthetic:patients=5,cells=4,seed=1"))
    spec = tmp_path / "sweep.yaml"
    spec.write_text(
        "base: {expansion: 2, images: 24, batch_images: 8, l1: 4e-5, learning_rate: 1e-3, directions_init: tokens}\n"
        "vary: {expansion: [1], learning_rate: [1e30], layer: [1]}\nseeds: 2\nthresholds: [-4, -3]\n"
    )
    first = figures(cytosae("sweep", spec, "--study", study, "--json"))
    assert len(first["trained"]) == 6
    assert sorted(first["diverged"]) == [f"learning_rate=1e+30_seed={seed}" for seed in (0, 1)]
    table = pd.read_parquet(study / "sweep" / "sweep.parquet").set_index("setting")
    assert list(table.index) == ["base", "expansion=1", "learning_rate=1e+30", "layer=1"]
    assert table["trainings"].tolist() == [2, 2, 0, 2]
    each = pd.read_csv(study / "sweep" / "runs.csv")
    values = each.loc[each["setting"] == "expansion=1", "concepts_at_-3"]
    assert table.loc["expansion=1", "concepts_at_-3"] == pytest.approx(values.mean())
    assert table.loc["expansion=1", "concepts_at_-3_deviation"] == pytest.approx(values.std())
    assert table["paper_variant"].to_dict()["expansion=1"] == "expansion-half"
    page = (study / "sweep" / "sweep.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "2,170" in page  # the paper's count at half the expansion
    assert page.count("data:image/png") >= 4
    # Each is an autoencoder like any other.
    member = study / "sweep" / "members" / "expansion=1_seed=1"
    told = figures(
        cytosae("encode", study / "cells.parquet", "--tokens", study / "tokens", "--sae", member / "sae",
                "-o", tmp_path / "again", "--json")
    )  # fmt: skip
    assert next(iter(told["datasets"].values()))["concepts"] == values.iloc[1]
    second = figures(cytosae("sweep", spec, "--study", study, "--json"))
    assert second["trained"] == []
    assert len(second["skipped"]) == 6
    assert second["diverged"] == first["diverged"]
    assert second["settings"] == first["settings"]
    assert_user_error(cytosae("sweep", spec, "--study", tmp_path / "none", check=False), "none", "backbone.json")
    with pytest.raises(CytosaeError, match=r"no\.yaml"):
        read_spec(tmp_path / "no.yaml")
