"""Folds from a file: tables with a fold for each patient, and folders of published folds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import pandas as pd

from cytosae.artefacts import parse_json
from cytosae.cells import read_table
from cytosae.cells.columns import PATIENT_COLUMNS, folded
from cytosae.cohort.task import patient_column
from cytosae.errors import CytosaeError, in_short

FOLD_COLUMNS = ("fold", "split", "test_fold")
TEST = "test.csv"
_JSON = '{"0": ["A", "B"], "1": ["C"]}'


def fold_column(data: ad.AnnData, folds: str) -> tuple[pd.Series, str]:
    """The fold of each row of some barcodes, None where there is none, and where it is from.

    Parameters
    ----------
    data
        Barcodes.
    folds
        A column of the barcodes, or a file or folder:

        - a table (.csv, .tsv, .parquet) with a column ``patient`` and a column ``fold``;
        - a .json file with the patients of each fold, ``{"0": ["A", "B"], "1": ["C"]}``;
        - a folder with a folder for each fold in which ``test.csv`` names its patients, as the folds of Hehr et al. are
          published (marrlab/GenBloom, ``splits/aml_hehr/folds``). What else lies there, such as ``train.csv`` and
          ``val.csv``, is not read: every patient who is not tested in a fold is trained on.

    Raises
    ------
    CytosaeError
        No such column or file, no such columns in the table, a patient in two folds, or no patient of the barcodes.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    if folds in data.obs:
        return patient_column(data, folds), folds
    path = Path(folds)
    if not path.exists():
        raise CytosaeError(
            f"--folds {folds}: no such file or folder, nor a column of the barcodes, which have "
            f"{', '.join(data.obs.columns)}."
        )
    by_patient: dict[str, str] = {}
    for patient, fold in _read(path):
        if by_patient.setdefault(patient, fold) != fold:
            raise CytosaeError(f"{path}: patient {patient!r} is in folds {by_patient[patient]!r} and {fold!r}.")
    patients = data.obs["patient"].astype(str)
    column = patients.map(by_patient).astype(object)
    if not column.notna().any():
        raise CytosaeError(
            f"{path}: none of its {len(by_patient)} patients, such as {next(iter(by_patient), '-')!r}, is in the barcodes, "
            f"which have {patients.iloc[0]!r}. The names have to be the same."
        )
    return column.where(column.notna(), None), path.name


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Patients and their folds."""
    if path.is_dir():
        tests = sorted(path.glob(f"*/{TEST}"))
        if len(tests) < 2:
            raise CytosaeError(f"{path}: has {len(tests)} folders with a {TEST}; at least two folds are needed.")
        for test in tests:
            table = _folded(read_table(test))
            yield from ((name, test.parent.name) for name in _names(table, test))
    elif path.suffix == ".json":
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CytosaeError(f"{path}: not readable as JSON ({in_short(error)}).") from error
        lists = content.values() if isinstance(content, dict) else []
        if not lists or not all(isinstance(names, list) and all(map(_is_name, names)) for names in lists):
            raise CytosaeError(f"{path}: not the patients of each fold; expected {_JSON}, found {_found(content)}.")
        yield from ((str(name), str(fold)) for fold, names in content.items() for name in names)
    else:
        table = _folded(read_table(path))
        column = next((name for name in FOLD_COLUMNS if name in table), None)
        if column is None:
            raise CytosaeError(f"{path}: has no column 'fold' (found: {', '.join(map(str, table.columns))}).")
        known = table[column].notna()
        yield from zip(_names(table[known], path), table.loc[known, column].astype(str), strict=True)


def _folded(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the names of the columns that are looked for, in whatever capitals they are written."""
    known = {*FOLD_COLUMNS, *PATIENT_COLUMNS}
    return table.rename(columns=lambda name: folded(name) if folded(name) in known else name)


def _is_name(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _found(content: object) -> str:
    """What a JSON file holds instead, in a few words."""
    if isinstance(content, list):
        return f"a list of {len(content)} entries"
    if not isinstance(content, dict):
        return f"{str(content)[:40]!r}"
    wrong = [fold for fold, names in content.items() if not (isinstance(names, list) and all(map(_is_name, names)))]
    return f"no list of names for fold {wrong[0]!r}" if wrong else "no fold"


def _names(table: pd.DataFrame, path: Path) -> list[str]:
    column = next((name for name in PATIENT_COLUMNS if name in table), None)
    if column is None:
        raise CytosaeError(
            f"{path}: has no column of patients ({', '.join(PATIENT_COLUMNS)}; found: {', '.join(map(str, table.columns))})."
        )
    return [str(name) for name in table[column]]
