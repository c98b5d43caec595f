"""``cytosae fields``: from images of fields to images of cells; leaves a table for `cytosae run`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.artefacts import (
    MANIFEST,
    FileRecord,
    Manifest,
    claim,
    digest,
    disk_errors,
    refuse_strangers,
    remove_outdated,
    remove_work_files,
    work_folder,
    write_csv,
)
from cytosae.cells import list_cells, pixels_digest, read_table, write_cells
from cytosae.cells.columns import FILE_COLUMNS, READING_COLUMNS
from cytosae.console import say
from cytosae.engines import Engine, LocalEngine
from cytosae.errors import CytosaeError
from cytosae.fields.boxes import as_found, read_boxes
from cytosae.fields.scales import scales_of_fields
from cytosae.fields.table import BOX, COLUMNS, FIELDS, LISTED, REJECTED, TABLE
from cytosae.fields.workers import WORK_FILE, cut_all, find_all, scales_of_files
from cytosae.settings import FieldConfig, to_stored

_OWN = {*FILE_COLUMNS, *READING_COLUMNS, *COLUMNS, "cell_id", "path", "mask"}


def find_cells_of_fields(
    source: Path,
    folder: Path,
    config: FieldConfig | None = None,
    *,
    boxes: Path | None = None,
    box_format: str = "auto",
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    intensity: str | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Find the nucleated cells of fields and cut each out at one physical scale; what is up to date is left.

    Parameters
    ----------
    source
        Images of fields, see `cytosae.cells.list_cells`; a column ``mpp`` has micrometres per pixel.
    folder
        Gets ``images/``, ``cells.csv``, ``rejected.csv``, ``fields.parquet`` and the manifest.
    config
        Settings.
    boxes, box_format
        File or folder of boxes, see `cytosae.fields.read_boxes`: taken in place of a search.
    columns, strict, intensity
        See `cytosae.cells.list_cells`.
    engine
        Who works; this process if None.

    Returns
    -------
    Numbers of fields, cells, rejected objects by reason, and how scales are known.

    Raises
    ------
    CytosaeError
        A field without scale where all are without, a bad ``mpp``, no cell at all, and what the listing raises.
    """
    config, engine = config or FieldConfig(), engine or LocalEngine()
    refuse_strangers(folder, FIELDS, [TABLE, REJECTED, LISTED])
    listing = list_cells(source, columns=columns, strict=strict, intensity=intensity, large=True)
    fields = listing.cells.reset_index(drop=True)
    parameters = to_stored(config)
    inputs = {"fields": pixels_digest(fields), "columns": digest(_carried(fields).astype(str).to_dict("list"))}
    given = None if boxes is None else read_boxes(boxes, box_format, fields)
    inputs["boxes"] = "" if given is None else digest(given.astype(str).to_dict("list"))
    finished = Manifest.load(folder)
    reason = "not made yet" if finished is None else finished.why_stale(folder, parameters, inputs)
    say(f"fields: {reason or 'up to date'}")
    if finished is not None and reason is None:
        remove_work_files(folder, WORK_FILE)
        return dict(finished.summary)
    work = work_folder(folder, [parameters, inputs])
    with disk_errors(folder):
        claim(folder, FIELDS, [TABLE, REJECTED, LISTED])
        rulers = scales_of_files(engine, work, fields, config) if _unknown(fields, config) else []
        scales = scales_of_fields(fields, config.mpp, rulers)
        objects = find_all(engine, work, fields, scales, config) if given is None else as_found(fields, given)
        cells, rejected = _tables(fields, scales, objects, listing.rejected, config)
        if cells.empty:
            raise CytosaeError(
                f"{source}: no nucleated cell was found in {len(fields)} fields ({len(rejected)} objects were "
                "rejected). Check --mpp and --faintest, or give boxes with --boxes."
            )
        names = [TABLE, REJECTED, LISTED, *cells["path"]]
        claim(folder, FIELDS, names)
        (folder / MANIFEST).unlink(missing_ok=True)
        cut = cut_all(engine, fields, cells, folder.absolute(), config)
        write_cells(fields, folder / LISTED)
        write_csv(folder / REJECTED, rejected)
        write_csv(folder / TABLE, cells)
    outputs = {name: FileRecord.from_file(folder / name) for name in names}
    remove_outdated(folder, FIELDS, names)
    summary = _summary(fields, scales, cells, rejected)
    Manifest(FIELDS, parameters, inputs, outputs, summary).save(folder)
    remove_work_files(folder, WORK_FILE)
    return {**summary, "cut": cut}


def read_field_cells(folder: Path) -> pd.DataFrame:
    """The cells that `find_cells_of_fields` left in a folder, with the place of each.

    Raises
    ------
    CytosaeError
        No finished folder, or a table that was changed since.
    """
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != FIELDS:
        raise CytosaeError(f"{folder}: no cells of fields there. Make them with `cytosae fields SOURCE -o {folder}`.")
    for name in (TABLE, LISTED):
        manifest.check_output(folder, name, "Run `cytosae fields` again.")
    return read_table(folder / TABLE)


def read_fields(folder: Path) -> pd.DataFrame:
    """The listing of the fields themselves."""
    from cytosae.cells import read_cells

    read_field_cells(folder)
    return read_cells(folder / LISTED)


def _tables(
    fields: pd.DataFrame,
    scales: pd.DataFrame,
    tables: list[pd.DataFrame],
    unreadable: pd.DataFrame,
    config: FieldConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells, and what is none with the reason."""
    carried = _carried(fields)
    cells, rejected = [], []
    for number, own in enumerate(tables):
        field, sha = str(fields["cell_id"][number]), str(fields["file_sha256"][number])
        scale = scales.iloc[number]
        if not np.isfinite(scale["mpp"]):
            why = "no scale: no `mpp`, and too few red cells in this and all other fields"
            rejected.append(pd.DataFrame([{"field": field, "reason": why}]))
            continue
        own = own.assign(field=field, **{str(name): scale[str(name)] for name in scales})
        no_cell = own["reason"].notna().to_numpy(dtype=bool)
        rejected.append(own.loc[no_cell, ["field", *BOX, "reason", "score"]])
        cut = own[~no_cell].reset_index(drop=True)
        keys = [
            digest([sha, [int(v) for v in box], float(scale["mpp"]), config.window, config.pixels])[:12]
            for box in cut[list(BOX)].itertuples(index=False)
        ]
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(field).stem)[:60]
        ids = [f"{field}:{'-'.join(str(int(v)) for v in box)}" for box in cut[list(BOX)].itertuples(index=False)]
        cut = cut.assign(cell_id=ids, path=[f"images/{stem}-{key}.png" for key in keys])
        for name in carried:
            if name not in cut:
                cut[name] = carried[name][number]
        cells.append(cut)
    table = pd.concat(cells, ignore_index=True) if cells else pd.DataFrame(columns=["path"])
    order = ["cell_id", "path", *(name for name in carried if name in table), *COLUMNS]
    table = table[[*dict.fromkeys([*order, *(["label"] if "label" in table else [])])]] if cells else table
    no_field = unreadable[["cell_id", "reason"]].rename(columns={"cell_id": "field"})
    left_out = pd.concat(
        [part for part in (*rejected, no_field) if len(part)] or [no_field], ignore_index=True
    ).reindex(columns=["field", *BOX, "reason", "score"])
    left_out[list(BOX)] = left_out[list(BOX)].astype("Int64")
    return table.drop_duplicates("cell_id").reset_index(drop=True), left_out


def _carried(fields: pd.DataFrame) -> pd.DataFrame:
    """Columns of the fields that their cells get."""
    names = [name for name in fields if name not in _OWN and fields[name].notna().any()]
    return fields[names]


def _unknown(fields: pd.DataFrame, config: FieldConfig) -> bool:
    return not config.mpp and not ("mpp" in fields and fields["mpp"].notna().all())


def _summary(fields: pd.DataFrame, scales: pd.DataFrame, cells: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    return {
        "fields": len(fields),
        "cells": len(cells),
        "touching": int(cells["touching"].sum()),
        "at_border": int(cells["at_border"].sum()),
        "rejected": {str(k).split(":")[0]: int(v) for k, v in rejected["reason"].value_counts().items()},
        "scale": {str(k): int(v) for k, v in scales["mpp_from"].value_counts().items()},
        "mpp": float(scales["mpp"].median()),
    }
