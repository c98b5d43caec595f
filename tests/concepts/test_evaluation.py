"""The whole of the quality measures: on planted latents, and from the command line on real cells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.analysis import attribute, compare_counts, evaluate, show_concept
from cytosae.artefacts import Manifest, sae_weights_digest
from cytosae.concepts import encode, evaluate_study
from cytosae.concepts.evaluation import LATENT_METHOD, MEASURES, read_figures
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EvaluateConfig
from cytosae.tokens import TokenStore
from support.commands import assert_user_error, cytosae, figures
from support.folders import made_once
from support.paths import ROOT

CONFIG = EvaluateConfig(cells=600, token_cells=50, changed_cells=10, draws=50)


def planted(make_store: Callable[..., TokenStore], kind: str) -> tuple[Path, TokenStore]:
    """600 cells of three labels in two data sets; latents that tell the labels, or constant ones."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    tokens = 0.3 * torch.randn(600, 7, 8, generator=generator)
    tokens[torch.arange(600), 1 + labels] += 2 * torch.eye(8)[labels]  # each label has its own patch and dimension
    names = [("blast", "monocyte", "lymphocyte")[i] for i in labels]
    store = make_store(tokens, "study", dataset=["blood"] * 300 + ["marrow"] * 300, label=names)
    sae = SAE(8, 12)
    with torch.no_grad():
        if kind == "labels":
            sae.W_dec[:8] = torch.eye(8)
            sae.W_dec[8:, 0] = 1  # four twins of the first
            sae.W_enc.copy_(sae.W_dec.T)
            sae.b_enc[:] = -0.6
        else:
            sae.W_dec[:, 7] = 1
            sae.b_enc[:] = 1
    folder = store.folder.parent
    sae.save_pretrained(folder / "sae")
    encode(store, sae, folder / "concepts")
    return folder, store


def value(result: dict[str, Any], measure: str, method: str = "latents") -> float:
    (row,) = [r for r in result["figures"] if r["measure"].startswith(measure) and r["method"] == method]
    return float("nan") if row["value"] is None else row["value"]


def assert_registered(result: dict[str, Any]) -> None:
    """Every row belongs to one measure, and its method is the latents, a baseline or the null of that measure."""
    for row in result["figures"]:
        (measure,) = [measure for measure in MEASURES if row["measure"].startswith(measure.label)]
        assert row["method"] in {LATENT_METHOD, *measure.baselines, measure.null}, row


def test_the_page_lists_the_measures_of_the_registry() -> None:
    rows = [f"| {m.label} | {m.says} | {m.better} | {m.null} | {m.source} |" for m in MEASURES]
    page = (ROOT / "docs" / "explanation" / "quality.md").read_text()
    assert "\n".join(rows) in page, "docs/explanation/quality.md: the table of measures is to be:\n" + "\n".join(rows)


def test_a_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "figures.csv").write_text("measure,contender,value\nL0,latents,3\n")
    assert read_figures(tmp_path).to_dict("records") == [{"measure": "L0", "method": "latents", "value": 3}]


def test_planted_latents_are_recognised(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    folder, store = planted(make_store, "labels")
    table = pd.DataFrame({"cell_id": store.cells["cell_id"], "granules": store.cells["label"].eq("blast").map(str)})
    table.to_csv(tmp_path / "attributes.csv", index=False)
    other = SAE.from_pretrained(folder / "sae")
    other.save_pretrained(tmp_path / "again")
    result = evaluate_study(folder, store, CONFIG, attributes=tmp_path / "attributes.csv", against=[tmp_path / "again"])
    assert_registered(result)
    assert value(result, "k-sparse probe, k = 1 ") > 0.98
    assert abs(value(result, "k-sparse probe, k = 1 ", "shuffled labels") - 0.5) < 0.1
    best = {row["value"]: row["auroc"]["value"] for row in result["attributes"]}
    assert best["granules: True"] > 0.98
    assert best["granules: False"] == pytest.approx(0.75, abs=0.05)  # two labels, and a latent has one
    assert value(result, "attribute alignment") == pytest.approx(np.mean(list(best.values())))
    assert abs(value(result, "attribute alignment", "shuffled labels") - 0.5) < 0.1
    assert value(result, "stability, largest cosine") == pytest.approx(1, abs=1e-5)
    # Of the five that say the same, one comes back.
    assert value(result, "reproducibility (share of other trainings)") == pytest.approx(1 - 4 / result["concepts"])
    assert value(result, "reproducibility (share of other trainings)", "random directions") < 0.5
    assert value(result, "stability, largest cosine", "random directions") < 0.95
    assert value(result, "consistency") > value(result, "consistency", "shuffled latents")
    assert value(result, "monosemanticity") > value(result, "monosemanticity", "shuffled cells")
    assert value(result, "concepts with a twin") == pytest.approx(5 / result["concepts"])
    assert value(result, "label entropy, blood") < value(result, "label entropy, blood", "shuffled labels")
    assert {row["value"]: row["latent"] % 8 for row in result["labels"]} == {"blast": 0, "monocyte": 1, "lymphocyte": 2}
    absent = {"localisation", "robustness", "downstream measures", "detection and intruder", "tuning curves"}
    assert set(result["skipped"]) == absent
    about = pd.read_parquet(folder / "quality" / "latents.parquet").set_index("latent")
    assert about["best_label"][1] == "monocyte"
    assert about["best_label_auroc"][1] > 0.98
    assert about["redundancy_group"][[0, 8, 9, 10, 11]].nunique() == 1
    assert json.loads((folder / "quality" / "quality.json").read_text()) == result
    drawn = pd.read_csv(folder / "quality" / "figures.csv")
    assert len(drawn) == len(result["figures"])
    manifest = Manifest.load(folder / "quality")
    assert manifest is not None
    assert manifest.inputs["sae"] == sae_weights_digest(folder / "sae")
    assert "attributes" in manifest.inputs
    assert (
        evaluate_study(folder, store, CONFIG, attributes=tmp_path / "attributes.csv", against=[tmp_path / "again"])
        == result
    )


def test_constant_latents_are_rewarded_by_no_measure(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    folder, store = planted(make_store, "constant")
    result = evaluate_study(folder, store, CONFIG)
    assert_registered(result)
    for k in (1, 5, 20, "all"):
        assert value(result, f"k-sparse probe, k = {k} ") == 0.5
    assert [row["auroc"]["value"] for row in result["labels"]] == [0.5] * 3
    for measure in ("monosemanticity", "consistency", "spatial coherence"):
        assert np.isnan(value(result, measure)), measure
    assert value(result, "concepts with a twin") == 1
    assert value(result, "explained variance") < 0.01


def test_too_few_concepts_and_foreign_autoencoders(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    folder, store = planted(make_store, "labels")
    SAE(5, 10).save_pretrained(tmp_path / "narrow")
    with pytest.raises(CytosaeError, match="5 wide"):
        evaluate_study(folder, store, CONFIG, against=[tmp_path / "narrow"])
    SAE(8, 10, {"backbone": {"fingerprint": "other"}}).save_pretrained(tmp_path / "foreign")
    with pytest.raises(CytosaeError, match="another backbone or layer"):
        evaluate_study(folder, store, CONFIG, against=[tmp_path / "foreign"])
    assert not (folder / "quality").exists()


@pytest.fixture(scope="module")
def real_study(real_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 300 real cells, 60 of them with masks, on the built-in backbone."""
    cells = pd.read_csv(real_cells / "cells.csv")
    attributes = set(pd.read_csv(real_cells / "pbc_attributes.csv")["path"])
    pbc = cells[cells["path"].isin(attributes)].groupby("label").sample(48, random_state=0)
    masked = cells[cells["mask"].notna() & cells["label"].notna()].sample(60, random_state=0)
    chosen = pd.concat([pbc, masked])
    chosen["path"] = [str(real_cells / path) for path in chosen["path"]]
    chosen["mask"] = [str(real_cells / m) if isinstance(m, str) else None for m in chosen["mask"]]
    settings = "--expansion 3 --matryoshka-levels 6 --images 1200 --batch-images 16 --l1 4e-5 --directions-init tokens"
    options = [*settings.split(), "--dead-latent-loss", "none", "--warmup-steps", 20, "--init-images", 100]

    def make(folder: Path) -> None:
        chosen.to_csv(folder / "cells.csv", index=False)
        study = ("--study", folder / "study", "--preset", "paper")
        cytosae("run", folder / "cells.csv", *study, *options, "--evaluate-every", 1000)

    return made_once(tmp_path_factory, "real", make) / "study"


@pytest.mark.slow
def test_real_study_is_measured_from_the_command_line(real_study: Path, real_cells: Path, tmp_path: Path) -> None:
    real_study = Path(shutil.copytree(real_study, tmp_path / "study"))
    arguments = ["--attributes", real_cells / "pbc_attributes.csv", "--changed-cells", 12, "--draws", 20, "--json"]
    result = figures(cytosae("evaluate", real_study, *arguments))
    assert set(result["skipped"]) == {"stability", "tuning curves"}
    for measure in ("k-sparse probe, k = 5 ", "attribute alignment"):
        assert value(result, measure) > value(result, measure, "shuffled labels") + 0.15
    tissue = "localisation of nucleus"
    assert value(result, tissue) > max(0.85, value(result, tissue, "shuffled masks") + 0.05)
    assert value(result, "monosemanticity") > value(result, "monosemanticity", "shuffled cells") + 0.02
    assert value(result, "spatial coherence") > value(result, "spatial coherence", "shuffled patches") + 0.2
    for name in ("stain", "blur", "JPEG"):
        measure = f"robustness to {name}"
        assert value(result, measure) > value(result, measure, "shuffled cells") + 0.2
    probe = "output probe"
    plain, rebuilt, blind = (
        value(result, probe, c) for c in ("original tokens", "reconstructed tokens", "mean token alone")
    )
    assert plain > blind + 0.3
    assert rebuilt > blind + 0.2
    removed = [value(result, "concept removed (change of probability)", f"{c} concept") for c in ("best", "random")]
    assert removed[0] < min(0, removed[1])
    assert -1 <= value(result, "concept removed (change of accuracy)", "best concept") <= 0.02
    about = pd.read_parquet(real_study / "quality" / "latents.parquet")
    shares = about[["nucleus_share", "cytoplasm_share", "background_share"]].dropna()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-4)
    assert "Are the concepts to be believed?" in (real_study / "report" / "index.html").read_text()
    for suffix in ("png", "svg"):
        assert (real_study / "quality" / f"summary.{suffix}").stat().st_size > 10_000


def test_concepts_cells_and_patches_are_shown(real_study: Path, tmp_path: Path) -> None:
    table = figures(cytosae("statistics", real_study / "concepts", "-o", tmp_path / "latents.csv", "--json"))
    assert set(table["concepts"]) == {"pbc", "segwbc_tecom", "segwbc_cellavision"}
    found = pd.read_csv(tmp_path / "latents.csv", index_col=0)
    counted = figures(cytosae("counts", *[real_study / "concepts"] * 2, "-o", tmp_path / "counts", "--json"))
    assert counted["concepts"] == {str(real_study / "concepts"): table["concepts"]["pbc"]}
    assert (tmp_path / "counts.svg").is_file()
    latent = int(found["pbc/mean_activation"].idxmax())
    shown = figures(cytosae("concept", real_study, latent, "-o", tmp_path / "grid", "--kind", "random", "--json"))
    assert shown["datasets"]["pbc"]["mean_activation"] == pytest.approx(found["pbc/mean_activation"].max())
    assert (tmp_path / "grid.png").is_file()
    cell = pd.read_parquet(real_study / "cells.parquet").query("mask.notna()")["cell_id"].iloc[0]
    answer = figures(cytosae("attribute", real_study, cell, "--patch", "7,8", "-o", tmp_path / "patch", "--json"))
    strengths = [row["activation"] for row in answer["patch"]["latents"]]
    assert strengths == sorted(strengths, reverse=True)
    shares = pd.DataFrame(answer["concepts"])[["nucleus", "cytoplasm", "background"]].dropna()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-4)
    assert (tmp_path / "patch.svg").is_file()
    assert cytosae("attribute", real_study, cell).stdout.count("latent ") == 12


def test_questions_that_have_no_answer(real_study: Path, tmp_path: Path) -> None:
    cell = pd.read_parquet(real_study / "cells.parquet")["cell_id"].iloc[0]
    figure = tmp_path / "figure"
    questions: list[tuple[str, Callable[[], Any]]] = [
        ("latents 0 to 575", lambda: show_concept(real_study, 99999, figure)),
        ("--kind best.*middle", lambda: show_concept(real_study, 1, figure, kind="best")),
        ("known patients", lambda: show_concept(real_study, 1, figure, kind="spread")),
        ("nobody: no such cell", lambda: attribute(real_study, "nobody", figure)),
        ("--patch 16,0: the cell has 16 x 16", lambda: attribute(real_study, cell, figure, patch=(16, 0))),
        ("backbone.json: missing", lambda: evaluate(tmp_path)),
        ("none.csv", lambda: evaluate(real_study, attributes=tmp_path / "none.csv")),
        ("model.safetensors: missing", lambda: evaluate(real_study, against=[tmp_path])),
        ("urine.*pbc", lambda: compare_counts([real_study / "concepts"], figure, "urine")),
        ("no finished concepts", lambda: compare_counts([tmp_path], figure)),
    ]
    for words, ask in questions:
        with pytest.raises(CytosaeError, match=words):
            ask()
    assert not list(tmp_path.iterdir())
    assert_user_error(
        cytosae("attribute", real_study, cell, "--patch", "7", check=False), "--patch 7", "row and column"
    )
