"""Images of several laboratories in the colours of the mean laboratory, written anew; new cells by the same reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytosae import __version__
from cytosae.artefacts import (
    FileRecord,
    Manifest,
    claim,
    disk_errors,
    make_folder,
    read_json,
    remove_outdated,
    whole_file,
    write_csv,
    write_json,
)
from cytosae.cells import UnreadableImage, intensities, pixels_digest, rejected_path
from cytosae.cells.images import decode, read_bytes
from cytosae.console import progress, say
from cytosae.errors import CytosaeError, NotFound
from cytosae.harmonise import IMAGE_METHODS, LEAST, ImageMaps, Laboratories, Stain, laboratories, mean_stain
from cytosae.harmonise.images import sample_pixels, stain_maps
from cytosae.settings import ImageConfig
from cytosae.storage import resolve_path
from cytosae.study import look_at, rendered

TABLE, STAINS, CELLS, IMAGES = "restained.csv", "stains.json", "cells.parquet", "images"
MOST_IMAGES = 300
"""Images of a laboratory from which its stain is taken, at most."""


def restain(
    source: Path,
    folder: Path,
    method: str = "reinhard",
    *,
    laboratory: str = "dataset",
    reference: Path | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    images: ImageConfig | None = None,
) -> dict[str, Any]:
    """Write the images of all cells in the colours of the mean laboratory.

    Parameters
    ----------
    source
        Cells, see `cytosae.cells.read_source`.
    folder
        Where ``restained.csv``, a table that `cytosae run` takes, the images and ``stains.json`` go.
    method
        One of `cytosae.harmonise.IMAGE_METHODS`.
    laboratory
        Column of the cells that says the laboratory; ``patient`` makes one of every patient.
    reference
        Folder of an earlier `restain`: its method, laboratories and mean laboratory are used. A laboratory that it does not
        know gets its stain from its own cells; one of few cells that of the known laboratory that it resembles most.
    columns, strict, images
        See `cytosae.study.look_at`.

    Raises
    ------
    CytosaeError
        No such column, one laboratory alone without a reference, a reference that is none; what the listing of cells raises.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    if method not in IMAGE_METHODS:
        raise CytosaeError(f"--method {method}: unknown; choose one of {', '.join(IMAGE_METHODS)}.")
    known: dict[str, Stain] = {}
    target: Stain | None = None
    if reference is not None:
        method, laboratory, known, target = _read_stains(reference / STAINS)
    names = [TABLE, STAINS, CELLS, rejected_path(Path(CELLS)).name]
    listed = look_at(
        rendered(source, folder / "cohort"),
        folder / CELLS,
        columns=columns,
        strict=strict,
        drop_missing=True,
        images=images,
    )
    cells = listed.cells.reset_index(drop=True)
    own = laboratories(cells, laboratory, several=reference is None)
    files = [f"{IMAGES}/{number:06d}.png" for number in range(len(cells))]
    claim(folder, "restained", [*names, *files])
    listing = listed.write()
    stains = _stains(cells, own, method, known)
    target = target or mean_stain(list(stains.values()))
    maps = stain_maps(method, [stains.get(name, target) for name in own.names], target)
    _write_images(cells, own, maps, folder, files)
    table = cells.drop(columns=[c for c in cells if str(c).startswith("file_") or c in ("width", "height")])
    table["path"] = files
    table = table.drop(columns=[name for name in table if table[name].isna().all()])
    write_csv(folder / TABLE, table)
    about = {"cytosae": __version__, "method": method, "source": IMAGE_METHODS[method].source, "laboratory": laboratory}
    described = {name: _described(stain) for name, stain in {**known, **stains}.items()}
    write_json(folder / STAINS, {**about, "laboratories": described, "reference": _described(target)})
    written = [name for name in names if (folder / name).is_file()]
    outputs = {name: FileRecord.from_file(folder / name) for name in [*written, *files]}
    parameters = {"method": method, "laboratory": laboratory}
    figures = {"cells": len(cells), "laboratories": len(own.names), "rejected": listing["rejected"]}
    Manifest("restained", parameters, {"images": pixels_digest(cells)}, outputs, figures).save(folder)
    remove_outdated(folder, "restained", [*written, *files])
    return {**figures, "method": method, "table": f"{folder / TABLE}"}


def laboratory_stain(cells: pd.DataFrame, rows: NDArray[np.int64], method: str) -> Stain:
    """The stain of some cells of a listing, from `MOST_IMAGES` of them at most.

    Raises
    ------
    CytosaeError
        An image that cannot be read.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    paths, scalings, kind, pixels = cells["path"].tolist(), intensities(cells), IMAGE_METHODS[method], []
    for row in np.random.default_rng(14).permutation(rows)[:MOST_IMAGES].tolist():
        try:
            pixels.append(sample_pixels(_image(paths[row], scalings[row]), row))
        except UnreadableImage as reason:
            raise CytosaeError(f"{paths[row]}: {reason}. Its colours are needed; list the cells again.") from None
    return kind.stain(kind.enter(np.concatenate(pixels)))


def _image(path: str, intensity: str | None) -> NDArray[np.uint8]:
    return np.asarray(decode(read_bytes(resolve_path(path)), intensity))


def _stains(cells: pd.DataFrame, own: Laboratories, method: str, known: Mapping[str, Stain]) -> dict[str, Stain]:
    """The stain of every laboratory of the cells."""
    stains = {}
    rows_of = {name: np.flatnonzero(own.codes == code) for code, name in enumerate(own.names)}
    with progress("stains", len(own.names), "laboratories") as bar:
        for name, rows in rows_of.items():
            if name in known:
                stains[name] = known[name]
                bar.advance(1)
                continue
            stain = laboratory_stain(cells, rows, method)
            if len(rows) >= LEAST:
                stains[name] = stain
            elif known:
                like = min(known, key=lambda one: float(np.abs(known[one].origin - stain.origin).sum()))
                say(
                    f"restain: {own.column} {name} is new and has {len(rows)} cells, fewer than {LEAST}: they are taken for "
                    f"cells of {like}, which they resemble most"
                )
                stains[name] = known[like]
            else:
                say(f"restain: {own.column} {name}: {len(rows)} cells, fewer than {LEAST}; they stay as they are")
            bar.advance(1)
    if len(stains) < 2 and not known:
        raise CytosaeError(
            f"--laboratory {own.column}: {len(stains)} of {len(own.names)} laboratories have {LEAST} cells or more, and two "
            "are needed. Name another column with --laboratory."
        )
    return stains


def _write_images(cells: pd.DataFrame, own: Laboratories, maps: ImageMaps, folder: Path, files: list[str]) -> None:
    make_folder(folder / IMAGES)
    scalings = intensities(cells)
    with disk_errors(folder), progress("restain", len(cells), "cells") as bar:
        for row, (path, file) in enumerate(zip(cells["path"], files, strict=True)):
            mapped = maps.apply(_image(path, scalings[row]), int(own.codes[row]))
            with whole_file(folder / file) as temporary:
                Image.fromarray(mapped).save(temporary, "PNG", compress_level=1)
            bar.advance(1)


def _described(stain: Stain) -> dict[str, Any]:
    return {"origin": stain.origin.tolist(), "axes": stain.axes.tolist()}


def _read_stains(path: Path) -> tuple[str, str, dict[str, Stain], Stain]:
    """Method, column, stains by laboratory and the mean laboratory of an earlier run."""
    if not path.is_file():
        raise NotFound(f"{path}: missing. Give --reference the folder that an earlier `cytosae restain` wrote.")
    raw = read_json(path)
    try:
        stains = {name: _stain(one) for name, one in raw["laboratories"].items()}
        if raw["method"] not in IMAGE_METHODS:
            raise ValueError(f"method {raw['method']!r}")
        return raw["method"], raw["laboratory"], stains, _stain(raw["reference"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CytosaeError(f"{path}: not the stains of `cytosae restain`, or damaged ({error}).") from error


def _stain(raw: Mapping[str, Any]) -> Stain:
    stain = Stain(np.array(raw["origin"], np.float64), np.array(raw["axes"], np.float64))
    if stain.origin.shape != (3,) or stain.axes.shape != (3, 3):
        raise ValueError("not three colours")
    return stain
