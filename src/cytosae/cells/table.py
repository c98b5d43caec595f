"""``cells.parquet``: the list of cells that every later stage starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.artefacts import digest, parse_json, whole_file
from cytosae.cells.columns import COLUMNS, FILE_COLUMNS, FRAME_COLUMN, READING_COLUMNS
from cytosae.cells.framing import Frame, Reading
from cytosae.cells.image_folder import split_named
from cytosae.cells.user_tables import read_table
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath, below, resolve_path

_STATED = ("file_bytes", "file_mtime_ns")  # how a file is known to be unchanged, not what it holds


def is_listing(path: Path) -> bool:
    """Whether a file is a table of `write_cells`; raises what its reader does where it is no Parquet.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    return provenance(path).get("stage") == "cells"


def provenance(path: Path) -> dict[str, Any]:
    return dict(parse_json((pq.read_schema(path).metadata or {}).get(b"cytosae", b"{}")))


def write_cells(
    cells: pd.DataFrame,
    path: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    rejected: Sequence[str] = (),
) -> None:
    """Write a listing as Parquet; images below the table's folder are kept by relative path.

    `rejected` are digests of the lists of cells that were left out.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    folder = path.parent.absolute()
    stored = cells.copy()
    for column in ("path", "mask"):
        stored[column] = pd.array([_shorten(value, folder) for value in stored[column]], dtype="string")
    # the text of pandas 3, as the pandas before wrote it: the same cells make the same bytes
    text = [c for c, kind in stored.dtypes.items() if isinstance(kind, pd.StringDtype) and kind.na_value is not pd.NA]
    table = pa.Table.from_pandas(stored.astype(dict.fromkeys(text, object)), preserve_index=False)
    provenance = {
        "stage": "cells",
        "cytosae": __version__,
        "parameters": dict(parameters or {}),
        "rejected": [*rejected],
    }
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"cytosae": json.dumps(provenance).encode()}
    )
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def _shorten(value: object, folder: Path) -> str | None:
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    path = resolve_path(str(value))
    stored = isinstance(path, StoredPath)  # its working copy may lie below a folder of this machine
    if stored == isinstance(folder, StoredPath) and path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return path.url if isinstance(path, StoredPath) else str(path)


def read_cells(path: Path) -> pd.DataFrame:
    """Read a table written by `write_cells`, with absolute paths or URLs.

    Raises
    ------
    CytosaeError
        The file is missing or is not such a table.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if not path.is_file():
        raise CytosaeError(f"{path}: no such file. Make it with `cytosae cells SOURCE -o {path.name}`.")
    cells = read_table(path)
    missing = [column for column in (*COLUMNS, *FILE_COLUMNS) if column not in cells]
    if missing:
        raise CytosaeError(
            f"{path}: not a table made by `cytosae cells` (missing: {', '.join(missing)}). "
            f"Make one with `cytosae cells {path.name} -o cells.parquet`."
        )
    folder = path.parent.absolute()
    for column in (*COLUMNS, *READING_COLUMNS, FRAME_COLUMN):
        if column in cells:
            cells[column] = cells[column].astype("string")
    for column in ("path", "mask"):
        values = [None if pd.isna(v) else below(folder, str(v)) for v in cells[column]]
        cells[column] = pd.array(values, dtype="string")
    return cells


def pixels_digest(cells: pd.DataFrame) -> str:
    """Digest of which images the table lists, in order, by content; not of their labels or paths.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    return digest([cells["cell_id"].tolist(), image_digests(cells)])


def image_digests(cells: pd.DataFrame) -> list[str]:
    """What determines the pixels of each cell: the SHA-256 of its file, and how that is read beyond decoding it.

    Examples
    --------
    >>> image_digests(pd.DataFrame({"file_sha256": ["ab12"], "file_intensity": ["full"]}))
    ['ab12 full']
    """
    reading = [cells[column] for column in (*READING_COLUMNS, FRAME_COLUMN) if column in cells]
    return [
        " ".join(str(value) for value in values if not pd.isna(value))
        for values in zip(cells["file_sha256"], *reading, strict=True)
    ]


def intensities(cells: pd.DataFrame) -> list[str | None]:
    """The scaling by which the image of each cell is decoded; None for 8 bits a channel.

    Examples
    --------
    >>> intensities(pd.DataFrame({"cell_id": ["a"], "file_intensity": ["0-4095"]}))
    ['0-4095']
    """
    if "file_intensity" not in cells:
        return [None] * len(cells)
    return [None if pd.isna(scaling) else str(scaling) for scaling in cells["file_intensity"]]


def readings(cells: pd.DataFrame) -> list[Reading]:
    """How the image of each cell becomes its picture: scaling, and what is shown of it.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if FRAME_COLUMN not in cells:
        return [Reading(scaling) for scaling in intensities(cells)]
    frames = [None if pd.isna(text) else Frame.parse(str(text)) for text in cells[FRAME_COLUMN]]
    return [Reading(*one) for one in zip(intensities(cells), frames, strict=True)]


def frame_rule(cells: pd.DataFrame) -> str | None:
    """How the frames of a listing were chosen (`cytosae.settings.FrameConfig.rule`); None where images are shown whole.

    Raises
    ------
    CytosaeError
        Cells of one listing are framed by several rules.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if FRAME_COLUMN not in cells or not len(cells):
        return None
    rules = cells[FRAME_COLUMN].str.partition(":")[0].unique().tolist()
    if len(rules) > 1:
        raise CytosaeError(
            f"column {FRAME_COLUMN}: the cells are framed in several ways ({', '.join(map(str, rules))}). List them again "
            "with one --frame."
        )
    return None if pd.isna(rules[0]) else str(rules[0])


def metadata_digest(cells: pd.DataFrame) -> str:
    """Digest of everything the table says of its cells, but for where files lie and when they changed.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    left_out = {"path", "mask", *_STATED, *(c for c in READING_COLUMNS if c in cells and cells[c].isna().all())}
    columns = sorted(column for column in cells.columns if column not in left_out)
    return digest({c: [None if pd.isna(v) else str(v) for v in cells[c]] for c in columns})


def difference(before: pd.DataFrame, after: pd.DataFrame) -> str | None:
    """One phrase on how two listings differ in their images or columns; None if they are equal.

    Examples
    --------
    >>> before = pd.DataFrame({"cell_id": ["a"], "file_sha256": ["1"], "label": ["blast"]})
    >>> difference(before, before.assign(label="monocyte"))
    'labels or other columns of the cells changed'
    """
    if metadata_digest(before) == metadata_digest(after):
        return None
    old, new = (dict(zip(t["cell_id"], image_digests(t), strict=True)) for t in (before, after))
    changed = [cell for cell in new if cell in old and new[cell] != old[cell]]
    counts = {
        "added": [cell for cell in new if cell not in old],
        "removed": [cell for cell in old if cell not in new],
        "changed": changed,
    }
    phrases = [f"{len(ids)} {change} (first: {ids[0]})" for change, ids in counts.items() if ids]
    if not phrases and before["cell_id"].tolist() != after["cell_id"].tolist():
        return "the order of the cells changed"
    return "cells " + ", ".join(phrases) if phrases else "labels or other columns of the cells changed"


def held_out(cells: pd.DataFrame, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which cells are kept out of training, for its figures.

    Where the table has a ``split``, those whose split is, as `split_named` reads it, not for training; otherwise
    a seeded random `fraction` of all cells, at least one where there are two or more.

    Examples
    --------
    >>> held_out(pd.DataFrame({"split": ["train", "test"]}), 0.05, seed=0).tolist()
    [False, True]
    """
    split = cells["split"]
    if split.notna().any():
        return np.array([not pd.isna(name) and split_named(name) in ("val", "test") for name in split], dtype=bool)
    count = min(len(cells) - 1, max(1, round(fraction * len(cells)))) if fraction > 0 else 0
    chosen = np.random.default_rng([seed, 1]).permutation(len(cells))[:count]
    mask = np.zeros(len(cells), dtype=bool)
    mask[chosen] = True
    return mask
