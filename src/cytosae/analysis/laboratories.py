"""How much of tokens, concepts and barcodes is the laboratory's, and how much the diagnosis's? Before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cytosae import __version__
from cytosae.analysis.study_features import LABEL, Rows, study_rows
from cytosae.artefacts import FileRecord, Manifest, claim, remove_outdated, sha256_file, write_csv, write_json
from cytosae.cohort import as_records, harmonised
from cytosae.console import progress, say
from cytosae.harmonise import LEAST, variance_share
from cytosae.settings import LaboratoryConfig, to_stored

TABLE, RESULT = "laboratories.csv", "laboratories.json"
METHODS = ("none", "centre", "standardise", "combat")
"""Harmonisations of the rows that are compared."""


def compare_laboratories(
    study: Path, folder: Path, config: LaboratoryConfig | None = None, *, target: str = "diagnosis"
) -> dict[str, Any]:
    """Divide the variance of tokens, concepts and barcodes between laboratory and diagnosis (or cell type).

    Parameters
    ----------
    study
        A study; patients for a target of patients, labelled cells for ``label``.
    folder
        Where ``laboratories.csv`` and ``laboratories.json`` go.
    config
        Settings.
    target
        Column of the diagnosis, or ``label``.

    Returns
    -------
    What ``laboratories.json`` holds: a row for each kind of features, harmonisation and column, with the share of the
    variance, its interval and null (`cytosae.harmonise.variance_share`).

    Raises
    ------
    CytosaeError
        See `cytosae.analysis.study_features.study_rows`.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or LaboratoryConfig()
    rows = study_rows(study, target, config)
    for caveat in rows.caveats:
        say(f"laboratories: {caveat}")
    claim(folder, "laboratories", [TABLE, RESULT])
    table = _table(rows, target, config)
    result = {
        "cytosae": __version__,
        "study": f"{study}",
        "laboratory": config.laboratory,
        "target": target,
        rows.kind: len(rows.target),
        "laboratories": dict(zip(rows.laboratories.names, rows.laboratories.sizes.tolist(), strict=True)),
        "read_through": rows.read_through,
        "caveats": list(rows.caveats),
        "shares": as_records(table),
        "parameters": to_stored(config),
    }
    write_csv(folder / TABLE, table, index=True)
    write_json(folder / RESULT, result)
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, RESULT)}
    parameters = {**to_stored(config), "target": target}
    Manifest("laboratories", parameters, study_inputs([study]), outputs, {rows.kind: len(rows.target)}).save(folder)
    remove_outdated(folder, "laboratories", [TABLE, RESULT])
    return result


def study_inputs(studies: list[Path]) -> dict[str, str]:
    """Digests of the manifests of what is compared."""
    return {
        f"{study.name}/{stage}": sha256_file(study / stage / "manifest.json")
        for study in studies
        for stage in ("tokens", "concepts", "cohort")
        if (study / stage / "manifest.json").is_file()
    }


def _table(rows: Rows, target: str, config: LaboratoryConfig) -> pd.DataFrame:
    own, rows_of_table = rows.laboratories, []
    least = LEAST if target == LABEL else 2
    with progress("variance", len(rows.features) * len(METHODS), "shares") as bar:
        for name, blocks in rows.features.items():
            for method in METHODS:
                (values,) = harmonised(blocks[:1], own.codes, method, least=least)
                for column, groups in ((own.column, own.codes), (target, rows.target)):
                    share = variance_share(
                        values, groups, rows.units, permutations=config.permutations, seed=config.seed
                    )
                    about: dict[str, Any] = {"features": name, "harmonised": method, "column": column}
                    figures = {"value": share.value, "low": share.low, "high": share.high}
                    rows_of_table.append({**about, **figures, "null": share.null, "p": share.p})
                bar.advance(1)
    return pd.DataFrame(rows_of_table).set_index("features")
