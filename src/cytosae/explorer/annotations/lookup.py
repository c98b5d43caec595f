"""Find a worklist, or say that it is not there."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from cytosae.explorer.annotations import tables
from cytosae.explorer.annotations.database import Unknown


def find(session: Session, number: int) -> tables.Worklist:
    """The worklist with this number, or `Unknown`."""
    row = session.get(tables.Worklist, number)
    if row is None:
        raise Unknown(f"There is no worklist {number}.")
    return row


def check_item(session: Session, number: int, dataset: str, latent: int) -> None:
    """Raise `Unknown` where a worklist does not ask for a latent of a data set."""
    find(session, number)
    item = select(tables.Item.position).where(
        tables.Item.worklist_id == number, tables.Item.dataset == dataset, tables.Item.latent == latent
    )
    if session.scalars(item).one_or_none() is None:
        raise Unknown(f"Latent {latent} of {dataset!r} is not in worklist {number}.")
