"""Latents: all of a data set, one of them, its cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from fastapi import APIRouter, Response

from cytosae.explorer import schemas as s
from cytosae.explorer.caching import Bounded
from cytosae.explorer.images import encoded
from cytosae.explorer.measures import BACKGROUND, RING_FACTOR, latent_table, ring_share
from cytosae.explorer.opened import DataSet, Opened
from cytosae.explorer.routes import Index, Name, answer, named, written

if TYPE_CHECKING:
    from cytosae.explorer.activations import Activations

_TABLES_KEPT, _GALLERIES_KEPT = 64 * 2**20, 16 * 2**20  # bytes


def router(opened: Opened, activations: Callable[[], Activations]) -> APIRouter:
    """``/api/latents``."""
    routes = APIRouter()
    tables: Bounded[bytes] = Bounded(_TABLES_KEPT, len)
    galleries: Bounded[bytes] = Bounded(_GALLERIES_KEPT, len)

    @routes.get("/api/latents/{dataset}", response_model=s.LatentTable)
    def latents(dataset: Name) -> Response:
        """The latents that are active in a data set at all, a list per column."""
        data = opened.dataset(named(dataset))
        return answer(tables.get(data.name, lambda: latent_table(opened, data)))

    @routes.get("/api/latents/{dataset}/{latent}", response_model=s.LatentDetail)
    def latent(dataset: Name, latent: Index) -> Response:
        """One latent in a data set."""
        data = opened.dataset(named(dataset))
        data.check_latent(latent)
        return answer(detail(opened, data, latent))

    @routes.get("/api/latents/{dataset}/{latent}/images/{kind}", response_model=s.LatentImages)
    def images(dataset: Name, latent: Index, kind: Name) -> Response:
        """Cells of a latent with its maps."""
        data = opened.dataset(named(dataset))
        data.check_latent(latent)
        return answer(
            galleries.get((data.name, latent, kind), lambda: written(gallery(activations, data, latent, kind)))
        )

    return routes


def detail(opened: Opened, data: DataSet, latent: int) -> s.LatentDetail:
    """One latent in a data set."""
    row = data.var.iloc[latent]
    nearest = zip(*opened.directions.similar(latent, data.concepts), strict=True) if opened.weights_fit else ()
    quality = _quality(opened, latent)
    border = float(data.border[latent])
    share = None if quality is None else quality.get("background_share")
    return s.LatentDetail(
        latent=latent,
        dataset=data.name,
        is_concept=bool(data.concepts[latent]),
        statistics=s.LatentStatistics(
            **{name: row[name] for name in ("activation_frequency", "mean_activation", "label_entropy")},
            n_references=int(row["n_references"]),
            border=border,
        ),
        datasets={
            name: s.InDataSet(
                activation_frequency=other.var["activation_frequency"].iloc[latent],
                mean_activation=other.var["mean_activation"].iloc[latent],
                is_concept=bool(other.concepts[latent]),
            )
            for name, other in opened.datasets.items()
        },
        by_label=[s.InGroup(**group) for group in data.in_groups("label", latent)],
        by_diagnosis=[s.InGroup(**group) for group in data.in_groups("diagnosis", latent)],
        similar=[s.Similar(latent=int(other), cosine=cosine) for other, cosine in nearest],
        quality=quality,
        flags=s.Flags(
            border=border > RING_FACTOR * ring_share(opened.grid),
            background=share > BACKGROUND if isinstance(share, float) and np.isfinite(share) else None,
        ),
    )


def _quality(opened: Opened, latent: int) -> dict[str, Any] | None:
    """The quality measures of a latent; None where none was measured for it."""
    if opened.quality is None or latent not in opened.quality.index:
        return None
    row = opened.quality.loc[latent]
    return {str(name): _figure(value) for name, value in row.items()}


def _figure(value: Any) -> str | float | None:
    if isinstance(value, str) or pd.isna(value):
        return value if isinstance(value, str) else None
    return float(value)


def gallery(activations: Callable[[], Activations], data: DataSet, latent: int, kind: str) -> s.LatentImages:
    """Cells of a latent with its maps: those on the disk where they are kept, others from the cells' tokens."""
    rows, values = data.references(kind, latent)
    kept = data.reference_maps(latent) if kind == "reference" else None
    if kept is None:
        maps = activations().gallery(latent, [(data, int(row)) for row in rows])
    else:
        maps = list(kept[: len(rows)].astype(np.float32))
    top = max((float(found.max()) for found in maps if found is not None), default=0.0)
    return s.LatentImages(
        kind=kind,
        top=top,
        cells=[
            s.MappedCell(**ref, value=value, map=None if found is None else encoded(found, top))
            for ref, value, found in zip(data.refs(rows), values, maps, strict=True)
        ],
    )
