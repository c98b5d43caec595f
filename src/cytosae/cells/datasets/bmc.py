"""BMC (Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer): bone marrow of 945 patients, 21 classes."""

from __future__ import annotations

from pathlib import Path

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree, by_class_folder

CLASSES = (
    CellClass("ABE", "abnormal_eosinophil"),
    CellClass("ART", "artefact"),
    CellClass("BAS", "basophil"),
    CellClass("BLA", "blast"),
    CellClass("EBO", "erythroblast"),
    CellClass("EOS", "eosinophil"),
    CellClass("FGC", "faggott_cell"),
    CellClass("HAC", "hairy_cell"),
    CellClass("KSC", "smudge_cell"),
    CellClass("LYI", "immature_lymphocyte"),
    CellClass("LYT", "lymphocyte"),
    CellClass("MMZ", "metamyelocyte"),
    CellClass("MON", "monocyte"),
    CellClass("MYB", "myelocyte"),
    CellClass("NGB", "band_neutrophil"),
    CellClass("NGS", "segmented_neutrophil"),
    CellClass("NIF", "not_identifiable"),
    CellClass("OTH", "other_cell"),
    CellClass("PEB", "proerythroblast"),
    CellClass("PLM", "plasma_cell"),
    CellClass("PMO", "promyelocyte"),
)


def read(tree: Tree, made: Path) -> Reading:
    """Read ``<CODE>/<range>/<CODE>_00001.jpg``; small classes have no folders of ranges."""
    return Reading(
        by_class_folder(tree, {one.code: one.code for one in CLASSES}),
        frozenset(tree.named("abbreviations.csv") + tree.named("abbreviations.txt")),
    )


BMC = DataSet(
    name="bmc",
    title="Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer: expert-annotated bone marrow cytology",
    tissue="bone marrow, 945 patients",
    classes=CLASSES,
    images=171_374,
    size="250 x 250",
    image_format="JPEG",
    licence="CC BY 4.0",
    citation=(
        "Matek C, Krappe S, Münzenmayer C, Haferlach T, Marr C. An expert-annotated dataset of bone marrow cytology in "
        "hematologic malignancies [data set]. The Cancer Imaging Archive (2021)."
    ),
    doi="10.1182/blood.2020010568",
    data_doi="10.7937/TCIA.AXH3-T579",
    source="https://www.cancerimagingarchive.net/collection/bone-marrow-cytomorphology_mll_helmholtz_fraunhofer/",
    download="6.8 GB",
    layout="<CODE>/<range>/<CODE>_00001.jpg",
    by_hand=(
        "Open https://www.cancerimagingarchive.net/collection/bone-marrow-cytomorphology_mll_helmholtz_fraunhofer/ and "
        "click 'Download' (needs the IBM Aspera Connect plugin)."
    ),
    reader=read,
    oddities=(
        "One file is broken (MYB_05527.jpg): `cytosae cells` leaves it out and names it, and 171,373 remain.",
        "Which image is of which patient is not published.",
    ),
)
