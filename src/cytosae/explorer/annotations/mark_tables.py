"""Marks of taught concepts as a table, the one that `cytosae.teaching.read_marks` takes; and in files of annotations."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from cytosae.artefacts import digest, guarded
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations.database import Database, Unknown
from cytosae.explorer.annotations.marking import WHOLE_CELL, PlacedMark, add_marks
from cytosae.explorer.annotations.stored import Stored, StoredMark, utc_now
from cytosae.explorer.annotations.tabular import first_error

MARK_COLUMNS = ("concept", "cell_id", "patch", "mark", "rater", "time", "dataset", "uid")
"""Those of `cytosae.teaching.COLUMNS`, and what identifies a mark in every database."""
_UNNAMED = "unnamed"  # rater of a table that names none


def to_marks_csv(marks: Iterable[PlacedMark]) -> str:
    """A row for each mark, in the order in which they were made."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(MARK_COLUMNS)
    for stored in stored_marks(marks):
        row = stored.model_dump(mode="json")
        writer.writerow([guarded(row["cell" if name == "cell_id" else name]) for name in MARK_COLUMNS])
    return out.getvalue()


def stored_marks(marks: Iterable[PlacedMark]) -> list[StoredMark]:
    """The marks as a file has them."""
    return [StoredMark(**{**vars(one), "patch": None if one.patch == WHOLE_CELL else one.patch}) for one in marks]


def is_marks_csv(path: Path) -> bool:
    """Whether a table is one of marks: its header names concept and mark, as no table of annotations does."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = {name.strip().strip('"').casefold() for name in file.readline().replace(";", ",").split(",")}
    except OSError:
        return False
    return {"concept", "mark"} <= header


def from_marks_csv(path: Path, datasets: Sequence[str]) -> Stored:
    """Read a table of marks, of `to_marks_csv` or made otherwise (see `cytosae.teaching.read_marks`).

    Raises
    ------
    CytosaeError
        Not such a table, a row with an invalid value, or no column ``dataset`` where the study has several.
    """
    from cytosae.teaching import read_marks

    table = read_marks(path)
    if "dataset" not in table and len(datasets) != 1:
        raise CytosaeError(
            f"{path}: has no column 'dataset'. The study has {', '.join(datasets)}: say of which cells are."
        )
    now, marks = utc_now(), []
    for number, row in enumerate(table.astype(object).to_dict("records"), start=1):
        values: dict[str, Any] = {
            str(name): value for name, value in row.items() if value == value and value is not None
        }
        plain = {
            "concept": str(values.get("concept", "")),
            "dataset": str(values.get("dataset") or datasets[0]),
            "cell": str(values.get("cell_id", "")),
            "patch": int(values["patch"]) if "patch" in values else None,
            "mark": str(values.get("mark", "")),
            "rater": str(values.get("rater") or _UNNAMED),
        }
        time = values.get("time")
        uid = values.get("uid") or digest([*plain.values(), None if time is None else str(time)])[:32]
        try:
            marks.append(StoredMark.model_validate({**plain, "uid": str(uid), "time": time or now}))
        except ValidationError as error:
            raise CytosaeError(f"{path}: row {number}, {first_error(error)}") from error
    return Stored(inputs={}, marks=marks)


def take_marks(database: Database, session: Session, marks: Sequence[StoredMark]) -> int:
    """Add marks of a file to a database, those that are not in it; how many these were."""
    for mark in marks:
        if database.datasets is not None and mark.dataset not in database.datasets:
            raise Unknown(f"There is no data set {mark.dataset!r} in this study.")
    placed = [
        PlacedMark(**{**mark.model_dump(), "patch": WHOLE_CELL if mark.patch is None else mark.patch}) for mark in marks
    ]
    return add_marks(session, placed)
