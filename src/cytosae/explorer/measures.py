"""The columns of the latents: which there are, what they say, and all of a data set as one answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic_core import to_json

from cytosae.explorer.dataset import DataSet
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.schemas.study import Measure

RING_FACTOR = 1.5
"""A concept lies on the border where the ring of outermost patches has that many times its share of the patches."""
BACKGROUND = 0.75
"""Share of a concept's activation on background above which it says little of the cell."""

_ALWAYS = (
    Measure(key="mean_activation", label="mean activation", log=True, help="mean of m over the cells that have it"),
    Measure(key="activation_frequency", label="frequency", log=True, help="share of cells in which it is active"),
    Measure(
        key="label_entropy", label="label entropy", log=False, help="of the reference images, in nats: 0 is one label"
    ),
    Measure(key="n_references", label="references", log=False, help="reference images with an activation above 0"),
    Measure(key="border", label="on the border", log=False, help="share of its maps in the outermost ring of patches"),
)
_QUALITY = {
    "token_frequency": ("share of tokens", True, "share of tokens on which it fires"),
    "monosemanticity": ("monosemanticity", False, "likeness of the images that activate it; random ones have about 0"),
    "best_label_auroc": (
        "AUROC of its label",
        False,
        "how well it tells its best label from the rest, on unseen cells",
    ),
    "nucleus_share": ("on nucleus", False, "share of its activation on the nucleus"),
    "cytoplasm_share": ("on cytoplasm", False, "share of its activation on the cytoplasm"),
    "background_share": ("on background", False, "share of its activation outside the cell"),
    "coherence": ("spatial coherence", False, "Moran's I of its maps: do its patches lie together"),
    "consistency": ("consistency", False, "does it prefer the same labels in every data set"),
}
_LEFT_OUT = {"border_share", "redundancy_group"}


def quality_columns(reader: StudyReader) -> list[str]:
    """Columns of the quality table that are measures."""
    if reader.quality is None:
        return []
    numeric = [name for name in reader.quality.columns if pd.api.types.is_numeric_dtype(reader.quality[name])]
    return [str(name) for name in numeric if name not in _LEFT_OUT]


def measures(reader: StudyReader) -> list[Measure]:
    """All measures of the study's latents."""
    listed = list(_ALWAYS)
    for name in quality_columns(reader):
        label, log, text = _QUALITY.get(name, (name.replace("_", " "), False, name.replace("_", " ")))
        if name.startswith("robustness_"):
            text = f"correlation with itself when the cells are changed ({name.removeprefix('robustness_')})"
        listed.append(Measure(key=name, label=label, log=log, help=text))
    return listed


def ring_fraction(grid: tuple[int, int]) -> float:
    """Share of the patches that lie in the outermost ring."""
    rows, columns = grid
    return 1 - max(0, rows - 2) * max(0, columns - 2) / (rows * columns)


def latent_table(reader: StudyReader, data: DataSet) -> bytes:
    """The latents that are active in a data set at all, a list per column, as JSON."""
    latents = np.flatnonzero(data.var["activation_frequency"].to_numpy() > 0)
    columns: dict[str, Any] = {"latent": latents.tolist(), "concept": data.concepts[latents].astype(int).tolist()}
    for name in ("activation_frequency", "mean_activation", "label_entropy", "n_references"):
        columns[name] = shortened(data.var[name].to_numpy()[latents])
    columns["border"] = shortened(data.border[latents])
    columns["top_label"] = data.top_label[latents].tolist()
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
