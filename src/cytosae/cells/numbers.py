"""Columns of text as numbers, and of numbers as text, without losing a zero or a digit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import pandas as pd

from cytosae.cells.columns import COLUMNS, folded, is_identifier

_PLAIN = re.compile(r"[+-]?(0|[1-9][0-9]{0,14})")  # longer ones are identifiers: a float would round them
_REAL = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
EXACT = 2**53  # up to here every whole number is a float
_ABSENT = frozenset({"na", "n/a", "#n/a", "n.a.", "nan", "<na>", "null", "none", "-", "--"})
_NO_NUMBER = frozenset({"", ".", "#ref!", "#value!", "#div/0!", "#num!", "#null!", "#name?"})


def is_absent(values: pd.Series) -> pd.Series:
    """Where a column of text says, in any capitals, that there is no value."""
    return values.str.casefold().isin(_ABSENT) if values.notna().any() else pd.Series(False, index=values.index)


def is_no_number(text: object) -> bool:
    """Whether this stands in columns of numbers where there is none."""
    return isinstance(text, str) and text.casefold() in (_ABSENT | _NO_NUMBER)


def typed(name: str, values: pd.Series) -> pd.Series:
    if folded(name) in COLUMNS or is_identifier(name):
        return as_text(values)
    return as_numbers(values) if values.dtype == object else values


def as_text(values: pd.Series) -> pd.Series:
    """Values as text: whole numbers without a point, missing ones as None."""
    if pd.api.types.is_float_dtype(values):
        whole = values.isna() | (values == values.round())
        if whole.all() and (values.abs().max() < EXACT or values.isna().all()):
            values = values.astype("Int64")
    return pd.Series([None if pd.isna(value) else str(value) for value in values], index=values.index, dtype=object)


def as_numbers(values: pd.Series) -> pd.Series:
    """Text as numbers where every value is one; a leading zero or more than 15 digits are the mark of a name."""
    given = values.where(~values.map(is_no_number).astype(bool), None)
    stated = given.dropna()
    if stated.empty or not stated.map(lambda value: isinstance(value, str)).all():
        return values
    if stated.str.fullmatch(_PLAIN).all():
        whole = given.map(lambda value: None if value is None else int(value))
        return whole.astype("int64" if len(stated) == len(values) else "Int64")
    if stated.str.fullmatch(_REAL).all() and not stated.str.fullmatch(r"[+-]?[0-9]{16,}").any():
        return given.map(lambda value: None if value is None else float(value)).astype("float64")
    return values


def whole_with_gaps(values: pd.Series) -> pd.Series:
    """Whole numbers that became floats because some are missing, as whole numbers."""
    stated = values.dropna()
    if len(stated) in {0, len(values)} or not (stated.abs() < EXACT).all() or not (stated == stated.round()).all():
        return values
    return values.astype("Int64")


def exact(name: str, values: Sequence[Decimal | None]) -> pd.Series:
    """Decimal numbers without losing a digit: whole ones as such, others as numbers, or as text in an identifier."""
    stated = [value for value in values if value is not None]
    whole = all(value == value.to_integral_value() for value in stated)
    if not whole and not (folded(name) in COLUMNS or is_identifier(name)):
        return pd.Series([None if value is None else float(value) for value in values], dtype="float64")
    if whole and all(abs(value) < 2**63 for value in stated):
        return pd.Series([None if value is None else int(value) for value in values], dtype="Int64")
    return pd.Series([None if value is None else str(int(value) if whole else value) for value in values], dtype=object)
