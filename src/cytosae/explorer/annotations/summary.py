"""What came of a worklist: how far each rater is, how many concepts are meaningful, how much the raters agree."""

from __future__ import annotations

from collections.abc import Hashable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cytosae.explorer.annotations import schemas, tables
from cytosae.explorer.annotations.agreement import fleiss, majority, pairwise
from cytosae.explorer.annotations.lookup import find
from cytosae.explorer.annotations.recording import current_annotations


def summarise(session: Session, worklist: int | None) -> schemas.Summary:
    """Figures of a worklist; of what was said outside any worklist if None. `Unknown` where there is no such list."""
    disease = None if worklist is None else find(session, worklist).disease
    said = current_annotations(session, worklist=worklist, worklists=False)
    raters = sorted({annotation.rater for annotation in said})
    verdicts: dict[str, dict[Hashable, str]] = {rater: {} for rater in raters}
    specific: dict[str, dict[Hashable, str]] = {rater: {} for rater in raters}
    for annotation in said:
        if annotation.verdict is not None:
            item = annotation.dataset, annotation.latent
            verdicts[annotation.rater][item] = annotation.verdict
            specific[annotation.rater][item] = annotation.specific_for or ""
    if worklist is None:
        items = len({(annotation.dataset, annotation.latent) for annotation in said})
    else:
        of_list = tables.Item.worklist_id == worklist
        items = session.scalars(select(func.count()).select_from(tables.Item).where(of_list)).one()
    x, y = majority(verdicts)
    together = fleiss(verdicts)
    return schemas.Summary(
        worklist=worklist,
        items=items,
        raters=[_figures(rater, list(verdicts[rater].values())) for rater in raters],
        meaningful=schemas.Share(x=x, y=y),
        specific=schemas.Specific(disease=disease, x=majority(specific, disease)[0], y=y) if disease else None,
        agreement=schemas.Agreement(
            cohen=[schemas.Pair(**pair._asdict()) for pair in pairwise(verdicts)],
            fleiss=None if together is None else schemas.Fleiss(**together._asdict()),
        ),
    )


def _figures(rater: str, given: list[str]) -> schemas.RaterFigures:
    return schemas.RaterFigures(
        name=rater,
        done=len(given),
        meaningful=given.count("meaningful"),
        artefact=given.count("artefact"),
        cannot_tell=given.count("cannot tell"),
    )
