"""From cells back to their fields: GeoJSON for QuPath and COCO, with what a study says of each cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.artefacts import FileRecord, Manifest, claim, digest, disk_errors, remove_outdated, write_json
from cytosae.concepts import read_activations, read_concepts, read_datasets
from cytosae.errors import CytosaeError
from cytosae.fields import BOX, features, read_field_cells, read_fields, write_features
from cytosae.fields.geojson import UNNAMED
from cytosae.fields.names import file_stem
from cytosae.segmentation import MEASUREMENTS

OUTLINES = "outlines"
FORMATS = ("geojson", "coco")
_COCO = "coco.json"


def export_outlines(
    cells: Path, folder: Path, kind: str = "geojson", *, study: Path | None = None, concepts: int = 20
) -> dict[str, Any]:
    """Write the boxes of cells, by field, for other programs.

    Parameters
    ----------
    cells
        Folder of `cytosae.fields.find_cells_of_fields`.
    folder
        Gets a ``.geojson`` for each field, or ``coco.json``.
    kind
        One of `FORMATS`.
    study
        A study of these cells: counts of its concepts and its measurements are written with each cell.
    concepts
        How many concepts, those with the largest counts in these cells.

    Raises
    ------
    CytosaeError
        An unknown format, no such folder, or a study of other cells.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    if kind not in FORMATS:
        raise CytosaeError(f"--format {kind}: unknown; choose one of {', '.join(FORMATS)}.")
    table = read_field_cells(cells)
    measured = {} if study is None else _measured(study, table, concepts)
    fields = read_fields(cells)
    if kind == "coco":
        contents: dict[str, Any] = {_COCO: _coco(table, fields, measured)}
    else:
        stems = Counter(file_stem(str(field)) for field in table["field"].unique())
        if repeated := [stem for stem, count in stems.items() if count > 1]:
            raise CytosaeError(
                f"{cells}: several fields would be written as {repeated[0]}.geojson. Rename one of them."
            )
        by_field = table.groupby("field", sort=True)
        contents = {f"{file_stem(str(field))}.geojson": features(own, measured) for field, own in by_field}
    with disk_errors(folder):
        claim(folder, OUTLINES, contents)
        for name, content in contents.items():
            if kind == "coco":
                write_json(folder / name, content)
            else:
                write_features(folder / name, content)
    outputs = {name: FileRecord.from_file(folder / name) for name in contents}
    remove_outdated(folder, OUTLINES, outputs)
    named = sorted({name for values in measured.values() for name in values})
    summary = {
        "cells": len(table),
        "fields": int(table["field"].nunique()),
        "files": len(contents),
        "measurements": len(named),
    }
    inputs = {"cells": digest(table.astype(str).to_dict("list")), "measurements": digest(measured)}
    Manifest(OUTLINES, {"format": kind, "concepts": concepts}, inputs, outputs, summary).save(folder)
    return summary


def _measured(study: Path, cells: pd.DataFrame, number: int) -> dict[str, dict[str, float]]:
    """What a study measured of each cell: counts of concepts by number and name, and morphometry."""
    wanted = {str(cell) for cell in cells["cell_id"]}
    parts = []
    for dataset in read_datasets(study / "concepts"):
        data = read_concepts(study / "concepts", dataset, matrices=False)
        rows = np.flatnonzero(data.obs_names.astype(str).isin(list(wanted)))
        if len(rows):
            parts.append((data, rows, read_activations(study / "concepts", dataset, rows)[0]))
    if not parts:
        raise CytosaeError(
            f"--study {study}: has none of these cells. Give the study that was made from their cells.csv."
        )
    total = np.sum([np.asarray(counts.sum(axis=0)).ravel() for _, _, counts in parts], axis=0)
    var = parts[0][0].var
    total = np.where(var["is_concept"].to_numpy(dtype=bool), total, 0)
    chosen = [int(k) for k in np.argsort(-total, kind="stable")[:number] if total[k] > 0]
    names = {k: f"concept {k}{_named(var, k)}" for k in chosen}
    measured: dict[str, dict[str, float]] = {}
    for data, rows, counts in parts:
        values = counts[:, chosen].toarray()
        own = [m.name for m in MEASUREMENTS if m.name in data.obs]
        numbers = data.obs.iloc[rows][own].to_numpy(float)
        for index, cell in enumerate(data.obs_names[rows]):
            shown = {names[k]: float(values[index, column]) for column, k in enumerate(chosen)}
            measured[str(cell)] = shown | {
                name: round(float(value), 6)
                for name, value in zip(own, numbers[index], strict=True)
                if np.isfinite(value)
            }
    return measured


def _named(var: pd.DataFrame, latent: int) -> str:
    """The name that raters or a teacher gave a latent, in brackets."""
    for column in ("taught", "annotation"):
        if column in var and not pd.isna(var[column].iloc[latent]):
            return f" ({var[column].iloc[latent]})"
    return ""


def _coco(cells: pd.DataFrame, fields: pd.DataFrame, measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    labels = cells["label"].fillna(UNNAMED).astype(str) if "label" in cells else pd.Series(UNNAMED, cells.index)
    classes = {name: number for number, name in enumerate(sorted(set(labels)), 1)}
    images = {str(field): number for number, field in enumerate(fields["cell_id"], 1)}
    sizes = fields[["width", "height"]].astype(int).to_numpy().tolist()
    annotations = []
    for number, (row, label) in enumerate(zip(cells.to_dict("records"), labels, strict=True), 1):
        box = [int(row[name]) for name in BOX]
        about = {"cell_id": str(row["cell_id"]), **measured.get(str(row["cell_id"]), {})}
        annotations.append(
            {
                "id": number,
                "image_id": images[str(row["field"])],
                "category_id": classes[label],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "score": None if pd.isna(row["score"]) else float(row["score"]),
                "attributes": about,
            }
        )
    return {
        "images": [
            {"id": number, "file_name": field, "width": width, "height": height}
            for (field, number), (width, height) in zip(images.items(), sizes, strict=True)
        ],
        "categories": [{"id": number, "name": name} for name, number in classes.items()],
        "annotations": annotations,
    }
