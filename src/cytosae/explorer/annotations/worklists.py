"""Lists of latents to be judged: from a choice, from a drawn panel, from the top latents of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cytosae.artefacts import Manifest, digest, same_weights
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import schemas, tables
from cytosae.explorer.annotations.database import Database
from cytosae.explorer.annotations.lookup import find
from cytosae.explorer.annotations.recording import current_annotations, hides

QUESTIONS = ("Is it a meaningful concept?", "What is it called?")
_TOP = "latents.csv"  # of a comparison


@dataclass(frozen=True)
class Plan:
    """A worklist that is to be made.

    Attributes
    ----------
    title
        What it is called.
    items
        Data set, latent, and what raters are not shown of it.
    source
        Where the latents come from.
    questions
        What is asked of each.
    blind_labels
        Whether labels and diagnoses of the cells are hidden; the browser does that.
    blind_raters
        Whether raters do not see the annotations of others.
    disease
        The group for which the concepts may be specific.
    parameters
        How they were drawn.
    uid
        Names the worklist in every database that it is copied to.
    """

    title: str
    items: Sequence[tuple[str, int, dict[str, Any]]]
    source: str = "list"
    questions: Sequence[str] = QUESTIONS
    blind_labels: bool = False
    blind_raters: bool = False
    disease: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=lambda: uuid4().hex)
    created: datetime | None = None


def from_list(wish: schemas.WorklistRequest) -> Plan:
    """A worklist of chosen latents, in their order."""
    return Plan(
        wish.title,
        [(item.dataset, item.latent, {}) for item in wish.items],
        wish.source or "list",
        asked(wish.disease),
        wish.blind_labels,
        wish.blind_raters,
        wish.disease or None,
    )


def _checked(title: str) -> str:
    try:
        return TypeAdapter(schemas.Title).validate_python(title)
    except ValidationError as error:
        raise CytosaeError(f"--title {title[:40]!r}: {error.errors()[0]['msg']}. Give 1 to 200 characters.") from error


def from_panel(
    file: schemas.WorklistFile,
    sae: str,
    *,
    title: str | None = None,
    blind_labels: bool = False,
    blind_raters: bool = False,
) -> Plan:
    """A worklist of a panel that `cytosae panel` drew; the same file, title and blindness make the same worklist.

    Raises
    ------
    CytosaeError
        Drawn from another autoencoder than `sae`.
    """
    drawn_from = file.inputs.get("sae", "")
    if not same_weights(drawn_from, sae):
        raise CytosaeError(
            f"The worklist is of another autoencoder ({drawn_from[:12] or 'not named'}) than the study ({sae[:12]}). Draw "
            "one with `cytosae panel` from the study's concepts."
        )
    seed = file.parameters.get("seed")
    if title is not None:
        title = _checked(title)
    title = title or ("Panel" if seed is None else f"Panel, seed {seed}")
    return Plan(
        title,
        [
            (item.dataset, item.latent, item.model_dump(exclude={"dataset", "latent"}, exclude_none=True))
            for item in file.items
        ],
        "panel",
        file.questions or QUESTIONS,
        blind_labels,
        blind_raters,
        parameters=dict(file.parameters),
        uid=digest([file.model_dump(), title, blind_labels, blind_raters]),
    )


def from_comparison(
    folder: Path, dataset: str, *, blind_labels: bool = False, blind_raters: bool = False
) -> list[Plan]:
    """A worklist for each group of a comparison: the latents most in favour of it, strongest first (section 3.3).

    Parameters
    ----------
    folder
        Written by `cytosae compare`.
    dataset
        Whose cells are shown.

    Returns
    -------
    One plan for each group that has such latents; "rest" is not a group.
    """
    import pandas as pd

    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "comparison" or not (folder / _TOP).is_file():
        raise CytosaeError(f"{folder}: no comparison there. Make one with `cytosae compare`.")
    table = pd.read_csv(folder / _TOP, keep_default_na=False, dtype={"favours": str})
    first, second = (str(manifest.parameters[side]) for side in ("first", "second"))
    record = manifest.outputs[_TOP].sha256
    plans = []
    for group, other, ascending in ((first, second, False), (second, first, True)):
        chosen = table[table["favours"] == group].sort_values("difference", ascending=ascending, kind="stable")
        if chosen.empty or group == "rest":
            continue
        items = [(dataset, int(latent), {"rank": rank}) for rank, latent in enumerate(chosen["latent"])]
        plan = Plan(
            _short(f"More in {group} than in {other}"),
            items,
            "comparison",
            asked(group),
            blind_labels,
            blind_raters,
            _short(group),
            {key: _short(manifest.parameters[key]) for key in ("first", "second", "target", "adjust")},
            digest([record, group, dataset, blind_labels, blind_raters]),
        )
        plans.append(plan)
    return plans


def asked(disease: str | None) -> list[str]:
    """The questions of a worklist, with one on the disease where it is about one."""
    return [*QUESTIONS, *([_short(f"Is it specific for {disease}?")] if disease else [])]


def add(database: Database, plan: Plan) -> tuple[int, bool]:
    """Store a worklist, unless one of the same `uid` is there.

    Returns
    -------
    Its number, and whether it is new.

    Raises
    ------
    Unknown
        A data set or latent that is not in the study.
    CytosaeError
        The same latent of a data set twice.
    """
    try:
        with database.writing() as session:
            return add_to(database, session, plan)
    except IntegrityError:  # somebody else has added it at the same time
        with database.reading() as session:
            return session.scalars(select(tables.Worklist.id).where(tables.Worklist.uid == plan.uid)).one(), False


def add_to(database: Database, session: Session, plan: Plan) -> tuple[int, bool]:
    """`add` among other changes."""
    for dataset, latent, _ in plan.items:
        database.check(dataset, latent)
    (item, count), *_ = Counter((dataset, latent) for dataset, latent, _ in plan.items).most_common(1)
    if count > 1:
        raise CytosaeError(f"Latent {item[1]} of {item[0]!r} is in the worklist twice.")
    existing = session.scalars(select(tables.Worklist.id).where(tables.Worklist.uid == plan.uid)).one_or_none()
    if existing is not None:
        return existing, False
    items = [
        tables.Item(position=position, dataset=dataset, latent=latent, about=about)
        for position, (dataset, latent, about) in enumerate(plan.items)
    ]
    row = tables.Worklist(
        uid=plan.uid,
        title=plan.title,
        created=plan.created or datetime.now(UTC),
        source=plan.source,
        questions=list(plan.questions),
        blind_labels=plan.blind_labels,
        blind_raters=plan.blind_raters,
        disease=plan.disease,
        parameters=plan.parameters,
        items=items,
    )
    session.add(row)
    session.flush()
    return row.id, True


def change(database: Database, number: int, wish: schemas.WorklistChange) -> None:
    """Give a worklist another title, or make it blind or not; see `Unknown`."""
    with database.writing() as session:
        row = find(session, number)
        for name, value in wish.model_dump(exclude_none=True).items():
            setattr(row, name, value)


def listed(session: Session) -> list[schemas.WorklistSummary]:
    """All worklists, oldest first, with the number of items that each rater has judged."""
    counts = select(tables.Item.worklist_id, func.count()).group_by(tables.Item.worklist_id)
    items = {row[0]: row[1] for row in session.execute(counts)}
    done = _count_done(session)
    rows = session.scalars(select(tables.Worklist).order_by(tables.Worklist.id))
    return [
        schemas.WorklistSummary(**_facts(row), raters=done.get(row.id, {}), items=items.get(row.id, 0)) for row in rows
    ]


def load_for_rater(session: Session, number: int, rater: str | None) -> schemas.Worklist:
    """A worklist for one rater: each item with the rater's annotation and, unless hidden, the others' annotations."""
    row = find(session, number)
    hidden = row.blind_raters and hides(session, rater)
    own: dict[tuple[str, int], schemas.Annotation] = {}
    others: dict[tuple[str, int], list[schemas.Annotation]] = {}
    for annotation in current_annotations(session, worklist=number):
        item_key = annotation.dataset, annotation.latent
        if annotation.rater == rater:
            own[item_key] = annotation
        elif not hidden:
            others.setdefault(item_key, []).append(annotation)
    items = [
        schemas.WorklistItem(
            position=item.position,
            dataset=item.dataset,
            latent=item.latent,
            annotation=own.get((item.dataset, item.latent)),
            others=others.get((item.dataset, item.latent), []),
        )
        for item in row.items
    ]
    return schemas.Worklist(**_facts(row), raters=_count_done(session).get(number, {}), items=items)


def _short(value: Any) -> Any:
    return value[:200] if isinstance(value, str) else value


def _facts(row: tables.Worklist) -> dict[str, Any]:
    return {name: getattr(row, name) for name in schemas.Facts.model_fields if name != "raters"}


def _count_done(session: Session) -> dict[int, dict[str, int]]:
    """Items with a verdict, by worklist and rater; raters without any are there with 0, in the order of their names."""
    query = (
        select(
            tables.Annotation.worklist_id,
            tables.Annotation.rater,
            func.count(tables.Annotation.verdict),  # nulls are not counted
        )
        .group_by(tables.Annotation.worklist_id, tables.Annotation.rater)
        .order_by(tables.Annotation.rater)
    )
    counts: dict[int, dict[str, int]] = {}
    for number, rater, count in session.execute(query):
        if number is not None:
            counts.setdefault(number, {})[rater] = count
    return counts
