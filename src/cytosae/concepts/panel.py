"""Which concepts an expert is asked to judge: a draw that nobody can choose, written as a worklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans

from cytosae import __version__
from cytosae.artefacts import read_json, write_json
from cytosae.concepts.joining import joined_statistics
from cytosae.concepts.statistics import is_concept
from cytosae.concepts.storage import read_datasets, read_inputs, read_parameters
from cytosae.errors import CytosaeError
from cytosae.settings import CONCEPT_THRESHOLD

WORKLIST = "cytosae-worklist"


def expert_panel(
    mean_activation: ArrayLike,
    activation_frequency: ArrayLike,
    *,
    threshold: float = CONCEPT_THRESHOLD,
    clusters: int = 10,
    per_cluster: int = 5,
    seed: int = 0,
    excluded: ArrayLike = (),
    concepts: ArrayLike | None = None,
) -> pd.DataFrame:
    """Latents for an expert to judge (section 2 of CytoSAE): k-means among the discovered concepts, some of each cluster.

    Parameters
    ----------
    mean_activation, activation_frequency
        Of each latent, ``(n_latents,)``; the clusters are on these two, as they are.
    threshold
        A latent is a discovered concept where log10 of its mean activation is above it, if `concepts` does not say it.
    clusters, per_cluster
        10 and 5 in the paper: 50 latents.
    seed
        Fixes clusters and draw.
    excluded
        Latents that are not drawn, such as those of another panel.
    concepts
        Which are discovered concepts, ``(n_latents,)``.

    Returns
    -------
    ``latent, cluster, mean_activation, activation_frequency``, by cluster and latent; clusters are numbered by rising mean
    activation. A cluster with fewer latents than `per_cluster` gives all it has.

    Raises
    ------
    ValueError
        Fewer concepts to draw from than clusters.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    mean, frequency = np.asarray(mean_activation, float), np.asarray(activation_frequency, float)
    chosen = np.flatnonzero(is_concept(mean, threshold) if concepts is None else np.asarray(concepts, bool))
    if (free := len(np.setdiff1d(chosen, np.asarray(excluded, dtype=np.int64)))) < clusters:
        raise ValueError(f"{free} concepts do not make {clusters} clusters; ask for fewer")
    points = np.column_stack([mean[chosen], frequency[chosen]])
    fitted = KMeans(clusters, n_init=10, random_state=seed).fit(points)
    rank = np.argsort(np.argsort(fitted.cluster_centers_[:, 0], kind="stable"))
    rng = np.random.default_rng(seed)
    rows = []
    for cluster in range(clusters):
        members = np.setdiff1d(chosen[rank[fitted.labels_] == cluster], np.asarray(excluded, dtype=np.int64))
        drawn = np.sort(rng.choice(members, min(per_cluster, len(members)), replace=False))
        rows += [(latent, cluster, mean[latent], frequency[latent]) for latent in drawn]
    return pd.DataFrame(rows, columns=["latent", "cluster", "mean_activation", "activation_frequency"])


def stratified_panel(statistics: Mapping[str, pd.DataFrame], **settings: Any) -> pd.DataFrame:
    """A panel of each data set, from its own statistics; no latent is asked for twice.

    Parameters
    ----------
    statistics
        ``mean_activation``, ``activation_frequency`` and, unless the threshold says it, ``is_concept`` of each latent, by
        data set.
    settings
        Of `expert_panel`.

    Returns
    -------
    The panel with a column ``dataset``.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    panels: list[pd.DataFrame] = []
    taken = np.array([], dtype=np.int64)
    for name, var in statistics.items():
        try:
            panel = expert_panel(
                var["mean_activation"],
                var["activation_frequency"],
                excluded=taken,
                concepts=var.get("is_concept"),
                **settings,
            )
        except ValueError as error:
            raise CytosaeError(f"data set {name!r}: {error} (--clusters).") from error
        taken = np.union1d(taken, panel["latent"])
        panels.append(panel.assign(dataset=name))
    return pd.concat(panels, ignore_index=True)


def draw_panel(
    folder: Path, path: Path, *, clusters: int = 10, per_cluster: int = 5, datasets: Sequence[str] = (), seed: int = 0
) -> dict[str, Any]:
    """Draw the panel of a folder of concepts and write its worklist; see `stratified_panel`.

    Returns
    -------
    Path of the worklist and the number of latents by data set.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    known = read_datasets(folder)
    if unknown := [name for name in datasets if name not in known]:
        raise CytosaeError(f"--dataset {unknown[0]}: not in {folder}, which has {', '.join(known)}.")
    joined = joined_statistics(folder)
    statistics = {name: pd.DataFrame(joined[name]) for name in datasets or known}
    threshold = read_parameters(folder)["concept_threshold"]
    settings = {"threshold": threshold, "clusters": clusters, "per_cluster": per_cluster, "seed": seed}
    panel = stratified_panel(statistics, **settings)
    write_worklist(path, panel, sae=read_inputs(folder)["sae"], parameters=settings)
    counts = {str(name): int(count) for name, count in panel["dataset"].value_counts(sort=False).items()}
    return {"worklist": f"{path}", "latents": len(panel), "datasets": counts}


def is_worklist(path: Path) -> bool:
    """Whether a file is a worklist.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    return bool(read_json(path)["format"] == WORKLIST)


def write_worklist(path: Path, panel: pd.DataFrame, *, sae: str, parameters: Mapping[str, Any]) -> None:
    """Write a panel as the list of work that the explorer opens, in an order that tells nothing about the clusters.

    Parameters
    ----------
    path
        A JSON file.
    panel
        Of `stratified_panel`.
    sae
        Digest of the autoencoder whose latents these are.
    parameters
        How the panel was drawn, its seed included.
    """
    order = np.random.default_rng(parameters["seed"]).permutation(len(panel))
    columns = ["latent", "dataset", "cluster", "mean_activation", "activation_frequency"]
    write_json(
        path,
        {
            "format": WORKLIST,
            "cytosae": __version__,
            "inputs": {"sae": sae},
            "parameters": dict(parameters),
            "questions": ["Is it a meaningful concept?", "What is it called?"],
            "items": panel[columns].iloc[order].to_dict("records"),
        },
    )
