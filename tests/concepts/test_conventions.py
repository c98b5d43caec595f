"""The AnnData files of a study follow the conventions that scanpy and its relatives rely on."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

FILES = ("concepts/synthetic.h5ad", "cohort/barcodes.h5ad")


@pytest.fixture(params=FILES)
def path(request: pytest.FixtureRequest, drawn_study: Path) -> Path:
    return drawn_study / request.param


def test_it_opens_without_a_warning_and_is_named_uniquely(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ad.read_h5ad(path)
    for names in (data.obs_names, data.var_names):
        assert names.is_unique
        assert all(isinstance(name, str) for name in names)
    assert all(layer.shape == data.shape for layer in data.layers.values())
    assert np.issubdtype(data.X.dtype, np.number)
    if path.parent.name == "concepts":
        assert all(sp.issparse(matrix) and matrix.format == "csr" for matrix in (data.X, *data.layers.values()))
    assert {"parameters", "inputs"} <= set(data.uns["cytosae"])


def test_no_column_mixes_types(path: Path) -> None:
    data = ad.read_h5ad(path)
    for table in (data.obs, data.var):
        for name, column in table.items():
            known = column.dropna()
            text = isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column)
            assert text or pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column), name
            if text:
                assert {type(value) for value in known} <= {str}, name
                assert not {"nan", "None"} & set(known), name


def test_it_survives_another_program(path: Path, tmp_path: Path) -> None:
    data = ad.read_h5ad(path)
    with ad.settings.override(allow_write_nullable_strings=True):
        data.write_h5ad(tmp_path / "again.h5ad")
    again = ad.read_h5ad(tmp_path / "again.h5ad")
    pd.testing.assert_frame_equal(again.obs, data.obs)
    pd.testing.assert_frame_equal(again.var, data.var)
    difference = again.X - data.X
    assert not (difference.nnz if sp.issparse(difference) else np.any(difference))
    backed = ad.read_h5ad(path, backed="r")
    assert backed[:3].to_memory().n_obs == 3
    backed.file.close()
    half = data.n_obs // 2
    joined = ad.concat([data[:half], data[half:]], merge="same")
    assert joined.shape == data.shape
    assert set(joined.layers) == set(data.layers)
