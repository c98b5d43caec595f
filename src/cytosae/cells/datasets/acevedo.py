"""Acevedo et al.: normal peripheral blood of the Hospital Clinic of Barcelona, 8 folders, 13 kinds of cell by file name."""

from __future__ import annotations

from pathlib import Path

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree, by_class_folder
from cytosae.downloads import RemoteFile

# In the order of CytoSAE's class list. Counts: table of the paper, and labels_harmonised.csv of github.com/marrlab/MLL23.
CLASSES = (
    CellClass("BA", "basophil", 1218),
    CellClass("EO", "eosinophil", 3117),
    CellClass("ERB", "erythroblast", 1551),
    CellClass("IG", "immature_granulocyte", 151),
    CellClass("LY", "lymphocyte", 1214),
    CellClass("MMY", "metamyelocyte", 1015),
    CellClass("MO", "monocyte", 1420),
    CellClass("MY", "myelocyte", 1137),
    CellClass("NEUTROPHIL", "neutrophil", 50),
    CellClass("BNE", "band_neutrophil", 1633),
    CellClass("SNE", "segmented_neutrophil", 1646),
    CellClass("PLATELET", "platelet", 2348),
    CellClass("PMY", "promyelocyte", 592),
)
SUBTYPES: dict[str, str | None] = {one.code: one.label for one in CLASSES}

_COARSE = {
    "immature_granulocyte": ("MMY", "MY", "PMY", "IG"),
    "neutrophil": ("BNE", "SNE", "NEUTROPHIL"),
}
EIGHT = SUBTYPES | {code: label for label, codes in _COARSE.items() for code in codes}
# The eleven of the paper are those that say which neutrophil and which granulocyte.
ELEVEN = SUBTYPES | {"NEUTROPHIL": None, "IG": None}

# The eight published folders; those into which CytoSAE's release moves five of the subtypes; 'ig' by its full name.
_FOLDERS = (
    "basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet",
    "metamyelocyte", "myelocyte", "promyelocyte", "neutrophil_band", "neutrophil_segmented",
    "immature_granulocyte",
)  # fmt: skip

IMAGES = RemoteFile(
    "PBC_dataset_normal_DIB.zip",
    "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
)


def read(tree: Tree, made: Path) -> Reading:
    """Read ``PBC_dataset_normal_DIB/<class>/<SUBTYPE>_<n>.jpg``; images of no known subtype are not listed."""
    cells = by_class_folder(tree, {folder: folder for folder in _FOLDERS})
    cells["code"] = [Path(path).stem.split("_")[0].upper() for path in cells["path"]]
    cells = cells[cells["code"].isin(SUBTYPES)].copy()
    cells["subtype"] = cells["code"].map(SUBTYPES)
    return Reading(cells)


ACEVEDO = DataSet(
    name="acevedo",
    title="Acevedo: microscopic peripheral blood cell images for automatic recognition systems",
    tissue="peripheral blood, healthy",
    classes=CLASSES,
    images=17_092,
    size="360 x 363 and near",
    image_format="JPEG",
    licence="CC BY 4.0",
    citation=(
        "Acevedo A, Merino A, Alférez S, Molina Á, Boldú L, Rodellar J. A dataset of microscopic peripheral blood cell "
        "images for development of automatic recognition systems. Data in Brief 30:105474 (2020)."
    ),
    doi="10.1016/j.dib.2020.105474",
    data_doi="10.17632/snkd93bnjr.1",
    source="https://data.mendeley.com/datasets/snkd93bnjr/1",
    download=None,
    layout="PBC_dataset_normal_DIB/<class>/<SUBTYPE>_<n>.jpg, 8 class folders",
    by_hand="Open https://data.mendeley.com/datasets/snkd93bnjr/1 and click 'Download All'.",
    files=(IMAGES,),
    reader=read,
    groupings={8: EIGHT, 11: ELEVEN, 13: SUBTYPES},
    default_grouping=11,
    oddities=(
        "8 published folders; 13 subtypes by file name; CytoSAE's paper speaks of 11 classes, its release lists 13.",
        "With 11 classes the 50 neutrophils and 151 immature granulocytes of no stated subtype have no label.",
        "Some images occur twice under different names.",
        "The archive may hold another archive; both are unpacked.",
    ),
)
