"""Figures are called held-out only where cells were held out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cytosae.artefacts import Manifest
from cytosae.report import training_curves
from cytosae.sae import HELD_OUT, SAE, TRAINING, measured_on, read_metrics, train
from cytosae.sae.card import card
from cytosae.settings import EncodeConfig, TrainConfig
from cytosae.tokens import TokenStore
from support.studies import edit_manifest

CONFIG = TrainConfig(expansion=2, images=80, batch_images=8, evaluate_every=5, log_every=5, init_images=8)
NOBODY: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "no share": (12, {"holdout": 0.0}, {}),
    "only train": (12, {}, {"split": ["train"] * 12}),
    "folds": (12, {}, {"split": ["fold1", "fold2"] * 6}),
    "one cell": (1, {}, {}),
}


def trained(make_store: Callable[..., TokenStore], cells: int, settings: dict[str, Any], columns: Any) -> TokenStore:
    store = make_store(torch.randn(cells, 7, 8, generator=torch.Generator().manual_seed(0)), **columns)
    train(store, store.folder.parent / "sae", replace(CONFIG, **settings), device="cpu")
    return store


@pytest.mark.parametrize("case", NOBODY)
def test_figures_of_training_cells_are_called_so(
    case: str, make_store: Callable[..., TokenStore], capsys: pytest.CaptureFixture[str]
) -> None:
    store = trained(make_store, *NOBODY[case])
    folder = store.folder.parent / "sae"
    log = capsys.readouterr().err
    assert "no cell is held out" in log
    assert "training cells" in log
    assert ("fold1, fold2" in log) == (case == "folds")
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert manifest.summary["measured_on"] == TRAINING
    described = json.loads((folder / "config.json").read_text())["metadata"]
    assert "held_out" not in described
    assert described["training_cells"]["measured_on"] == TRAINING
    names = {name for line in read_metrics(folder) for name in line}
    assert "training_cells/explained_variance" in names
    assert not any(name.startswith("held") for name in names)
    text = card(SAE.from_pretrained(folder), "owner/name", "mit")
    assert "on training cells" in text
    assert "held-out" not in text
    legend = training_curves(read_metrics(folder), measured_on(manifest.summary, manifest.inputs)).axes[0].get_legend()
    assert legend is not None
    assert [label.get_text() for label in legend.get_texts()] == ["training batch", TRAINING]


def test_figures_of_held_out_cells_are_called_so(
    make_store: Callable[..., TokenStore], capsys: pytest.CaptureFixture[str]
) -> None:
    store = trained(make_store, 12, {}, {"split": ["train", "train", "val"] * 4})
    folder = store.folder.parent / "sae"
    assert "no cell is held out" not in capsys.readouterr().err
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert manifest.summary["measured_on"] == HELD_OUT
    assert "on held-out cells" in card(SAE.from_pretrained(folder), "owner/name", "mit")


def as_before(folder: Path) -> None:
    """What an earlier version left of a training without held-out cells."""
    path = folder / "config.json"
    described = json.loads(path.read_text())
    described["metadata"]["held_out"] = described["metadata"].pop("training_cells")
    del described["metadata"]["held_out"]["measured_on"]
    path.write_text(json.dumps(described))
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("training_cells/", "held_out/"))
    edit_manifest(folder / "manifest.json", lambda manifest: manifest["summary"].pop("measured_on"))


def test_studies_of_earlier_versions_are_no_longer_called_held_out(make_store: Callable[..., TokenStore]) -> None:
    store = trained(make_store, *NOBODY["only train"])
    folder = store.folder.parent / "sae"
    as_before(folder)
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert measured_on(manifest.summary, manifest.inputs) == TRAINING
    text = card(SAE.from_pretrained(folder), "owner/name", "mit")
    assert "on training cells" in text
    assert "held-out" not in text


def test_the_report_says_whose_figures_they_are(make_store: Callable[..., TokenStore]) -> None:
    from cytosae.cells import write_cells
    from cytosae.report import write_report
    from cytosae.study import encoding

    store = trained(make_store, *NOBODY["no share"])
    study = store.folder.parent
    encoding(store, study / "sae", study / "concepts", EncodeConfig(), device="cpu").update()
    write_cells(store.cells, study / "cells.parquet", {})
    write_report(study)
    page = (study / "report" / "index.html").read_text()
    assert "training cells: none was held out" in page
    assert "kept out of training" not in page
