"""Barcodes of other concepts are shown by nobody; barcodes by cell type are shown by patient."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch

from cytosae.analysis import compare_groups, show_patient
from cytosae.artefacts import Manifest
from cytosae.cells import write_cells
from cytosae.cohort import make_barcodes, read_barcodes, why_other_concepts
from cytosae.concepts import encode, read_inputs
from cytosae.errors import CytosaeError
from cytosae.explorer.reader import StudyReader
from cytosae.report import report_inputs, write_report
from cytosae.sae import SAE
from cytosae.settings import BarcodeConfig, EncodeConfig
from cytosae.study import stages
from cytosae.tokens import TokenStore
from support.blank_figures import blank_figures

CELLS = 48
COLUMNS: dict[str, Any] = {
    "patient": [f"p{number % 4}" for number in range(CELLS)],
    "diagnosis": [("AML", "healthy")[number % 2] for number in range(CELLS)],
    "label": [("blast", "monocyte", "blast")[number // 8 % 3] for number in range(CELLS)],
}


def drawn(seed: int = 0) -> SAE:
    sae = SAE(8, 24, {"backbone": {"name": "x", "fingerprint": "f", "layer": 0}})
    sae.initialise(torch.Generator().manual_seed(seed))
    return sae


def finished(store: TokenStore, sae: SAE, config: EncodeConfig | None = None) -> Path:
    """The stages that report and explorer ask for, but for barcodes."""
    folder = store.folder.parent
    sae.metadata["backbone"] = store.layout.backbone
    sae.save_pretrained(folder / "sae")
    Manifest("sae", {"given": True}, {}, {}, {"n_latents": 24, "explained_variance": 0.5, "l0": 3.0, "dead": 0.0}).save(
        folder / "sae"
    )
    encode(store, sae, folder / "concepts", config)
    write_cells(store.cells, folder / "cells.parquet", {})
    return folder


@pytest.fixture(scope="module", autouse=True)
def not_drawn() -> Iterator[None]:
    """What figures show is tested elsewhere."""
    with blank_figures():
        yield


@pytest.fixture
def study(make_store: Callable[..., TokenStore]) -> tuple[Path, TokenStore]:
    tokens = torch.randn(CELLS, 7, 8, generator=torch.Generator().manual_seed(0))
    store = make_store(tokens, **COLUMNS)
    folder = finished(store, drawn())
    stages.barcodes(folder, BarcodeConfig()).update()
    return folder, store


def changed(folder: Path, store: TokenStore, what: str) -> None:
    """Make the concepts anew, of something else."""
    if what == "patients":
        store.cells["patient"] = None
        finished(store, drawn())
    elif what == "autoencoder":
        finished(store, drawn(1))
    else:
        finished(store, drawn(), EncodeConfig(threshold=0.3))


@pytest.mark.parametrize("what", ["patients", "autoencoder", pytest.param("threshold", marks=pytest.mark.slow)])
def test_barcodes_of_earlier_concepts_are_left_out_everywhere(
    what: str, study: tuple[Path, TokenStore], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, store = study
    path = folder / "cohort" / "barcodes.h5ad"
    write_report(folder)
    page = folder / "report" / "index.html"
    assert "<h2>Patients</h2>" in page.read_text()
    assert "cohort" in report_inputs(folder)
    assert StudyReader(folder).has_patients
    before = path.read_bytes()

    changed(folder, store, what)
    capsys.readouterr()
    assert why_other_concepts(path, folder / "concepts")
    write_report(folder)
    assert "<h2>Patients</h2>" not in page.read_text()
    assert "cohort" not in report_inputs(folder)
    assert "not of these concepts" in capsys.readouterr().err
    opened = StudyReader(folder)
    assert not opened.has_patients
    assert not opened.groups
    assert not opened.classified
    assert "not of these concepts" in capsys.readouterr().err
    for read in (
        lambda: read_barcodes(path),
        lambda: show_patient(folder, "p0", tmp_path / "p.html"),
        lambda: compare_groups(path, tmp_path / "compared", "AML", "healthy", study=folder),
    ):
        with pytest.raises(CytosaeError, match="not of the concepts in"):
            read()
    elsewhere = shutil.copy(path, tmp_path / "elsewhere.h5ad")
    with pytest.raises(CytosaeError, match="not of the concepts in"):
        show_patient(folder, "p0", tmp_path / "p.html", barcodes=Path(elsewhere))
    assert path.read_bytes() == before  # it is left alone


def test_slashes_in_names_of_data_sets(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    tokens = torch.randn(CELLS, 7, 8, generator=torch.Generator().manual_seed(0))
    store = make_store(tokens, **COLUMNS, dataset=["bone/marrow"] * 20 + ["blood"] * 28)
    folder = finished(store, drawn())
    make_barcodes([folder / "concepts"], tmp_path / "b.h5ad")
    assert why_other_concepts(tmp_path / "b.h5ad", folder / "concepts") is None


def test_concepts_that_another_program_cut_make_no_barcodes(study: tuple[Path, TokenStore], tmp_path: Path) -> None:
    (path,) = (study[0] / "concepts").glob("*.h5ad")
    ad.read_h5ad(path)[: CELLS // 2].copy().write_h5ad(path)
    with pytest.raises(CytosaeError, match="not as its manifest has it"):
        make_barcodes([study[0] / "concepts"], tmp_path / "barcodes.h5ad")
    assert not (tmp_path / "barcodes.h5ad").exists()


def test_barcodes_by_cell_type_pool_to_those_of_the_patients(study: tuple[Path, TokenStore], tmp_path: Path) -> None:
    folder, _ = study
    for name, config in (("typed", BarcodeConfig(by_cell_type=True)), ("whole", BarcodeConfig())):
        make_barcodes([folder / "concepts"], tmp_path / f"{name}.h5ad", replace(config, duplicates=False))
    typed, whole = (
        read_barcodes(tmp_path / "typed.h5ad", pooled=True),
        read_barcodes(tmp_path / "whole.h5ad", pooled=True),
    )
    assert typed.obs_names.tolist() == whole.obs_names.tolist()
    assert typed.obs.columns.tolist() == whole.obs.columns.tolist()
    for column in whole.obs:
        assert typed.obs[column].tolist() == whole.obs[column].tolist(), column
    np.testing.assert_allclose(typed.X, whole.X, rtol=1e-5)
    assert {*typed.layers} == {*whole.layers}
    for layer in whole.layers:
        np.testing.assert_allclose(typed.layers[layer], whole.layers[layer], rtol=1e-5, atol=1e-6, err_msg=layer)
    assert whole.layers["top"].max() > whole.X.max()
    assert "largest_counts" not in typed.obsm
    np.testing.assert_allclose(typed.obsm["cell_types"], whole.obsm["cell_types"])
    np.testing.assert_allclose(typed.varm["disease_barcodes"], whole.varm["disease_barcodes"], rtol=1e-5)
    assert typed.uns["diseases"].tolist() == whole.uns["diseases"].tolist()


def test_barcodes_by_cell_type_of_an_earlier_version_still_pool(study: tuple[Path, TokenStore], tmp_path: Path) -> None:
    folder, _ = study
    config = BarcodeConfig(by_cell_type=True, duplicates=False)
    make_barcodes([folder / "concepts"], tmp_path / "typed.h5ad", config)
    expected = read_barcodes(tmp_path / "typed.h5ad", pooled=True)
    former = ad.read_h5ad(tmp_path / "typed.h5ad")
    for name in {*former.layers} - {None, "standard_error", "mean_activation", "active_cells"}:
        del former.layers[name]
    del former.obsm["largest_counts"]
    former.write_h5ad(tmp_path / "former.h5ad")
    found = read_barcodes(tmp_path / "former.h5ad", pooled=True)
    assert {*found.layers} - {None} == {"standard_error", "mean_activation", "active_cells"}
    np.testing.assert_array_equal(found.X, expected.X)
    for name in found.layers:
        np.testing.assert_allclose(found.layers[name], expected.layers[name], rtol=1e-5, err_msg=name)


def test_a_study_with_barcodes_by_cell_type_has_report_and_patients(study: tuple[Path, TokenStore]) -> None:
    folder, _ = study
    stages.barcodes(folder, BarcodeConfig(by_cell_type=True)).update()
    assert "cell_type" in read_barcodes(folder / "cohort" / "barcodes.h5ad", "blast").obs
    write_report(folder)
    assert "<h2>Patients</h2>" in (folder / "report" / "index.html").read_text()
    opened = StudyReader(folder)
    assert opened.has_patients
    assert opened.groups["diagnosis"] == ["AML", "healthy"]
    assert "cell_type" not in opened.groups


def test_read_inputs_are_what_barcodes_record(study: tuple[Path, TokenStore]) -> None:
    folder, _ = study
    recorded = read_barcodes(folder / "cohort" / "barcodes.h5ad").uns["cytosae"]["inputs"]
    assert all(dict(inputs) == read_inputs(folder / "concepts") for inputs in recorded.values())
