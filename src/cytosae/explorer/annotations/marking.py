"""Marks of taught concepts: an only growing list of what raters pointed at; what holds is the last of each place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, insert, select
from sqlalchemy.orm import Session

from cytosae.explorer.annotations.agreement import Verdicts, pairwise
from cytosae.explorer.annotations.database import Database
from cytosae.explorer.annotations.mark_schemas import Kind
from cytosae.explorer.annotations.tables import Mark

WHOLE_CELL, NONE = -1, "none"
"""In place of a patch, and a mark that is taken back: as in `cytosae.teaching`, which imports pandas."""
_TOGETHER = 400  # parameters of one query


@dataclass(frozen=True)
class PlacedMark:
    """A mark: what a rater says of a patch, or of a whole cell."""

    uid: str
    concept: str
    dataset: str
    cell: str
    patch: int
    mark: Kind
    rater: str
    time: datetime

    @property
    def place(self) -> tuple[str, str, int]:
        """Data set, cell and patch."""
        return self.dataset, self.cell, self.patch


def save_marks(database: Database, marks: Sequence[PlacedMark]) -> int:
    """Add marks, in their order; one whose `uid` is there already is the same sent again. When it returns they are on disk.

    Returns
    -------
    How many were new.
    """
    with database.writing() as session:
        return add_marks(session, marks)


def add_marks(session: Session, marks: Sequence[PlacedMark]) -> int:
    """The same within other changes."""
    known: set[str] = set()
    for start in range(0, len(marks), _TOGETHER):
        uids = [mark.uid for mark in marks[start : start + _TOGETHER]]
        known |= set(session.scalars(select(Mark.uid).where(Mark.uid.in_(uids))))
    new = list({mark.uid: mark for mark in reversed(marks) if mark.uid not in known}.values())[::-1]
    if new:
        session.execute(insert(Mark), [vars(mark) for mark in new])
    return len(new)


def mark_history(session: Session, concept: str | None = None) -> list[PlacedMark]:
    """Every mark that was ever set or withdrawn, of a concept or of all, oldest first."""
    query = select(Mark)
    return _placed(session, query if concept is None else query.where(Mark.concept == concept))


def current_marks(
    session: Session, concept: str | None = None, cell: tuple[str, str] | None = None, *, taken_back: bool = False
) -> list[PlacedMark]:
    """The marks that hold, oldest first: the last of each rater on each place, unless it is withdrawn.

    Parameters
    ----------
    concept
        Only those of this concept.
    cell
        Only those on this cell, by data set and ``cell_id``.
    taken_back
        Where the last word is that a mark is taken back, give that: whoever has the earlier mark has to know.
    """
    query = select(Mark)
    if concept is not None:
        query = query.where(Mark.concept == concept)
    if cell is not None:
        query = query.where(Mark.dataset == cell[0], Mark.cell == cell[1])
    last = _last(_placed(session, query))
    return last if taken_back else [mark for mark in last if mark.mark != NONE]


def _last(marks: Iterable[PlacedMark]) -> list[PlacedMark]:
    """The last mark of each rater on each place."""
    last: dict[tuple[object, ...], PlacedMark] = {}
    for mark in marks:
        key = (mark.concept, *mark.place, mark.rater)
        last.pop(key, None)
        last[key] = mark
    return list(last.values())


def marks_agreement(marks: Iterable[PlacedMark]) -> list[tuple[tuple[str, str], float | None, int, int]]:
    """Of every pair of raters who marked something in common: kappa, the number of these places, on how many they agree."""
    given: dict[str, dict[tuple[str, str, int], str]] = {}
    for mark in marks:
        given.setdefault(mark.rater, {})[mark.place] = mark.mark
    verdicts: Verdicts = dict(sorted(given.items()))  # type: ignore[arg-type]
    pairs = []
    for pair in pairwise(verdicts):
        if pair.n:
            first, second = (given[rater] for rater in pair.raters)
            same = sum(second.get(where) == mark for where, mark in first.items())
            pairs.append((pair.raters, pair.kappa, pair.n, same))
    return pairs


def _placed(session: Session, query: Select[Mark]) -> list[PlacedMark]:
    rows = session.scalars(query.order_by(Mark.time, Mark.id))
    return [
        PlacedMark(row.uid, row.concept, row.dataset, row.cell, row.patch, _kind(row.mark), row.rater, row.time)
        for row in rows
    ]


def _kind(text: str) -> Kind:
    if text not in ("this", "not", "none"):
        raise ValueError(f"mark {text!r}")
    return text  # type: ignore[return-value]
