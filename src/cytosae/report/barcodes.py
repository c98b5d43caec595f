"""The figures of a file of barcodes: diseases, correlation of the patients, map of the patients."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from cytosae.cohort import (
    FEATURES,
    PAPER,
    Representation,
    barcode_correlation,
    disease_barcodes,
    patient_column,
    transformed,
)
from cytosae.console import say
from cytosae.report.cohort import correlation_map, patient_map
from cytosae.report.cohort import disease_barcodes as draw_diseases
from cytosae.report.style import save
from cytosae.settings import DrawnConfig

_LEAST = 5
"""Patients from which on there is a map."""
UNKNOWN = "unknown"
CHOSEN = "diseases-chosen"
"""Figure of the diseases by another block than counts."""
BARCODE_FIGURES = ("diseases", CHOSEN, "correlation", "map")


def barcode_figures(
    data: ad.AnnData,
    folder: Path,
    target: str = "diagnosis",
    seed: int = 0,
    config: DrawnConfig | None = None,
) -> dict[str, Path]:
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
    config
        What of the barcodes is shown; counts as they are (Eq. 3) if None.

    Returns
    -------
    Paths without their ending: ``diseases`` by counts; ``diseases-chosen``, if another block or a transform is shown;
    ``correlation`` and, with five patients or more, ``map`` of what is shown.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    config = config or DrawnConfig()
    kind = Representation(config.features, config.transform)
    (name,) = FEATURES[kind.features]
    barcodes = transformed(data, name, kind.transform)
    by = "" if kind == PAPER else f" by {kind.unit}"
    values = patient_column(data, target) if target in data.obs else None
    groups = np.full(data.n_obs, "all patients") if values is None else values.fillna(UNKNOWN).astype(str).to_numpy()
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.bincount(codes)
    correlation = barcode_correlation(barcodes)
    order = _alike_together(correlation, codes)
    shown = {"diseases": PAPER} | ({} if kind == PAPER else {CHOSEN: kind})
    figures = {
        name: draw_diseases(
            disease_barcodes(transformed(data, FEATURES[one.features][0], one.transform), codes, len(names)),
            names.tolist(),
            counts.tolist(),
            unit=one.unit,
            title="Barcodes of the diseases" + (f" by {one.unit}" if one == kind != PAPER else ""),
        )
        for name, one in shown.items()
    }
    figures["correlation"] = correlation_map(
        correlation[np.ix_(order, order)],
        groups[order].tolist(),
        title=f"Correlation of the patients' barcodes{by}, alike ones of a group beside each other",
    )
    if data.n_obs >= _LEAST:
        note = f"t-SNE of the barcodes{by}, perplexity {perplexity(data.n_obs):.0f}, correlation distance"
        figures["map"] = patient_map(
            positions(correlation, seed), groups.tolist(), title="Patients by barcode", note=note
        )
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


def perplexity(n_patients: int) -> float:
    """How many neighbours count in the map: a third of the patients, at most 30."""
    return min(30.0, (n_patients - 1) / 3)


def positions(correlation: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    """Places of patients on a plane, alike ones near each other, ``(n_patients, 2)``.

    t-SNE (van der Maaten and Hinton, 2008) of the distances 1 - r. A constant barcode has no r; its distance is 1.

    Parameters
    ----------
    correlation
        r of the patients' barcodes, ``(n_patients, n_patients)``.
    seed
        Fixes the places.
    """
    from sklearn.manifold import TSNE

    distances = np.clip(1 - np.nan_to_num(correlation), 0, None)
    np.fill_diagonal(distances, 0)
    reducer = TSNE(
        metric="precomputed",
        init="random",
        perplexity=perplexity(len(distances)),
        method="exact" if len(distances) <= 1000 else "barnes_hut",
        random_state=seed,
    )
    return np.asarray(reducer.fit_transform(distances), np.float32)
