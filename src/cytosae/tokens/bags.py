"""Cells that are known by their embeddings alone: a bag of them for each patient, no images."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cytosae.artefacts import digest, reading_hdf5, sha256_file
from cytosae.cells import COLUMNS, read_table
from cytosae.cells.columns import FILE_COLUMNS, PATIENT_COLUMNS
from cytosae.errors import CytosaeError
from cytosae.tokens.foreign import DATASET, bag_files

COORDINATES = "coords"


def bag_cells(folder: Path, patients: Path | None = None, dataset: str | None = None) -> pd.DataFrame:
    """A listing of the cells of bags, as of images, but of cells that have none.

    Parameters
    ----------
    folder
        With ``PATIENT.h5`` for each patient: ``features (n_cells, d_model)`` and, if known, ``coords (n_cells, 2)``, the
        place of each cell on the slide.
    patients
        Table with what is known of the patients, such as their diagnosis; a column names the patient as the file.
    dataset
        Name of the data set; that of the folder if None.

    Returns
    -------
    A row per cell in the order of the tokens (`cytosae.tokens.foreign.open_foreign`), with the columns of
    `cytosae.cells.list_cells`; ``path`` is the bag, ``coords_x`` and ``coords_y`` the place where it is known.

    Raises
    ------
    CytosaeError
        No bags, coordinates of another number of cells, a table without a column of patients or with one of them twice.

    Notes
    -----
    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    files = bag_files(folder)
    if not files:
        raise CytosaeError(
            f"{folder}: has no .h5 files. Give --cells, the table of the cells, or a folder with a bag a patient."
        )
    parts = []
    for path in files:
        with reading_hdf5(path, "Copy or make it again.", kind="an HDF5 file, or cut short"), h5py.File(path) as file:
            features = file.get(DATASET)
            if not isinstance(features, h5py.Dataset) or not features.shape:
                names = ", ".join(file) or "nothing"
                raise CytosaeError(f"{path}: needs a data set {DATASET!r} with a row for each cell; it has {names}.")
            count = len(features)
            places = np.asarray(file[COORDINATES]) if COORDINATES in file else None
        if places is not None and (places.shape != (count, 2) or not np.issubdtype(places.dtype, np.number)):
            raise CytosaeError(
                f"{path}: {COORDINATES} are {places.dtype} of shape {places.shape}; {count} cells need numbers of shape "
                f"({count}, 2)."
            )
        checksum, stat = sha256_file(path), path.stat()
        part = pd.DataFrame(
            {
                "cell_id": [f"{path.stem}-{row:05}" for row in range(count)],
                "path": str(path.absolute()),
                "patient": path.stem,
                "width": 0,
                "height": 0,
                "file_bytes": stat.st_size,
                "file_mtime_ns": stat.st_mtime_ns,
                "file_sha256": [digest([checksum, row]) for row in range(count)],
            }
        )
        if places is not None:
            part["coords_x"], part["coords_y"] = places.T.astype(np.float64)
        parts.append(part)
    cells = pd.concat(parts, ignore_index=True)
    cells["dataset"] = dataset or folder.absolute().name
    if patients is not None:
        cells = cells.merge(_known(patients, cells), on="patient", how="left", validate="many_to_one")
    for column in COLUMNS:
        if column not in cells:
            cells[column] = None
        cells[column] = cells[column].astype("string")
    others = [column for column in cells if column not in (*COLUMNS, *FILE_COLUMNS)]
    return cells[[*COLUMNS, *others, *FILE_COLUMNS]]


def _known(path: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """The table of the patients, without columns that the cells have."""
    table = read_table(path)
    column = next((name for name in PATIENT_COLUMNS if name in table), None)
    if column is None:
        raise CytosaeError(f"{path}: has no column of patients ({', '.join(PATIENT_COLUMNS)}).")
    table = table.rename(columns={column: "patient"}).astype({"patient": str})
    table["patient"] = [Path(name).stem if name.endswith((".h5", ".hdf5")) else name for name in table["patient"]]
    if (twice := table["patient"].duplicated()).any():
        raise CytosaeError(f"{path}: patient {table.loc[twice, 'patient'].iloc[0]!r} has two rows.")
    if not table["patient"].isin(cells["patient"]).any():
        raise CytosaeError(
            f"{path}: none of its patients, such as {table['patient'].iloc[0]!r}, has a bag; the first is "
            f"{cells['patient'].iloc[0]!r}.h5. The names have to be the same."
        )
    return table.drop(columns=[name for name in table if name != "patient" and name in cells])
