"""Latents: all of a data set, one of them, its cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from fastapi import APIRouter, Response

from cytosae.concepts.schema import CONCENTRATION, POSITION
from cytosae.explorer.caching import bounded
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.images import encoded
from cytosae.explorer.measures import RING_FACTOR, latent_table, ring_fraction
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import Index, Name, answer, named, to_json
from cytosae.explorer.schemas import latents as s
from cytosae.explorer.typical import BACKGROUND, typical
from cytosae.settings import POSITION_SHARE

if TYPE_CHECKING:
    from cytosae.explorer.activations import Activations

TOGETHER = 10
"""Concepts that are listed for going with a latent over cells."""
_TABLES_BYTES, _IMAGES_BYTES = 64 * 2**20, 16 * 2**20  # of answers that are kept


def router(reader: StudyReader, activations: Callable[[], Activations]) -> APIRouter:
    """``/api/latents``."""
    routes = APIRouter()

    @bounded(_TABLES_BYTES)
    def table_answer(data: DataSet) -> bytes:
        return latent_table(reader, data)

    @bounded(_IMAGES_BYTES)
    def images_answer(data: DataSet, latent: int, kind: str) -> bytes:
        return to_json(latent_images(activations, data, latent, kind))

    @routes.get("/api/latents/{dataset}", response_model=s.LatentTable)
    def latents(dataset: Name) -> Response:
        """The latents that are active in a data set at all, a list per column."""
        return answer(table_answer(reader.dataset(named(dataset))))

    @routes.get("/api/descriptions/{dataset}", response_model=dict[str, str])
    def descriptions(dataset: Name) -> dict[str, str]:
        """What the concepts of a data set show, by latent; empty where they were not described."""
        return {str(latent): text for latent, text in reader.dataset(named(dataset)).descriptions.items()}

    @routes.get("/api/typical/{dataset}", response_model=dict[str, str])
    def typical_types(dataset: Name) -> dict[str, str]:
        """The cell type that a concept is specific for and its lift, by latent; those that are for none are left out."""
        return {str(latent): text for latent, text in typical(reader.dataset(named(dataset))).items()}

    @routes.get("/api/latents/{dataset}/{latent}", response_model=s.LatentDetail)
    def latent(dataset: Name, latent: Index) -> Response:
        """One latent in a data set."""
        data = reader.dataset(named(dataset))
        data.check_latent(latent)
        return answer(detail(reader, data, latent))

    @routes.get("/api/latents/{dataset}/{latent}/images/{kind}", response_model=s.LatentImages)
    def images(dataset: Name, latent: Index, kind: Name) -> Response:
        """Cells of a latent with its maps."""
        data = reader.dataset(named(dataset))
        data.check_latent(latent)
        return answer(images_answer(data, latent, kind))

    return routes


def detail(reader: StudyReader, data: DataSet, latent: int) -> s.LatentDetail:
    """One latent in a data set."""
    row = data.var.iloc[latent]
    nearest = zip(*reader.directions.similar(latent, data.concepts), strict=True) if reader.weights_fit else ()
    quality = _quality(reader, latent)
    border = float(data.border[latent])
    position, concentration = (float(data.statistic(name)[latent]) for name in (POSITION, CONCENTRATION))
    background = None if quality is None else quality.get("background_share")
    return s.LatentDetail(
        latent=latent,
        dataset=data.name,
        is_concept=bool(data.concepts[latent]),
        not_concept=data.why_not(latent),
        statistics=s.LatentStatistics(
            **{name: row[name] for name in ("activation_frequency", "mean_activation", "label_entropy")},
            n_references=int(row["n_references"]),
            border=border,
            position_share=position,
            concentration=concentration,
        ),
        datasets={
            name: s.InDataSet(
                activation_frequency=other.var["activation_frequency"].iloc[latent],
                mean_activation=other.var["mean_activation"].iloc[latent],
                is_concept=bool(other.concepts[latent]),
            )
            for name, other in reader.datasets.items()
        },
        by_label=[s.InGroup(**group) for group in data.in_groups("label", latent)],
        by_diagnosis=[s.InGroup(**group) for group in data.in_groups("diagnosis", latent)],
        similar=[s.Similar(latent=int(other), cosine=cosine) for other, cosine in nearest],
        together=[s.Together(latent=other, correlation=value) for other, value in data.together(latent, TOGETHER)],
        quality=quality,
        flags=s.Flags(
            border=border > RING_FACTOR * ring_fraction(reader.grid),
            background=_above(background, BACKGROUND),
            position=_above(position, POSITION_SHARE),
        ),
        description=data.descriptions.get(latent),
        facts=_facts(reader, data.name, latent),
        proposed=_proposed(reader, data.name, latent),
        tuning=_tuning(reader, latent),
    )


def _facts(reader: StudyReader, dataset: str, latent: int) -> list[s.Fact]:
    """The facts of a concept: those that pass first, places by their share."""
    rows = reader.facts(dataset, latent)
    if rows is None:
        return []
    ordered = rows.sort_values(["passes", "kind", "value"], ascending=[False, True, False], kind="stable")
    columns = ("kind", "subject", "value", "null", "q", "passes", "words")
    return [s.Fact(**{name: getattr(row, name) for name in columns}) for row in ordered.itertuples()]


def _proposed(reader: StudyReader, dataset: str, latent: int) -> s.Proposed | None:
    row = reader.proposed(dataset, latent)
    if row is None:
        return None
    return s.Proposed(**{name: row[name] for name in s.Proposed.model_fields})


def _tuning(reader: StudyReader, latent: int) -> list[s.TuningCurve]:
    """The tuning curves of a concept, the largest responses first."""
    rows = reader.curves(latent)
    if rows is None:
        return []
    curves = [
        s.TuningCurve(
            knob=str(knob),
            meaning=str(curve["meaning"].iloc[0]),
            responds=bool(curve["responds"].iloc[0]),
            levels=curve["level"].tolist(),
            **{name: curve[name].tolist() for name in ("change", "low", "high")},
        )
        for knob, curve in rows.groupby("knob", sort=False)
    ]
    return sorted(curves, key=lambda curve: (not curve.responds, -max(map(abs, curve.change))))


def _above(value: Any, limit: float) -> bool | None:
    """Whether a measure is above a limit; None where it was not measured."""
    return value > limit if isinstance(value, float) and np.isfinite(value) else None


def _quality(reader: StudyReader, latent: int) -> dict[str, Any] | None:
    """The quality measures of a latent; None where none was measured for it."""
    if reader.quality is None or latent not in reader.quality.index:
        return None
    row = reader.quality.loc[latent]
    return {str(name): _figure(value) for name, value in row.items()}


def _figure(value: Any) -> str | float | None:
    if isinstance(value, str) or pd.isna(value):
        return value if isinstance(value, str) else None
    return float(value)


def latent_images(activations: Callable[[], Activations], data: DataSet, latent: int, kind: str) -> s.LatentImages:
    """Cells of a latent with its maps: those on the disk where they are kept, others from the cells' tokens."""
    rows, values = data.references(kind, latent)
    stored = data.reference_maps(latent) if kind == "reference" else None
    if stored is None:
        maps = activations().cell_maps(latent, [(data, int(row)) for row in rows])
    else:
        maps = list(stored[: len(rows)].astype(np.float32))
    top = max((float(map_.max()) for map_ in maps if map_ is not None), default=0.0)
    return s.LatentImages(
        kind=kind,
        top=top,
        cells=[
            s.MappedCell(**ref, value=value, map=None if map_ is None else encoded(map_, top))
            for ref, value, map_ in zip(data.refs(rows), values, maps, strict=True)
        ],
    )
