"""Barcodes that another program has saved again: other forms are read, impossible values are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cytosae.cohort import read_barcodes
from cytosae.errors import CytosaeError


def saved(path: Path, change: Callable[[ad.AnnData], object] = lambda data: None) -> Path:
    obs = pd.DataFrame({"diagnosis": ["x", "y"]}, index=["p", "q"])
    data = ad.AnnData(np.array([[1, 0, 2], [0, 3, 0]], np.float32), obs=obs, uns={"cytosae": {"stage": "barcodes"}})
    change(data)
    data.write_h5ad(path)
    return path


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix])
def test_sparse_barcodes_are_those_that_were_written(tmp_path: Path, form: Callable[[object], object]) -> None:
    before = read_barcodes(saved(tmp_path / "a.h5ad"))
    after = read_barcodes(saved(tmp_path / "b.h5ad", lambda data: setattr(data, "X", form(data.X))))
    np.testing.assert_array_equal(after.X, before.X)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_values_that_no_barcode_has_are_refused(tmp_path: Path, value: float) -> None:
    path = saved(tmp_path / "a.h5ad", lambda data: data.X.__setitem__((0, 0), value))
    with pytest.raises(CytosaeError, match="negative, not finite"):
        read_barcodes(path)


def test_what_is_said_of_them_may_be_damaged(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.h5ad", lambda data: data.uns.__setitem__("cytosae", "{"))
    with pytest.raises(CytosaeError, match="holds no barcodes"):
        read_barcodes(path)
    path = saved(tmp_path / "b.h5ad", lambda data: setattr(data, "X", None))
    with pytest.raises(CytosaeError, match="no barcodes in X"):
        read_barcodes(path)
