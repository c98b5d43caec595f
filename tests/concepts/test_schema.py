"""What is in the files of concepts and barcodes is what the schema and the documentation say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.cells import COLUMNS, RESERVED
from cytosae.cohort import make_barcodes
from cytosae.concepts import encode, schema
from cytosae.concepts.schema import BARCODES, CONCEPTS, Entry
from cytosae.sae import SAE
from cytosae.segmentation import FLAGS, MEASUREMENTS, SEGMENTED
from cytosae.settings import BarcodeConfig
from cytosae.tokens import TokenStore
from support.paths import ROOT

FORMATS = ROOT / "docs" / "reference" / "formats.md"
PLACES = ("layers", "obs", "var", "obsm", "varm", "uns")
MEASURED = {*(m.name for m in MEASUREMENTS), SEGMENTED, FLAGS}
LATER = {
    schema.ANNOTATION,
    schema.VERDICT,
    schema.NAMES,
    schema.TAUGHT,
    schema.ARTEFACT,
    schema.REPRODUCIBILITY,
    schema.DESCRIPTION,
    schema.STAIN_SHARE,
    schema.CELL_SHARE,
    schema.STAIN_WORD,
    *MEASURED,
}


def rows(entries: tuple[Entry, ...]) -> list[str]:
    """The lines of the documentation's table."""
    return [f"| `{e.element}` | {e.dtype} | {e.unit} | {e.meaning} |" for e in entries]


@pytest.mark.parametrize(("heading", "entries"), [("concepts/", CONCEPTS), ("cohort/", BARCODES)])
def test_the_documentation_has_every_entry_and_no_other(heading: str, entries: tuple[Entry, ...]) -> None:
    section = FORMATS.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == rows(entries)


def contents(data: ad.AnnData) -> dict[str, str]:
    """Type of every element by the name under which code reads it."""
    found = {"X": str(data.X.dtype)}
    for place in PLACES:
        for name, values in getattr(data, place).items():
            if name is None:  # `X`, which anndata lists among the layers from 0.13 on
                continue
            kind = "category" if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype) else None
            found[f'{place}["{name}"]'] = kind or str(getattr(values, "dtype", type(values).__name__))
    return found


@pytest.fixture
def concepts(make_store: Callable[..., TokenStore]) -> Path:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    columns = {
        "patient": [f"p{number % 4}" for number in range(40)],
        "label": ["blast", "lymphocyte"] * 20,
        "diagnosis": ["AML", "healthy", "AML", "healthy"] * 10,
        "ward": [f"w{number % 4 // 2}" for number in range(40)],
    }
    sae = SAE(8, 24)
    sae.initialise(torch.Generator().manual_seed(0))
    store = make_store(tokens, **columns)
    encode(store, sae, store.folder.parent / "concepts")
    return store.folder.parent / "concepts"


def expected(entries: tuple[Entry, ...], without: set[str]) -> dict[str, str]:
    return {e.element: e.dtype for e in entries if e.name not in without}


def test_files_have_what_the_schema_has(concepts: Path, tmp_path: Path) -> None:
    (file,) = concepts.glob("*.h5ad")
    found = contents(ad.read_h5ad(file))
    absent = {
        "cell_id",
        "mask",
        "concepts",
        "split",
        "file_intensity",
        "file_frame",
        "file_note",
        *LATER,
    }  # the index, or empty
    assert found == {**expected(CONCEPTS, absent), 'obs["ward"]': "category"}
    to_pool = {"third_moment", "fourth_moment", "largest_counts"}
    for by_cell_type, absent in (
        (False, {"cell_type", *to_pool}),
        (True, {"cell_types", "disease_barcodes", "diseases"}),
    ):
        path = tmp_path / "b.h5ad"
        make_barcodes([concepts], path, BarcodeConfig(by_cell_type=by_cell_type))
        data = ad.read_h5ad(path)
        assert contents(data) == {
            **expected(BARCODES, {*absent, "conflicting_diagnoses", schema.TAUGHT, schema.ARTEFACT}),
            'obs["ward"]': "category",
        }
        assert {*schema.grouping(BARCODES, data.obs.columns)} == {"diagnosis", "ward", *schema.IMAGE_COLUMNS}


def test_own_columns_cannot_be_the_users() -> None:
    for entry in CONCEPTS:
        if entry.slot == "obs":
            assert (entry.name in RESERVED) != entry.users, entry.name
    assert set(COLUMNS) <= set(schema.names(CONCEPTS, "obs"))


def test_columns_of_barcodes_leave_the_users_of_these_names_alone(
    make_store: Callable[..., TokenStore], tmp_path: Path
) -> None:
    """Also in tables of cells that were listed before barcodes had such a column."""
    names = [entry.name for entry in BARCODES if entry.slot == "obs" and not entry.users]
    columns = {name: ["one", "two"] * 6 for name in [*names, "given_n_cells"]}
    sae = SAE(8, 24)
    sae.initialise(torch.Generator().manual_seed(0))
    store = make_store(torch.randn(12, 7, 8), patient=["p", "q"] * 6, **columns)
    encode(store, sae, tmp_path / "concepts")
    make_barcodes([tmp_path / "concepts"], tmp_path / "b.h5ad")
    obs = ad.read_h5ad(tmp_path / "b.h5ad").obs
    assert obs["n_cells"].tolist() == [6, 6]
    for name in names:
        assert obs[f"given_{name}_" if name == "n_cells" else f"given_{name}"].tolist() == ["one", "two"]


def test_columns_that_group() -> None:
    columns = [
        "patient",
        "dataset",
        "n_cells",
        "cell_type",
        "conflicting_diagnoses",
        "diagnosis",
        "ward",
        "image_width",
    ]
    assert schema.grouping(BARCODES, columns) == ["diagnosis", "ward", "image_width"]
    assert schema.grouping(BARCODES, columns, keys=("dataset",)) == ["dataset", "diagnosis", "ward", "image_width"]
    cells = ["path", "label", "width", "file_note", "patient", "split", "ward", "concepts"]
    assert schema.grouping(CONCEPTS, cells) == ["split", "ward"]


def test_nothing_is_written_that_the_schema_lacks() -> None:
    schema.check(CONCEPTS, "obs", {"ward": np.zeros(2), "width": np.zeros(2, np.int64), "label": np.zeros(2)})
    with pytest.raises(ValueError, match='var\\["novel"\\] is float64'):
        schema.check(CONCEPTS, "var", {"novel": np.zeros(2)})
    with pytest.raises(ValueError, match='obs\\["width"\\] is float64; the schema has int64'):
        schema.check(CONCEPTS, "obs", {"width": np.zeros(2)})
