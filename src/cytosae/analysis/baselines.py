"""The same patients described without concepts: what barcodes have to be ahead of."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.untrained_baseline import UNTRAINED, untrained_baseline
from cytosae.artefacts import MANIFEST
from cytosae.cells import read_table
from cytosae.cohort import Bags, colour_histograms, count_bags, patient_tokens, predicted_fractions, rows_of_cells
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.settings import ClassifyConfig
from cytosae.tokens import TokenStore


def check_untrained(config: ClassifyConfig, tokens: Path | None) -> None:
    """Raise a CytosaeError where an untrained backbone is asked for, and no tokens say which backbone."""
    if config.untrained and tokens is None:
        raise CytosaeError("--untrained: needs --tokens, which name the backbone and the images.")


def baseline_features(
    tokens: Path | None, data: ad.AnnData, labels: Path | None = None
) -> tuple[dict[str, NDArray[np.floating]], Bags | None]:
    """Features of each baseline, ``(n_rows, n_features)`` by its name, and the cells in bags; nothing is written.

    Parameters
    ----------
    tokens
        Of the cells; without them there are the fractions of the cell types alone.
    data
        Barcodes of the patients.
    labels
        Table of `cytosae label`, for the fractions that the probe predicts.
    """
    features: dict[str, NDArray[np.floating]] = {}
    bags = None
    if tokens is not None:
        source = TokenStore(tokens)
        described = patient_tokens(source, data)
        bags = described.bags
        features |= described.pooled()
        colours = colour_histograms(source.cells, rows_of_cells(source.cells, data), data.n_obs)
        features |= {} if colours is None else {"colour histogram": colours}
    if "cell_types" in data.obsm:
        features["cell-type fractions"] = np.nan_to_num(data.obsm["cell_types"])
    if labels is not None:
        table = read_table(labels)
        if missing := [name for name in ("dataset", "patient") if name not in table]:
            raise CytosaeError(f"--labels {labels}: has no column {missing[0]!r}. Give labels.csv of `cytosae label`.")
        known = table[table["patient"].notna()].reset_index(drop=True)
        fractions, types = predicted_fractions(known, rows_of_cells(known, data), data.n_obs)
        if not types:
            raise CytosaeError(f"--labels {labels}: has no columns 'p TYPE'. Give labels.csv of `cytosae label`.")
        features["cell-type fractions, predicted"] = fractions
    return features, bags


def untrained_features(
    tokens: Path | None, data: ad.AnnData, folder: Path, config: ClassifyConfig, device: str
) -> dict[str, NDArray[np.floating]]:
    """Features of an untrained backbone, if the settings ask for them; kept in `folder`, which was claimed."""
    if not config.untrained or tokens is None:
        return {}
    features = untrained_baseline(TokenStore(tokens), data, folder / UNTRAINED, seed=config.seed, device=device)
    return dict(features)


def bag_models(
    tokens: Bags | None, data: ad.AnnData, path: Path, config: ClassifyConfig
) -> dict[str, tuple[Bags, str]]:
    """The multiple-instance models to compare with: cells and kind of model (`cytosae.cohort.predict_bags`), by name.

    Parameters
    ----------
    tokens
        CLS tokens of the cells, if there are any.
    data, path
        Barcodes and their file; concepts of the cells are those of the study in whose ``cohort/`` it lies.
    config
        Settings.
    """
    models = {} if tokens is None else {"attention over CLS tokens": (tokens, "attention")}
    if not config.deep:
        return models
    if tokens is not None:
        models["transformer over CLS tokens"] = tokens, "transformer"
    concepts = path.absolute().parent.parent / "concepts"
    if not (concepts / MANIFEST).is_file():
        say(f"classification: without models of the cells' concept counts, as {concepts} has none")
        return models
    counts = count_bags(concepts, data)
    return models | {f"{kind} over concept counts": (counts, kind) for kind in ("attention", "transformer")}
