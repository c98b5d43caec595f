"""The figures of a file of barcodes: diseases, correlation of the patients, map of the patients."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from cytosae.cohort import barcode_correlation, disease_barcodes, patient_column
from cytosae.console import say
from cytosae.report.cohort import correlation_map, patient_map
from cytosae.report.cohort import disease_barcodes as draw_diseases
from cytosae.report.style import save

_NEIGHBOURS, _LEAST = 15, 5
UNKNOWN = "unknown"
BARCODE_FIGURES = ("diseases", "correlation", "map")


def barcode_figures(data: ad.AnnData, folder: Path, target: str = "diagnosis", seed: int = 0) -> dict[str, Path]:
    """Draw the barcodes of all patients.

    Parameters
    ----------
    data
        Of `cytosae.cohort.read_barcodes`.
    folder
        Where the figures go, as PNG and SVG.
    target
        Column by which patients are grouped; where there is none, all are one group.
    seed
        Fixes the map.

    Returns
    -------
    Paths without their ending: ``diseases``, ``correlation`` and, with five patients or more, ``map``.
    """
    barcodes = np.asarray(data.X, np.float32)
    values = patient_column(data, target) if target in data.obs else None
    groups = np.full(data.n_obs, "all patients") if values is None else values.fillna(UNKNOWN).astype(str).to_numpy()
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.bincount(codes)
    correlation = barcode_correlation(barcodes)
    order = _alike_together(correlation, codes)
    figures = {
        "diseases": draw_diseases(
            disease_barcodes(barcodes, codes, len(names)),
            names.tolist(),
            counts.tolist(),
            title="Barcodes of the diseases",
        ),
        "correlation": correlation_map(
            correlation[np.ix_(order, order)],
            groups[order].tolist(),
            title="Correlation of the patients' barcodes, alike ones of a group beside each other",
        ),
    }
    if data.n_obs >= _LEAST:
        note = f"UMAP of the barcodes, {min(_NEIGHBOURS, data.n_obs - 1)} neighbours, correlation distance"
        figures["map"] = patient_map(positions(barcodes, seed), groups.tolist(), title="Patients by barcode", note=note)
    else:
        say(f"barcodes: {data.n_obs} patients are too few for a map")
    for name, figure in figures.items():
        save(figure, folder / name)
    return {name: folder / name for name in figures}


def _alike_together(correlation: NDArray[np.float64], codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Patients by group, and within each by hierarchical clustering: what else divides them shows as blocks."""
    order: list[int] = []
    for group in np.unique(codes):
        rows = np.flatnonzero(codes == group)
        if len(rows) > 2:
            apart = 1 - np.nan_to_num(correlation[np.ix_(rows, rows)])
            np.fill_diagonal(apart, 0)
            tree = linkage(squareform((apart + apart.T) / 2), "average", optimal_ordering=True)
            rows = rows[leaves_list(tree)]
        order += rows.tolist()
    return np.array(order)


def positions(barcodes: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Places of patients on a plane, alike ones near each other (UMAP; McInnes et al., 2018), ``(n_patients, 2)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads and of small graphs
        import umap  # here, since it compiles for seconds

        reducer = umap.UMAP(
            n_neighbors=min(_NEIGHBOURS, len(barcodes) - 1),
            metric="correlation",
            init="random" if len(barcodes) < 2 * _NEIGHBOURS else "spectral",
            random_state=seed,
        )
        return np.asarray(reducer.fit_transform(barcodes), np.float32)
