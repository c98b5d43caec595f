"""MLL23: peripheral blood of the Munich Leukemia Laboratory, 18 classes. The paper's training data."""

from __future__ import annotations

from pathlib import Path

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree, by_class_folder

# Counts: labels_MLL23.csv of github.com/marrlab/MLL23. Erythroblast: the word that its labels_harmonised.csv has.
CLASSES = (
    CellClass("basophil", "basophil", 616),
    CellClass("eosinophil", "eosinophil", 2448),
    CellClass("hairy_cell", "hairy_cell", 3265),
    CellClass("lymphocyte", "lymphocyte", 5532),
    CellClass("lymphocyte_large_granular", "large_granular_lymphocyte", 1849),
    CellClass("lymphocyte_neoplastic", "neoplastic_lymphocyte", 180),
    CellClass("lymphocyte_reactive", "reactive_lymphocyte", 33),
    CellClass("metamyelocyte", "metamyelocyte", 483),
    CellClass("monocyte", "monocyte", 2510),
    CellClass("myeloblast", "myeloblast", 8606),
    CellClass("myelocyte", "myelocyte", 747),
    CellClass("neutrophil_band", "band_neutrophil", 687),
    CellClass("neutrophil_segmented", "segmented_neutrophil", 7170),
    CellClass("normoblast", "erythroblast", 2071),
    CellClass("plasma_cell", "plasma_cell", 1658),
    CellClass("promyelocyte", "promyelocyte", 745),
    CellClass("promyelocyte_atypical", "atypical_promyelocyte", 2033),
    CellClass("smudge_cell", "smudge_cell", 988),
)


def read(tree: Tree, made: Path) -> Reading:
    """Read ``<class>/<class>_0001.TIF``, as in the 18 archives of the record."""
    return Reading(by_class_folder(tree, {one.code: one.code for one in CLASSES}))


MLL23 = DataSet(
    name="mll23",
    title="MLL23: a large expert-annotated single-cell peripheral blood dataset",
    tissue="peripheral blood",
    classes=CLASSES,
    images=41_621,
    size="288 x 288",
    image_format="TIFF",
    licence="CC BY 4.0",
    citation=(
        "Shetab Boushehri S, Kazeminia S, Gruber A, Matek C, Spiekermann K, Pohlkamp C, Haferlach T, Marr C. A large "
        "expert-annotated single-cell peripheral blood dataset for hematological disease diagnostics. Scientific Data "
        "12:1773 (2025)."
    ),
    doi="10.1038/s41597-025-06223-x",
    data_doi="10.5281/zenodo.14277609",
    source="https://zenodo.org/records/14277609",
    download=None,
    layout="<class>/<class>_0001.TIF, one zip archive a class",
    by_hand="Open https://zenodo.org/records/14277609, download the 18 zip archives into one folder.",
    record="https://zenodo.org/api/records/14277609",
    reader=read,
    oddities=("CytoSAE's paper counts 41,906 images; the record and its own table have 41,621.",),
)
