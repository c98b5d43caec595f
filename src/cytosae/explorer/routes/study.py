"""What the study is and has."""

from __future__ import annotations

from fastapi import APIRouter, Response

from cytosae import __version__
from cytosae.explorer.annotations import Database, former_studies
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.fields import FieldImages
from cytosae.explorer.measures import measures
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import answer
from cytosae.explorer.schemas.study import (
    AnnotationsInfo,
    BackboneAbout,
    DataSetInfo,
    FormerInfo,
    Group,
    Has,
    StudyInfo,
)


def router(reader: StudyReader, images: FieldImages, uploads: bool, database: Database) -> APIRouter:
    """``/api/study``."""
    routes = APIRouter()

    @routes.get("/api/study", response_model=StudyInfo)
    def study() -> Response:
        """What the study is and has."""
        about = reader.first.about
        backbone = about["backbone"]
        return answer(
            StudyInfo(
                name=reader.name,
                version=__version__,
                static=False,
                n_latents=reader.first.n_latents,
                grid=reader.grid,
                taught={str(latent): name for latent, name in reader.taught.items()},
                tau=reader.tau,
                concept_threshold=float(about["parameters"]["concept_threshold"]),
                backbone=BackboneAbout(
                    name=str(backbone["name"]),
                    layer=int(backbone["layer"]) + 1,
                    depth=int(backbone["depth"]),
                    d_model=int(backbone["d_model"]),
                ),
                datasets=[_dataset(data) for data in reader.datasets.values()],
                measures=measures(reader),
                has=Has(
                    patients=reader.has_patients,
                    classification=reader.classified,
                    quality=reader.quality is not None,
                    tokens=reader.has_tokens or reader.backbone is not None,
                    uploads=uploads,
                    fields=images.has(reader.first.name),
                ),
                groups=reader.groups,
                annotations=AnnotationsInfo(
                    key=database.key, autoencoder=database.sae, study=database.study_sae, notice=database.notice
                ),
                former=[
                    FormerInfo(
                        digest=former.digest,
                        command=former.command,
                        trained=former.trained,
                        judgements=former.judgements,
                    )
                    for former in former_studies(reader.folder)
                ],
                not_learned=reader.why_not_learned,
                exported=None,
            )
        )

    return routes


def _dataset(data: DataSet) -> DataSetInfo:
    groups = {}
    for column in ("label", "diagnosis"):
        names, cells = data.groups(column)
        groups[column] = [Group(name=name, cells=int(count)) for name, count in zip(names, cells, strict=True)]
    return DataSetInfo(
        name=data.name,
        cells=data.n_cells,
        concepts=int(data.concepts.sum()),
        labels=groups["label"],
        diagnoses=groups["diagnosis"],
        kinds=data.kinds,
        has_patients=data.column("patient") is not None,
    )
