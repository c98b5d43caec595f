"""Matek19 (AML-Cytomorphology_LMU): leukocytes of patients with acute myeloid leukaemia and of controls, 15 classes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree, by_class_folder
from cytosae.errors import CytosaeError

# Codes: abbreviations.txt of the collection, in its order. Counts of 11 classes: labels_harmonised.csv of marrlab/MLL23.
CLASSES = (
    CellClass("BAS", "basophil", 79),
    CellClass("EBO", "erythroblast", 78),
    CellClass("EOS", "eosinophil", 424),
    CellClass("KSC", "smudge_cell"),
    CellClass("LYA", "atypical_lymphocyte"),
    CellClass("LYT", "lymphocyte", 3937),
    CellClass("MMZ", "metamyelocyte", 15),
    CellClass("MOB", "monoblast"),
    CellClass("MON", "monocyte", 1789),
    CellClass("MYB", "myelocyte", 42),
    CellClass("MYO", "myeloblast", 3268),
    CellClass("NGB", "band_neutrophil", 109),
    CellClass("NGS", "segmented_neutrophil", 8484),
    CellClass("PMB", "bilobed_promyelocyte"),
    CellClass("PMO", "promyelocyte", 70),
)
_NAMES = {one.code: one.label for one in CLASSES} | {"UNC": "not_assigned"}  # could not be assigned a class again
_ANNOTATIONS = ("annotation", "reannotation_first", "reannotation_second")


def read(tree: Tree, made: Path) -> Reading:
    """Read ``<CODE>/<CODE>_0001.tiff`` and ``annotations.dat``: path, annotation, and two later ones or nan."""
    # A widely used copy on Kaggle has a folder 'augmented' beside the classes.
    cells = by_class_folder(tree, {one.code: one.code for one in CLASSES}, ignored=("augmented",))
    used = {path for name in ("abbreviations.txt",) for path in tree.named(name)}
    tables = tree.named("annotations.dat")
    if not tables:
        return Reading(cells, frozenset(used), ("annotations.dat is not there: no re-annotations",))
    annotations = _annotations(tables[0]).reindex(cells["cell_id"].str.lower())
    for column in _ANNOTATIONS:
        cells[column] = [_NAMES.get(code) for code in annotations[column]]
    stated = annotations["annotation"].to_numpy()
    notes = []
    if missing := int(pd.isna(stated).sum()):
        notes.append(f"{missing} images are not in annotations.dat")
    if other := int((~pd.isna(stated) & (stated != cells["code"].to_numpy())).sum()):
        notes.append(f"{other} images lie in the folder of another class than annotations.dat says")
    return Reading(cells, frozenset(used | {tables[0]}), tuple(notes))


def _annotations(path: Path) -> pd.DataFrame:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 4:
            raise CytosaeError(
                f"{path}: row {number} has {len(row)} columns instead of 4 (path, annotation, two re-annotations). "
                "Fetch the file again, or remove it to do without."
            )
    table = pd.DataFrame(rows, columns=["cell_id", *_ANNOTATIONS], dtype="object").replace("nan", None)
    return table.assign(cell_id=table["cell_id"].str.lower()).drop_duplicates("cell_id").set_index("cell_id")


MATEK19 = DataSet(
    name="matek19",
    title="AML-Cytomorphology_LMU: leukocytes from AML patients and non-malignant controls",
    tissue="peripheral blood, 100 patients with AML and 100 controls",
    classes=CLASSES,
    images=18_365,
    size="400 x 400",
    image_format="TIFF",
    licence="CC BY 3.0",
    citation=(
        "Matek C, Schwarz S, Marr C, Spiekermann K. A single-cell morphological dataset of leukocytes from AML patients "
        "and non-malignant controls [data set]. The Cancer Imaging Archive (2019)."
    ),
    doi=None,
    data_doi="10.7937/tcia.2019.36f5o9ld",
    source="https://www.cancerimagingarchive.net/collection/aml-cytomorphology_lmu/",
    download="11 GB",
    layout="AML-Cytomorphology/<CODE>/<CODE>_0001.tiff, annotations.dat and abbreviations.txt beside it",
    by_hand=(
        "Open https://www.cancerimagingarchive.net/collection/aml-cytomorphology_lmu/ and click 'Download' (needs the "
        "IBM Aspera Connect plugin). Put annotations.dat of the same page into the same folder."
    ),
    reader=read,
    oddities=(
        "The TIFF files have an alpha channel; it is laid over white.",
        "Which image is of which patient is not published.",
        "MYB is myelocyte, MYO myeloblast.",
    ),
)
