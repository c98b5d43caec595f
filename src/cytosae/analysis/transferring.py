"""What holds in a laboratory never seen: every harmonisation side by side, one laboratory left out after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.analysis.laboratories import study_inputs
from cytosae.analysis.study_features import Rows, study_rows
from cytosae.artefacts import FileRecord, Manifest, claim, remove_outdated, write_csv, write_json
from cytosae.cohort import (
    ALONE,
    AT_HAND,
    Fitter,
    as_records,
    cells_fitter,
    forest_fitter,
    harmonised,
    left_out_laboratories,
    null_record,
    patients_fitter,
    pooled_fitter,
    weighted_f1,
    within_laboratories,
)
from cytosae.cohort.scores import confusion
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.harmonise import LEAST
from cytosae.settings import ClassifyConfig, LaboratoryConfig, to_stored

TABLE, RESULT = "transfer.csv", "transfer.json"
CONTROLS = "healthy controls at hand"
"""Setting: of the new laboratory healthy people are known."""
_METHODS = ("centre", "standardise", "combat")
_OF_TOKENS = ("centre", "standardise", "whiten", "coral", "combat")
"""Of tokens of cells, of which there are enough for covariances."""
MEASURED_ALONE, MEASURED_TOO = "measurements", " and measurements"
"""Features of cells that are measured: by themselves, and appended to the name of those beside which they are asked."""


@dataclass(frozen=True)
class _Try:
    """A harmonisation of some features, in a setting."""

    features: str
    method: str
    setting: str

    @property
    def title(self) -> str:
        return "as they are" if self.method == "none" else self.method


def transfer(
    studies: Sequence[Path],
    folder: Path,
    config: LaboratoryConfig | None = None,
    *,
    target: str = "diagnosis",
    only: str | None = None,
) -> dict[str, Any]:
    """Predict the patients (or cells) of each laboratory with what was learned in the others, harmonised in every way.

    Parameters
    ----------
    studies
        Studies of the same cells; each may read its tokens through a harmonisation of its own, which adds to those that are
        tried here.
    folder
        Where ``transfer.csv`` and ``transfer.json`` go.
    config
        Settings.
    target
        Column of the diagnosis; or ``label``, for the type of each cell.
    only
        Name of the laboratory to learn from alone; all others if None.

    Returns
    -------
    What ``transfer.json`` holds: a row for each study, kind of features, harmonisation and setting, with weighted F1, its
    interval over patients or cells, its null (labels permuted within the laboratories), its ceiling where all laboratories
    are known (``within``), and weighted F1 of each laboratory.

    Raises
    ------
    CytosaeError
        See `cytosae.analysis.study_features.study_rows`; two studies of one name, an unknown laboratory.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or LaboratoryConfig()
    if len({study.name for study in studies}) < len(studies):
        raise CytosaeError("two of the studies have one name; rename a folder, so that the table can name both.")
    read = [study_rows(study, target, config) for study in studies]
    caveats = list(dict.fromkeys(f"{caveat}" for rows in read for caveat in rows.caveats))
    for caveat in caveats:
        say(f"transfer: {caveat}")
    sources = [_source(rows, only) for rows in read]
    claim(folder, "transfer", [TABLE, RESULT])
    tries = [
        (rows, _fitters(rows, config), source, one)
        for rows, source in zip(read, sources, strict=True)
        for one in _tries(rows, source, config)
    ]
    scored = []
    with progress("transfer", len(tries), "methods") as bar:
        for rows, fitters, source, one in tries:
            scored.append(_row(rows, fitters, one, source, config))
            bar.advance(1)
    table = pd.DataFrame(scored).sort_values(["setting", "value"], ascending=[True, False]).set_index("study")
    first = read[0]
    result = {
        "cytosae": __version__,
        "target": target,
        "laboratory": config.laboratory,
        "learned_from": only or "all others",
        first.kind: len(first.target),
        "classes": list(first.classes),
        "laboratories": dict(zip(first.laboratories.names, first.laboratories.sizes.tolist(), strict=True)),
        "caveats": caveats,
        "methods": as_records(table),
        "parameters": to_stored(config),
    }
    write_csv(folder / TABLE, table, index=True)
    write_json(folder / RESULT, result)
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, RESULT)}
    parameters = {**to_stored(config), "target": target, "learned_from": result["learned_from"]}
    inputs = study_inputs(list(studies))
    Manifest("transfer", parameters, inputs, outputs, {first.kind: len(first.target)}).save(folder)
    remove_outdated(folder, "transfer", [TABLE, RESULT])
    return result


def _source(rows: Rows, only: str | None) -> int | None:
    if only is None:
        return None
    names = rows.laboratories.names
    if only not in names:
        raise CytosaeError(f"--from {only}: no such laboratory; there are {', '.join(names)}.")
    return names.index(only)


def _tries(rows: Rows, source: int | None, config: LaboratoryConfig) -> Iterator[_Try]:
    """What is tried on a study. What was read through a harmonisation by laboratory has other patients of it at hand."""
    settings = (AT_HAND, ALONE) if rows.alone else (AT_HAND,)
    controls = rows.kind == "patients" and _controls(rows, config)
    for name in rows.features:
        yield _Try(name, "none", settings[-1])
        for method in _OF_TOKENS if name == "tokens" else _METHODS:
            # Of one laboratory all others are taken for it, by whichever method: alone there is nothing to compare.
            yield from (_Try(name, method, setting) for setting in settings if source is None or setting != ALONE)
        if controls:
            yield _Try(name, "centre", CONTROLS)
        if rows.measured is not None:
            yield from (_Try(name + MEASURED_TOO, method, AT_HAND) for method in ("none", "centre", "standardise"))
    if rows.measured is not None:
        yield _Try(MEASURED_ALONE, "none", AT_HAND)


def _controls(rows: Rows, config: LaboratoryConfig) -> bool:
    """Whether every laboratory has healthy people to be centred on."""
    if config.healthy not in rows.classes:
        return False
    own = rows.laboratories
    healthy = own.codes[(rows.target == rows.classes.index(config.healthy)) & (own.codes >= 0)]
    few = np.bincount(healthy, minlength=len(own.names)) < _least(rows)
    if few.any():
        names = ", ".join(np.asarray(own.names)[few])
        say(f"transfer: not centred on healthy controls: too few in {own.column} {names}")
    return not few.any()


def _fitters(rows: Rows, config: LaboratoryConfig) -> dict[str, Fitter]:
    """What is fitted on each kind of features."""
    n_classes = len(rows.classes)
    if rows.task is not None:
        of_patients = ClassifyConfig(seed=config.seed, bootstrap=config.bootstrap)
        return dict.fromkeys(rows.features, patients_fitter(rows.task, of_patients))
    of_cells = cells_fitter(n_classes)
    fitters = dict.fromkeys(rows.features, of_cells)
    if rows.measured is not None:
        fitters[MEASURED_ALONE] = forest_fitter(rows.measured, n_classes, config.seed)
        both = pooled_fitter(of_cells, fitters[MEASURED_ALONE])
        fitters |= dict.fromkeys((name + MEASURED_TOO for name in rows.features), both)
    return fitters


def _row(
    rows: Rows, fitters: Mapping[str, Fitter], one: _Try, source: int | None, config: LaboratoryConfig
) -> dict[str, Any]:
    own, n_classes, fit = rows.laboratories, len(rows.classes), fitters[one.features]
    blocks = rows.features.get(one.features.removesuffix(MEASURED_TOO), [])
    healthy = None
    if one.setting == CONTROLS:
        healthy = rows.target == rows.classes.index(config.healthy)
    map_to = partial(harmonised, blocks, own.codes, one.method, fitted_on=healthy, least=_least(rows))

    def features(left_out: int) -> list[NDArray[np.floating]]:
        return map_to(left_out, only=source, alone=one.setting == ALONE)

    scores = left_out_laboratories(
        features,
        rows.target,
        own.codes,
        rows.units,
        fit,
        n_classes,
        only=source,
        permutations=config.permutations,
        seed=config.seed,
    )
    within = within_laboratories(map_to(), rows.target, own.codes, rows.units, fit, n_classes, seed=config.seed)
    f1 = scores.predictions.f1(config.bootstrap, config.seed)
    null = null_record(scores.null, f1.value)
    predicted = scores.predictions.probability[0].argmax(axis=1)
    asked = np.isfinite(scores.predictions.probability[0, :, 0])
    of_laboratories = {}
    for code, name in enumerate(own.names):
        its = asked & (own.codes == code)
        if its.any():
            of_laboratories[name] = float(weighted_f1(confusion(rows.target[its], predicted[its], n_classes)))
    through = rows.read_through
    return {
        "study": rows.study,
        "tokens": "as they are" if through is None else f"{through[0]} by {through[1]}",
        "features": one.features,
        "harmonised": one.title,
        "setting": one.setting,
        "value": f1.value,
        "low": f1.low,
        "high": f1.high,
        "null": None if null is None else null["mean"],
        "null_high": None if null is None else null["high"],
        "p": None if null is None else null["p"],
        "within": within.predictions.f1(20, config.seed).value,
        **of_laboratories,
    }


def _least(rows: Rows) -> int:
    """Rows of a laboratory from which a harmonisation is fitted."""
    return 2 if rows.kind == "patients" else LEAST
