"""The measures of the latents: their labels and help texts, and the columns of a data set as one answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic_core import to_json

from cytosae.concepts.schema import CELL_SHARE, CONCENTRATION, POSITION, REPRODUCIBILITY, STAIN_SHARE
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.schemas.study import Measure
from cytosae.explorer.typical import beside_the_cell, specific_types

RING_FACTOR = 1.5
"""A concept is flagged as on the border if the outermost ring of patches holds this many times its even part of the map."""

_ALWAYS = (
    Measure(
        key="interest",
        label="interest",
        log=False,
        help="Lies in the middle of the picture, is no place in it, few cells and cell types show it, and it is strong: the "
        "product of these parts",
    ),
    Measure(
        key="mean_activation",
        label="mean activation where active",
        log=True,
        help="Mean of m over the cells in which the latent is active",
    ),
    Measure(
        key="lift",
        label="lift of its cell type",
        log=True,
        help="How many times as often cells of the type that it is specific for show it as other labelled cells do",
    ),
    Measure(
        key="activation_frequency",
        label="activation frequency",
        log=True,
        help="Fraction of cells in which the latent is active",
    ),
    Measure(
        key="label_entropy",
        label="label entropy",
        log=False,
        help="Entropy of the labels of the reference images, in nats; 0 means a single label",
    ),
    Measure(
        key="n_references",
        label="reference images",
        log=False,
        help="Number of reference images with an activation above 0",
    ),
    Measure(
        key="border",
        label="fraction on border",
        log=False,
        help="Fraction of the activation of its reference maps that lies in the outermost ring of patches",
    ),
    Measure(
        key=POSITION,
        label="position share",
        log=False,
        help="Share of its variance that is the patch's place in the picture, not the cell",
    ),
    Measure(
        key=CONCENTRATION,
        label="concentration",
        log=True,
        help="Variance of its counts over cells, against that of the same patches shuffled over all cells; 1 is chance",
    ),
)
_QUALITY = {
    "token_frequency": ("token frequency", True, "Fraction of tokens on which the latent is active"),
    "monosemanticity": (
        "monosemanticity",
        False,
        "Similarity of the images that activate the latent; random images score about 0",
    ),
    "best_label_auroc": (
        "AUROC of best label",
        False,
        "How well its activation predicts its best label against all others, on held-out cells",
    ),
    "nucleus_share": ("fraction on nucleus", False, "Fraction of its activation that lies on the nucleus"),
    "cytoplasm_share": ("fraction on cytoplasm", False, "Fraction of its activation that lies on the cytoplasm"),
    "background_share": ("fraction on background", False, "Fraction of its activation that lies outside the cell"),
    "reproducibility": (
        "reproducibility",
        False,
        "Fraction of the other trainings in which it comes back: each is the other's nearest, cosine at least 0.7",
    ),
    STAIN_SHARE: (
        "stain share",
        False,
        "Variance of its counts over pictures of one cell in other stains and light, against that over cells: below 0.2 "
        "morphology, above 0.5 stain",
    ),
    CELL_SHARE: (
        "cell share",
        False,
        "Share of the variance of its counts that is the cell's: not the stain's, light's, focus's, scale's or position's",
    ),
    "nearest_cosine": (
        "cosine in other trainings",
        False,
        "Cosine with the nearest latent of the other trainings, mean over them",
    ),
    "coherence": ("spatial coherence", False, "Moran's I of its maps: high if its active patches lie together"),
    "consistency": (
        "consistency",
        False,
        "Correlation of its mean activation by label between data sets",
    ),
}
_LEFT_OUT = {"border_share", "redundancy_group", POSITION}  # the last is the data set's own


def quality_columns(reader: StudyReader) -> list[str]:
    """Columns of the quality table that are measures."""
    if reader.quality is None:
        return []
    numeric = [name for name in reader.quality.columns if pd.api.types.is_numeric_dtype(reader.quality[name])]
    return [str(name) for name in numeric if name not in _LEFT_OUT]


def _own(reader: StudyReader) -> list[str]:
    """What ``var`` says of some studies and no quality table: in how many trainings of a pooled dictionary each latent came
    back, and whether it is the cell's or the stain's.
    """
    columns = (REPRODUCIBILITY, STAIN_SHARE, CELL_SHARE)
    return [name for name in columns if name in reader.first.var and name not in quality_columns(reader)]


def measures(reader: StudyReader) -> list[Measure]:
    """All measures of the study's latents."""
    listed = list(_ALWAYS)
    for name in [*_own(reader), *quality_columns(reader)]:
        words = name.replace("_", " ")
        label, log, text = _QUALITY.get(name, (words, False, words))
        if words.startswith("robustness "):
            change = words.removeprefix("robustness ")
            label = f"robustness to {change}"
            text = f"Correlation with its activation on changed cells ({change})"
        listed.append(Measure(key=name, label=label, log=log, help=text))
    return listed


def ring_fraction(grid: tuple[int, int]) -> float:
    """Fraction of the patches that lie in the outermost ring."""
    rows, columns = grid
    return 1 - max(0, rows - 2) * max(0, columns - 2) / (rows * columns)


def latent_table(reader: StudyReader, data: DataSet) -> bytes:
    """The latents that are active in a data set at all, a list per column, as JSON."""
    latents = np.flatnonzero(data.var["activation_frequency"].to_numpy() > 0)
    columns: dict[str, Any] = {"latent": latents.tolist(), "concept": data.concepts[latents].astype(int).tolist()}
    for name in ("activation_frequency", "mean_activation", "label_entropy", "n_references"):
        columns[name] = shortened(data.var[name].to_numpy()[latents])
    columns["interest"] = shortened(data.interest[latents])
    columns["border"] = shortened(data.border[latents])
    for name in (POSITION, CONCENTRATION, *_own(reader)):
        columns[name] = shortened(data.statistic(name)[latents])
    columns["alike"] = data.alike[latents].tolist()
    columns["top_label"] = data.top_label[latents].tolist()
    specific, lift = specific_types(data)
    columns["typical_label"], columns["lift"] = specific[latents].tolist(), shortened(lift[latents])
    columns["beside"] = beside_the_cell(reader, data)[latents].astype(int).tolist()
    if reader.quality is not None:
        quality = reader.quality.reindex(latents)
        columns |= {name: shortened(quality[name].to_numpy()) for name in quality_columns(reader)}
    return to_json(columns)


def shortened(values: ArrayLike) -> list[float | None]:
    """Numbers with six significant digits, None in place of NaN: half the length, and no wait for the rest."""
    x = np.asarray(values, np.float64)
    known = np.isfinite(x)
    safe = np.where(known & (x != 0), np.abs(x), 1.0)
    scale = 10.0 ** (5 - np.floor(np.log10(safe)))
    rounded: NDArray[Any] = np.where(known, np.round(np.where(known, x, 0) * scale) / scale, 0).astype(object)
    rounded[~known] = None
    return rounded.tolist()
