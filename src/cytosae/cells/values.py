"""Values of the known columns of a table, as a person reads them: one spelling for what looks alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

from cytosae.cells.numbers import is_absent
from cytosae.errors import CytosaeError

READ_AS_TEXT = ("dataset", "label", "patient", "diagnosis", "split")
"""Known columns whose values are names of things; paths and ids of cells are taken as they stand."""

_UNSEEN = dict.fromkeys((0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF))
"""Characters that take no room; not the joiners, which some scripts need within a word."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]+")
_ERROR = re.compile(r"#(REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!|SPILL!|CALC!|FIELD!|BLOCKED!|CONNECT!)")
_SHORTENED = re.compile(r"[+-]?[0-9]([.,][0-9]+)?[eE]\+[0-9]{2,}|-?inf")
_WHOLE = re.compile(r"([+-]?[0-9]{1,15})\.0+")
_CLASS = "none"
"""What may be the name of a class, and is none of a patient."""
_NAMELESS = frozenset({"unknown", "unbekannt", "?", "??", "nil", "missing", "not available", "anonymous", "tbd"})
"""Words by which people mean that a patient is not known."""
_IDENTIFYING = ("cell_id", "patient")
_SHOWN = 3  # groups of values that a remark names


def visible(text: str) -> str:
    """A text in composed letters and without characters that take no room."""
    return unicodedata.normalize("NFC", text).translate(_UNSEEN)


def readable(text: str) -> str:
    """A text in composed letters, without control characters and those that take no room, and without room around it.

    Examples
    --------
    >>> readable("Sta\\u0308bchen\\u200b ")
    'Stäbchen'
    """
    return _CONTROL.sub("", visible(text)).strip()


def as_read(column: str, values: pd.Series) -> tuple[pd.Series, list[str]]:
    """Values of a known column as a person reads them, and in words what was done beyond taking them as they stand.

    Parameters
    ----------
    column
        One of `READ_AS_TEXT`.
    values
        Text, or missing.
    """
    remarks = []
    unchanged = values == _CLASS if column != "patient" else pd.Series(False, index=values.index)
    if unchanged.any():
        remarks.append(
            f"{column}: {_CLASS!r} is taken for a name ({int(unchanged.sum()):,} cells). Leave the field empty "
            "where it is not known"
        )
    if (absent := is_absent(values) & ~unchanged).any():
        written = ", ".join(sorted(values[absent].unique()))
        remarks.append(f"{column}: {int(absent.sum()):,} values count as missing ({written})")
        values = values.where(~absent, None)
    if (plain := without_points(values)) is not None:
        example = values.dropna().iloc[0]
        remarks.append(f"{column}: {example!r} and the like are read as whole numbers, {plain.dropna().iloc[0]!r}")
        values = plain
    cleaned = values.map(lambda value: None if pd.isna(value) else readable(value) or None)
    changed = values.notna() & (cleaned != values)
    if changed.any():
        remarks.append(
            f"{column}: {int(changed.sum()):,} values are read in composed letters and without characters that nobody "
            f"sees, such as {cleaned[changed].iloc[0]!r}"
        )
    if column == "patient" and (nameless := cleaned.str.casefold().isin(_NAMELESS)).any():
        remarks.append(
            f"patient: {cleaned[nameless].iloc[0]!r} is taken for the name of a patient ({int(nameless.sum()):,} "
            "cells). Leave the field empty where the patient is not known"
        )
    if column != "split":
        remarks += [
            f"{column}: {' and '.join(map(repr, group))} are taken for {len(group)} different ones. If they are the "
            "same, write them alike"
            for group in _nearly_equal(cleaned.dropna().unique(), column == "patient")
        ]
    return cleaned, remarks


def without_points(values: pd.Series) -> pd.Series | None:
    """Whole numbers that were written as 7.0 as 7, as programs write them where some are missing; None where others are."""
    stated = values.dropna()
    if stated.empty or not stated.str.fullmatch(_WHOLE).all():
        return None
    return values.map(lambda value: None if pd.isna(value) else _WHOLE.sub(r"\1", value))


def refuse_spoilt(path: object, column: str, values: pd.Series, rows: Iterable[str]) -> None:
    """Refuse what a spreadsheet has spoilt: errors of formulas, and identifiers that became rounded numbers.

    Parameters
    ----------
    path
        Of the table, for messages.
    column
        A known column.
    values
        Text, or missing.
    rows
        Names of the rows, for messages.
    """
    for value, row in zip(values, rows, strict=True):
        if not isinstance(value, str):
            continue
        if _ERROR.fullmatch(value):
            raise CytosaeError(
                f"{path}: {row} has the error {value} of a spreadsheet in the column {column!r}. Correct its formula, "
                "or leave the field empty."
            )
        if column in _IDENTIFYING and _SHORTENED.fullmatch(value):
            raise CytosaeError(
                f"{path}: {row} has {value!r} in the column {column!r}, a number without its last digits, so different "
                "ones may look the same. Write the column as text and save the table again."
            )


def _nearly_equal(names: Iterable[str], numbered: bool) -> list[list[str]]:
    """Names that differ in capitals and spaces, or as numbers in zeros and points only; the first few groups."""
    groups: dict[str, list[str]] = {}
    for name in names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if numbered:
            key = re.sub(r"^0+(?=[0-9]+$)", "", _WHOLE.sub(r"\1", key))
        groups.setdefault(key, []).append(name)
    return [sorted(group) for group in groups.values() if len(group) > 1][:_SHOWN]
