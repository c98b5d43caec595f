"""Which latents a classifier may use: those that experts approve, that lie inside the cell, that came back."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.io import write_elem

from cytosae.cohort import RESTRICTIONS, Products, Representation, read_barcodes, restricted
from cytosae.concepts import ALIKE, read_concepts
from cytosae.concepts.storage import PER_LATENT
from cytosae.errors import CytosaeError
from cytosae.settings import ClassifyConfig
from support.commands import ask
from support.studies import edit_manifest

QUICK = ["--repeats", "1", "--splits", "3", "--step", "3", "--permutations", "0", "--bootstrap", "50"]


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with verdicts and a table of quality."""
    folder = Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("restricted") / "study"))
    var = read_concepts(folder / "concepts", "synthetic", matrices=False).var
    var["verdict"] = pd.Categorical(np.where(np.arange(len(var)) % 7 == 0, "meaningful", "artefact"))
    with h5py.File(folder / "concepts" / "synthetic.h5ad", "r+") as file:
        write_elem(file, "var", var)
    return folder


def quality(study: Path, **columns: np.ndarray) -> None:
    """A table as `cytosae evaluate` leaves it, for latents 0 to 99."""
    shutil.rmtree(study / "quality", ignore_errors=True)
    shutil.copytree(
        study / "concepts", study / "quality", ignore=lambda _, names: {n for n in names if n != "manifest.json"}
    )
    pd.DataFrame({"latent": np.arange(100), **columns}).to_parquet(study / "quality" / PER_LATENT)


def used(study: Path, name: str) -> np.ndarray:
    path = study / "cohort" / "barcodes.h5ad"
    return np.asarray(restricted(read_barcodes(path), path, name).uns["used_latents"])


def test_every_choice_has_its_rule() -> None:
    spec = ClassifyConfig.__dataclass_fields__["concepts"]
    assert spec.metadata["choices"] == ("all", *RESTRICTIONS)


def test_each_rule_keeps_what_it_says(study: Path) -> None:
    data = read_barcodes(study / "cohort" / "barcodes.h5ad")
    assert used(study, "approved").tolist() == list(range(0, data.n_vars, 7))
    np.testing.assert_array_equal(used(study, "discovered"), np.flatnonzero(data.var["is_concept"]))
    share = np.linspace(0, 1, 100)
    share[3] = np.nan
    quality(study, background_share=share, reproducibility=share)
    assert used(study, "inside").tolist() == [i for i in range(50) if i != 3]
    assert used(study, "reproduced").tolist() == list(range(50, 100))


def test_a_group_of_near_duplicates_counts_once(study: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(study, tmp_path / "study"))
    data = read_concepts(copied / "concepts", "synthetic")
    concepts = np.flatnonzero(data.var["is_concept"])
    first, twin = concepts[:2]
    counts = data.X.toarray()
    counts[:, twin] = counts[:, first]
    with h5py.File(copied / "concepts" / "synthetic.h5ad", "r+") as file:
        write_elem(file, "X", sp.csr_matrix(counts.astype(np.int32)))
    kept = used(copied, "distinct")
    assert len({int(first), int(twin)} & {*kept.tolist()}) <= 1
    varies = np.flatnonzero(counts.std(axis=0) > 0)
    leaders = np.intersect1d(np.intersect1d(kept, concepts), varies)
    correlation = np.corrcoef(counts[:, varies], rowvar=False)
    place = np.searchsorted(varies, leaders)
    assert (np.triu(correlation[np.ix_(place, place)], 1) < ALIKE).all()
    folded = np.setdiff1d(concepts, kept)
    assert len(folded)
    assert all((correlation[np.searchsorted(varies, one), place] >= ALIKE - 1e-4).any() for one in folded)
    assert {*np.flatnonzero(~data.var["is_concept"])} <= {*kept.tolist()}
    found = ask("classify", copied / "cohort" / "barcodes.h5ad", "--concepts", "distinct", *QUICK)
    assert found["concepts"]["allowed"] == "distinct"
    assert found["concepts"]["latents"] <= len(kept)


def test_what_is_not_there_is_said(study: Path) -> None:
    quality(study, coherence=np.zeros(100))
    with pytest.raises(CytosaeError, match=r"no background_share\. Run `cytosae evaluate .*masks"):
        used(study, "inside")
    edit_manifest(study / "quality" / "manifest.json", lambda raw: raw["inputs"].update(sae="another"))
    with pytest.raises(CytosaeError, match="of other concepts"):
        used(study, "reproduced")
    shutil.rmtree(study / "quality")
    with pytest.raises(CytosaeError, match="--against"):
        used(study, "reproduced")
    path = study / "cohort" / "barcodes.h5ad"
    data = read_barcodes(path)
    data.var["is_concept"] = False
    with pytest.raises(CytosaeError, match="none of"):
        restricted(data, path, "discovered")


def test_the_latents_left_out_have_no_part_in_any_product_or_model(study: Path) -> None:
    path = study / "cohort" / "barcodes.h5ad"
    data = read_barcodes(path)
    kept = restricted(data, path, "approved")
    assert restricted(data, path, "all") is data
    kinds = [Representation("all", "log1p")]
    part = ("top", "log1p")
    only = Products.from_barcodes(data[:, ::7].copy(), kinds).parts[part]
    np.testing.assert_allclose(Products.from_barcodes(kept, kinds).parts[part], only, atol=1e-8)
    found = ask("classify", path, "--concepts", "approved", "--short", *QUICK)
    assert found["concepts"]["allowed"] == "approved"
    assert 0 < found["concepts"]["latents"] <= len(range(0, data.n_vars, 7))
    methods = [row["method"] for row in found["methods"]]
    assert "short model (elastic net)" in methods
    listed = pd.read_csv(study / "cohort" / "classification" / "predictions.csv")["concepts"].dropna()
    latents = {int(pair.split(":")[0]) for text in listed for pair in text.split()}
    short = pd.read_csv(study / "cohort" / "classification" / "short_model.csv")
    assert latents
    assert all(latent % 7 == 0 for latent in latents | {*short["latent"]})
    everything = ask("classify", path, "-o", study / "whole", *QUICK)
    paper = "barcodes, threshold -3 (paper)"
    values = [{row["method"]: row["value"] for row in one["methods"]}[paper] for one in (found, everything)]
    assert values[0] == values[1]  # the paper's form keeps all
