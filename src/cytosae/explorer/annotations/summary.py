"""What came of a worklist: how far each rater is, how many concepts are meaningful, how much the raters agree."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cytosae.explorer.annotations import schemas, tables
from cytosae.explorer.annotations.agreement import fleiss, majority, pairwise
from cytosae.explorer.annotations.lookup import find
from cytosae.explorer.annotations.naming import given_names
from cytosae.explorer.annotations.recording import current_annotations

TEN = 10
"""The paper counts in the whole list and in its first ten."""


def summarise(
    session: Session, worklist: int | None, *, blind: bool = False, asking: str | None = None
) -> schemas.Summary:
    """Figures of a worklist, or of the annotations outside any worklist if None. `Unknown` if there is no such worklist.

    With `blind`, names that are hidden from the rater who is `asking` are left out; see `current_annotations`.
    """
    disease = None if worklist is None else find(session, worklist).disease
    annotations = current_annotations(session, worklist=worklist, worklists=False)
    raters = sorted({annotation.rater for annotation in annotations})
    verdicts: dict[str, dict[Hashable, str]] = {rater: {} for rater in raters}
    specific: dict[str, dict[Hashable, str]] = {rater: {} for rater in raters}
    for annotation in annotations:
        if annotation.verdict is not None:
            item = annotation.dataset, annotation.latent
            verdicts[annotation.rater][item] = annotation.verdict
            specific[annotation.rater][item] = annotation.specific_for or ""
    items = _items(session, worklist) or list(dict.fromkeys((one.dataset, one.latent) for one in annotations))
    together = fleiss(verdicts)
    return schemas.Summary(
        worklist=worklist,
        items=len(items),
        raters=[_figures(rater, list(verdicts[rater].values())) for rater in raters],
        meaningful=schemas.Fractions(**_fractions(verdicts, items, "meaningful")),
        specific=schemas.Specific(disease=disease, **_fractions(specific, items, disease)) if disease else None,
        agreement=schemas.Agreement(
            cohen=[schemas.Pair(**pair._asdict()) for pair in pairwise(verdicts)],
            fleiss=None if together is None else schemas.Fleiss(**together._asdict()),
        ),
        names=_names(
            current_annotations(session, worklist=worklist, worklists=False, blind=blind, asking=asking), items
        ),
    )


def _names(annotations: list[schemas.Annotation], items: list[tuple[str, int]]) -> list[schemas.NamedLatent]:
    """The names of each item, in the order of the items."""
    by_item: dict[tuple[str, int], list[schemas.Annotation]] = {item: [] for item in items}
    for annotation in annotations:
        by_item.setdefault((annotation.dataset, annotation.latent), []).append(annotation)
    named = {item: given_names(ratings) for item, ratings in by_item.items()}
    return [schemas.NamedLatent(dataset=d, latent=s, given=given) for (d, s), given in named.items() if given]


def _items(session: Session, worklist: int | None) -> list[tuple[str, int]]:
    """The items of a worklist in their order."""
    in_worklist = tables.Item.worklist_id == worklist
    rows = session.execute(
        select(tables.Item.dataset, tables.Item.latent).where(in_worklist).order_by(tables.Item.position)
    )
    return [(dataset, latent) for dataset, latent in rows]


def _fractions(verdicts: dict[str, dict[Hashable, str]], items: list[tuple[str, int]], wanted: str) -> dict[str, Any]:
    """How many items the majority calls so, of all that were judged and of those among the first ten (section 3.3)."""
    first: dict[str, dict[Hashable, str]] = {
        rater: {item: given[item] for item in items[:TEN] if item in given} for rater, given in verdicts.items()
    }
    (x, y), (x_first, y_first) = majority(verdicts, wanted), majority(first, wanted)
    return {"x": x, "y": y, "first_ten": schemas.Fraction(x=x_first, y=y_first)}


def _figures(rater: str, given: list[str]) -> schemas.RaterFigures:
    return schemas.RaterFigures(
        name=rater,
        done=len(given),
        meaningful=given.count("meaningful"),
        artefact=given.count("artefact"),
        cannot_tell=given.count("cannot tell"),
    )
