"""Which latents a classifier may use: all, or those that somebody or something vouches for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.artefacts import MANIFEST, Manifest
from cytosae.cohort.representation import USED_LATENTS
from cytosae.concepts import TAUGHT, group_leaders, read_concepts, read_datasets, read_inputs, untaught
from cytosae.concepts.response import MORPHOLOGY, STAIN
from cytosae.concepts.schema import REPRODUCIBILITY, STAIN_WORD, VERDICT
from cytosae.concepts.storage import PER_LATENT
from cytosae.errors import CytosaeError

OUTSIDE, BACK = 0.5, 0.5
"""Share of the activation on the background from which a latent is outside the cell; share of other trainings in which a
reproduced concept comes back, at least.
"""


def _discovered(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    return data.var["is_concept"].to_numpy(bool)


def _approved(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    folder = study / "concepts"
    verdicts = [read_concepts(folder, name, matrices=False).var for name in read_datasets(folder)]
    verdict_columns = [var[VERDICT] for var in verdicts if VERDICT in var]
    if not verdict_columns:
        raise CytosaeError(
            f"--concepts approved: {folder} has no verdicts. Let experts judge the concepts (`cytosae explore "
            f"{study}`), then run `cytosae annotations apply {study}`."
        )
    return np.any([(column == "meaningful").to_numpy(bool) for column in verdict_columns], axis=0)


def _distinct(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    return np.asarray(group_leaders(study / "concepts") == np.arange(data.n_vars))


def _inside(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    share = _quality(data, study, "inside", "background_share", "with masks of the cells")
    return np.asarray(share < OUTSIDE)


def _reproduced(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    concepts = study / "concepts"
    if not (study / "quality" / PER_LATENT).is_file() and (concepts / MANIFEST).is_file():
        var = read_concepts(concepts, next(iter(read_datasets(concepts))), matrices=False).var
        if REPRODUCIBILITY in var:  # a dictionary that was pooled from several trainings
            return np.asarray(var[REPRODUCIBILITY].to_numpy(np.float64) >= BACK)
    share = _quality(data, study, "reproduced", "reproducibility", "with --against, other trainings")
    return np.asarray(share >= BACK)


def _quality(data: ad.AnnData, study: Path, name: str, column: str, how: str) -> NDArray[np.float64]:
    """A measure of each latent, NaN where it was not measured, ``(n_latents,)``."""
    path, manifest = study / "quality" / PER_LATENT, Manifest.load(study / "quality")
    table = None
    if manifest is not None and path.is_file():
        current = untaught(read_inputs(study / "concepts"))
        if not current.items() <= dict(manifest.inputs).items():
            raise CytosaeError(
                f"{path}: of other concepts than the study has now. Run `cytosae evaluate {study}` again."
            )
        table = pd.read_parquet(path).set_index("latent")
    if table is None or column not in table:
        raise CytosaeError(f"--concepts {name}: {path} has no {column}. Run `cytosae evaluate {study}` {how}.")
    return table[column].reindex(np.arange(data.n_vars)).to_numpy(np.float64)


def _morphology(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    folder = study / "concepts"
    kind_columns = [
        var[STAIN_WORD]
        for name in read_datasets(folder)
        if STAIN_WORD in (var := read_concepts(folder, name, matrices=False).var)
    ]
    if not kind_columns:
        raise CytosaeError(
            f"--concepts morphology: {folder} does not say how its concepts respond to stain. Run `cytosae "
            f"stain-response {study}`."
        )
    # the cell's in one data set at least, and the stain's in none
    words = np.stack([column.astype(object).to_numpy() for column in kind_columns])
    return np.asarray((words == MORPHOLOGY).any(axis=0) & ~(words == STAIN).any(axis=0))


def _taught(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    if TAUGHT not in data.var:
        raise CytosaeError(
            f"--concepts taught: these barcodes have none. Teach the study some: `cytosae teach {study}`."
        )
    return np.asarray(data.var[TAUGHT].notna())


def _untaught(data: ad.AnnData, study: Path) -> NDArray[np.bool_]:
    return ~_taught(data, study) if TAUGHT in data.var else np.ones(data.n_vars, bool)


RESTRICTIONS: Mapping[str, Callable[[ad.AnnData, Path], NDArray[np.bool_]]] = {
    "discovered": _discovered,
    "approved": _approved,
    "distinct": _distinct,
    "inside": _inside,
    "reproduced": _reproduced,
    "morphology": _morphology,
    "taught": _taught,
    "untaught": _untaught,
}
"""From barcodes and the folder of their study to the latents that may be used, ``(n_latents,)``; by the name that
``--concepts`` gives.
"""


def restricted(data: ad.AnnData, path: Path, name: str, without: Sequence[int] = ()) -> ad.AnnData:
    """Barcodes in which the latents that may not be used are 0, so that no model gives them a weight.

    Parameters
    ----------
    data
        Barcodes.
    path
        Their file, in ``cohort/`` of a study.
    name
        ``all``, or one of `RESTRICTIONS`.
    without
        Latents that are struck out besides.

    Raises
    ------
    CytosaeError
        What decides is not there, or no latent is left.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    if name == "all" and not len(without):
        return data
    keep = np.ones(data.n_vars, bool)
    if name != "all":
        keep = np.array(RESTRICTIONS[name](data, path.absolute().parent.parent))
        if not keep.any():
            raise CytosaeError(f"--concepts {name}: none of {data.n_vars} latents is; leave the option out.")
    keep[list(without)] = False
    if not keep.any():
        raise CytosaeError(f"--without: no latent of --concepts {name} is left; strike out fewer.")
    return only(data, keep)


def only(data: ad.AnnData, keep: NDArray[np.bool_]) -> ad.AnnData:
    """Barcodes in which all latents are 0 but some, ``(n_latents,)``.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    changed = data.copy()
    changed.X = np.where(keep, np.asarray(data.X), 0)
    for layer in ("share", "top", "strongest"):
        if layer in changed.layers:
            changed.layers[layer] = np.where(keep, np.asarray(data.layers[layer]), 0)
    before = np.isin(np.arange(data.n_vars), data.uns.get(USED_LATENTS, np.arange(data.n_vars)))
    changed.uns[USED_LATENTS] = np.flatnonzero(keep & before)
    return changed
