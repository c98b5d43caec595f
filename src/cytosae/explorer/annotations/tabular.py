"""The current annotations as a table, CSV, for spreadsheets and statistics; and read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cytosae.artefacts import bare, guarded
from cytosae.cells.columns import folded
from cytosae.cells.text_encoding import decoded
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations.stored import Stored, StoredAnnotation, StoredItem, StoredWorklist
from cytosae.explorer.annotations.vocabulary import VOCABULARY

COLUMNS = (
    *("worklist", "title", "position", "dataset", "latent", "rater"),
    *("verdict", "name", "comment", "specific_for", *VOCABULARY),
    *("version", "created", "updated", "sae"),
)
"""Of a row; the terms of each vocabulary have a column, joined by semicolons."""
_NEEDED = ("dataset", "latent", "rater")
_COLUMNS = ("worklist", *_NEEDED, "verdict", "name", "comment", "specific_for", "version", "created", "updated")
_UNREADABLE = "needs a character that can be seen, and no zero byte"


def to_csv(everything: Stored) -> str:
    """A row for each annotation, in the order in which they were begun. Histories and unjudged items are left out."""
    lists = {worklist.uid: worklist for worklist in everything.worklists}
    positions = {
        (uid, item.dataset, item.latent): position
        for uid, worklist in lists.items()
        for position, item in enumerate(worklist.items)
    }
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    for one in everything.annotations:
        row: dict[str, Any] = one.model_dump(mode="json", include=set(_COLUMNS))
        row |= {name: "; ".join(terms) for name, terms in one.terms.items() if name in VOCABULARY}
        if one.worklist is not None:
            row["title"] = lists[one.worklist].title
            row["position"] = positions[one.worklist, one.dataset, one.latent]
        row["sae"] = everything.inputs["sae"]
        writer.writerow({name: guarded(value) for name, value in row.items()})
    return out.getvalue()


def from_csv(path: Path) -> Stored:
    """Read such a table; ``dataset, latent, rater`` are needed.

    Worklists get the items that were judged, in their order: a table has no others.

    Raises
    ------
    CytosaeError
        Not a table, a column is missing, or a row has an invalid value.
    """
    rows = _rows(path)
    saes = sorted({row["sae"] for row in rows if row.get("sae")})
    if len(saes) > 1:
        raise CytosaeError(f"{path}: rows of several autoencoders ({', '.join(sae[:12] for sae in saes)}).")
    annotations, lists = [], []
    for number, row in enumerate(rows, start=1):
        try:
            annotations.append(_annotation(row))
        except ValidationError as error:
            raise CytosaeError(f"{path}: row {number}, {first_error(error)}") from error
    for uid in dict.fromkeys(one.worklist for one in annotations if one.worklist):
        try:
            lists.append(_worklist(uid, rows, annotations))
        except (ValidationError, ValueError) as error:
            reason = first_error(error) if isinstance(error, ValidationError) else str(error)
            raise CytosaeError(f"{path}: worklist {uid}, {reason}") from error
    return Stored(inputs={"sae": saes[0]} if saes else {}, worklists=lists, annotations=annotations)


def first_error(error: ValidationError) -> str:
    """Location and reason of the first error."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {in_words(first)}."


def in_words(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, without the patterns by which that was found."""
    return _UNREADABLE if error["type"] == "string_pattern_mismatch" else str(error["msg"])


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        content, _ = decoded(path, path.read_bytes())
        header = content.partition("\n")[0]
        separator = max(",;\t", key=header.count)  # a program that saved the table again may have changed it
        reader = csv.reader(io.StringIO(content, newline=""), strict=True, delimiter=separator)
        first, *lines = [line for line in reader if line] or [[]]
    except (OSError, csv.Error, ValueError) as error:
        raise CytosaeError(f"{path}: not a readable CSV file ({error}).") from error
    columns = [folded(name) if folded(name) in COLUMNS else name.strip() for name in first]
    if missing := [name for name in _NEEDED if name not in columns]:
        raise CytosaeError(f"{path}: has no column {missing[0]!r}. The columns are {', '.join(COLUMNS)}.")
    for name in columns:
        if columns.count(name) > 1:
            raise CytosaeError(f"{path}: has two columns {name!r}. Keep one of them.")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(columns):
            raise CytosaeError(
                f"{path}: row {number} has {len(line)} fields and the header {len(columns)}. A text with a "
                f"{separator!r} in it has to stand in quotes; a row that was cut off has to be completed or removed."
            )
    return [{name: bare(value) for name, value in zip(columns, line, strict=True)} for line in lines]


def _annotation(row: dict[str, str]) -> StoredAnnotation:
    terms = {name: [term.strip() for term in row.get(name, "").split(";") if term.strip()] for name in VOCABULARY}
    values = {name: row[name] for name in _COLUMNS if row.get(name)}
    return StoredAnnotation.model_validate({**values, "terms": {name: given for name, given in terms.items() if given}})


def _worklist(uid: str, rows: Sequence[dict[str, str]], annotations: Sequence[StoredAnnotation]) -> StoredWorklist:
    pairs = [(row, one) for row, one in zip(rows, annotations, strict=True) if one.worklist == uid]
    pairs.sort(key=lambda pair: int(pair[0].get("position") or 0))
    items = dict.fromkeys((one.dataset, one.latent) for _, one in pairs)
    return StoredWorklist(
        uid=uid,
        title=pairs[0][0].get("title") or "Imported",
        created=min(one.created for _, one in pairs),
        source="table",
        items=[StoredItem(dataset=dataset, latent=latent) for dataset, latent in items],
    )
