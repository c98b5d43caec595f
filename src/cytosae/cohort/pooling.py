"""From barcodes of each cell type of a patient to one of the patient."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from cytosae.cohort.barcodes import disease_barcodes
from cytosae.cohort.blocks import LARGEST, CountSums
from cytosae.concepts.schema import IMAGE_COLUMNS


def over_cell_types(data: ad.AnnData) -> ad.AnnData:
    """One barcode per patient, as `cytosae.cohort.make_barcodes` makes it of the same cells without their types.

    Count, share and top are pooled exactly, dispersion and errors to the digits of float32: barcodes by cell type keep what
    that needs.

    Parameters
    ----------
    data
        Barcodes by cell type. Those of an earlier version have no blocks beside the count; the pooled have none then.
    """
    keys = ["dataset", "patient"]
    grouped = data.obs.groupby(keys, sort=True, observed=True)
    codes, cells = grouped.ngroup().to_numpy(), data.obs["n_cells"].to_numpy(np.float64)[:, None]

    def summed(values: np.ndarray) -> np.ndarray:
        total = np.zeros((grouped.ngroups, values.shape[1]))
        np.add.at(total, codes, values)
        return total

    sums = [_sums(data[codes == patient]).pooled() for patient in range(grouped.ngroups)]
    blocks = [one.layers() for one in sums]
    n = summed(cells)
    pooled = ad.AnnData(np.concatenate([one.barcodes() for one in sums]), _patients(data, codes), data.var.copy())
    known = [name for name in blocks[0] if name in data.layers]
    pooled.layers.update({name: np.concatenate([one[name] for one in blocks]) for name in known})
    pooled.layers["mean_activation"] = (summed(cells * data.layers["mean_activation"]) / n).astype(np.float32)
    pooled.layers["active_cells"] = summed(data.layers["active_cells"]).astype(np.int32)
    types = data.obs["cell_type"].cat
    counts = np.zeros((pooled.n_obs, len(types.categories)))
    np.add.at(counts, (codes, types.codes), cells[:, 0])
    pooled.obsm["cell_types"] = counts / n
    pooled.uns |= {**data.uns, "cell_types": types.categories.to_numpy(object)}
    if "diagnosis" in pooled.obs:
        diagnoses = pooled.obs["diagnosis"].cat
        pooled.varm["disease_barcodes"] = disease_barcodes(pooled.X, diagnoses.codes, len(diagnoses.categories)).T
        pooled.uns["diseases"] = diagnoses.categories.to_numpy(object)
    return pooled


def _sums(data: ad.AnnData) -> CountSums:
    """The sums of each cell type; of barcodes of an earlier version those from which the count and its error follow."""
    layers: dict[str, Any] = dict(data.layers)
    for name in ("share", "third_moment", "fourth_moment"):
        layers.setdefault(name, np.zeros(1))
    largest = data.obsm.get("largest_counts")
    if largest is None:
        largest = np.zeros((*data.shape, LARGEST), np.uint16)
    return CountSums.from_barcodes(data.obs["n_cells"], np.asarray(data.X), layers, largest)


def _patients(data: ad.AnnData, codes: np.ndarray) -> pd.DataFrame:
    """What is known of each patient: columns whose values its cell types share; of the images' files every value."""
    rows = data.obs.drop(columns="cell_type")
    names = [name.removesuffix(f" | {kind}") for name, kind in zip(data.obs_names, data.obs["cell_type"], strict=True)]
    first = pd.Series(names).groupby(codes).first()
    obs = pd.DataFrame(index=pd.Index(first.astype(str).to_numpy()))
    for column in rows.columns:
        values = pd.Series(rows[column].astype(object).to_numpy()).groupby(codes)
        if column == "n_cells":
            obs[column] = values.sum().astype(np.int64).to_numpy()
        elif column in IMAGE_COLUMNS:
            joined = values.agg(
                lambda files: " | ".join(sorted({one for value in files for one in str(value).split(" | ")}))
            )
            obs[column] = pd.Categorical(joined)
        elif column == "diagnosis" or values.nunique().max() <= 1:
            known = values.first().where(values.nunique() == 1, None).to_numpy()
            numeric = pd.api.types.is_numeric_dtype(rows[column])
            obs[column] = known.astype(np.float64) if numeric else pd.Categorical(known)
    return obs
