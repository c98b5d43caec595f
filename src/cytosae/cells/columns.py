"""Names of columns: those that later stages understand, those that may be meant, and those that are taken."""

from __future__ import annotations

import difflib
import re
from functools import cache

from cytosae.segmentation.registry import FLAGS, MEASUREMENTS, SEGMENTED

COLUMNS = ("cell_id", "path", "dataset", "label", "patient", "diagnosis", "split", "mask")
"""Columns that later stages understand; others are kept as they are."""

PATIENT_COLUMNS = ("patient", "patient_name", "patient_id", "case_id", "slide_id")
"""Names of the column of patients in tables of patients that other programs wrote, the first that a table has."""

FILE_COLUMNS = ("width", "height", "file_bytes", "file_mtime_ns", "file_sha256")
"""What was found in each image file: edges in pixels, size in bytes, time of change, SHA-256."""

READING_COLUMNS = ("file_intensity", "file_note")
"""How each image was read, where that is more than decoding: the scaling from more than 8 bits (`--intensity`), by which it
is decoded ever after; and whether it was turned, its colours converted or a broken profile ignored. Tables written before
there were these columns lack them."""

FRAME_COLUMN = "file_frame"
"""What is shown of each image (`cytosae.cells.framing.Frame`); lacking where all of it is."""

RESERVED = frozenset(
    {
        *FILE_COLUMNS,
        *READING_COLUMNS,
        FRAME_COLUMN,
        *("_index", "row", "id"),
        *(measurement.name for measurement in MEASUREMENTS),
        *(SEGMENTED, FLAGS),
        *("n_cells", "cell_type", "conflicting_diagnoses", "image_width", "image_height", "image_format"),
    }
)
"""Columns that stages make themselves, of cells or of patients: one of these names in a user's table gets another."""

GIVEN = "given_"
"""Before the name of a user's column whose own name is taken."""

_NEAR = {
    "path": "file filename filenames filepath files fname image images imagefile imagename imagepath img imgfile imgname "
    "imgpath imagefilename url uri bild datei dateiname pfad",
    "label": "celltype celltypes cellclass celllabel celllabels class classes classname category labelname truelabel "
    "groundtruth gt annotation zelltyp klasse",
    "patient": "patientid patientno patientnr patientnumber patientname patientcode pid subject subjectid donor donorid "
    "caseid mrn",
    "diagnosis": "diagnoses diagnose disease diseases diseasename dx",
    "dataset": "datasetname datasetid",
    "split": "datasplit subset partition",
    "mask": "maskpath maskfile maskname segmentation segmentationmask",
    "cell_id": "cellids cellname",
}
_IDENTIFIER = re.compile(
    r"(.*[ _.-])?(id|ids|uid|uuid|guid|pid|mrn|code|codes|barcode|accession)|.*[a-z](Id|ID)", re.DOTALL
)


def folded(name: str) -> str:
    """A name without the capitals and spaces that make no difference."""
    return " ".join(name.split()).casefold()


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


@cache
def known_names() -> frozenset[str]:
    """Names of columns by which a header is recognised, folded."""
    return frozenset({*COLUMNS, *(word for words in _NEAR.values() for word in words.split())})


def is_identifier(name: str) -> bool:
    """Whether a column names things by its own name, so that its numbers are no numbers."""
    return _IDENTIFIER.fullmatch(name.strip()) is not None or _IDENTIFIER.fullmatch(folded(name)) is not None


def near(known: str, names: list[str]) -> list[str]:
    """Columns by which `known` may be meant: another word for it, or one letter off."""
    meant = {_bare(known), *_NEAR[known].split()}
    return [
        name
        for name in names
        if name not in COLUMNS
        and (
            _bare(name) in meant
            or (abs(len(_bare(name)) - len(_bare(known))) <= 1 and _alike(_bare(name), _bare(known)))
        )
    ]


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one, other).ratio() >= 0.8


def storable(names: list[str], ours: bool) -> dict[str, str]:
    """New names of the columns that cannot keep theirs, because a stage makes one or files cannot hold it.

    Parameters
    ----------
    names
        Of all columns.
    ours
        The table is a listing made by this program: its `FILE_COLUMNS` are made anew and not looked at.
    """
    renamed: dict[str, str] = {}
    taken = set(names)
    for index, name in enumerate(names, 1):
        better = re.sub(r"[/\x00-\x1f\x7f]+", "_", name)
        if better.strip("._ ") == "":
            better = f"column_{index}"
        if better in RESERVED and not (ours and better in {*FILE_COLUMNS, *READING_COLUMNS, FRAME_COLUMN}):
            better = GIVEN + better.lstrip("_")
        if better == name:
            continue
        base, number = better, 1
        while better in taken:
            number += 1
            better = f"{base}_{number}"
        taken.add(better)
        renamed[name] = better
    return renamed
