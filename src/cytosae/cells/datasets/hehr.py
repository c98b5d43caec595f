"""AML Hehr (AML-Cytomorphology_MLL_Helmholtz): patients with four genetic subtypes of leukaemia and healthy donors."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.user_tables import read_table
from cytosae.errors import CytosaeError

CLASSES = (
    *(CellClass(code, code) for code in ("CBFB_MYH11", "NPM1", "PML_RARA", "RUNX1_RUNX1T1")),
    CellClass("control", "healthy"),
)

_SEX = {"1": "female", "2": "male"}  # column sex_1f_2m


def read(tree: Tree, made: Path) -> Reading:
    """Read ``data/<diagnosis>/<patient>/image_0.tif`` and ``metadata.csv``, a row per patient."""
    codes = {one.code.lower(): one.code for one in CLASSES}
    rows = []
    for path in tree.images():
        segments = tree.segments(path)
        depth = next((i for i in reversed(range(len(segments) - 2)) if segments[i].lower() in codes), None)
        if depth is not None:
            rows.append((str(path), codes[segments[depth].lower()], "/".join(segments[depth:]), segments[depth + 1]))
    cells = pd.DataFrame(rows, columns=["path", "code", "cell_id", "patient"], dtype="object")
    tables = tree.named("metadata.csv")
    if not tables:
        return Reading(cells, notes=("metadata.csv is not there: no age, sex and counts",))
    metadata = _metadata(tables[0])
    return Reading(
        cells.join(metadata.drop(columns="bag_label", errors="ignore"), on="patient"),
        frozenset({tables[0]}),
        tuple(_contradictions(cells, metadata)),
    )


def _metadata(path: Path) -> pd.DataFrame:
    table = read_table(path)
    if "patient_id" not in table:
        raise CytosaeError(
            f"{path}: has no column 'patient_id' (found: {', '.join(map(str, table.columns))}). It has to be the "
            "table of patients of the collection; remove it to do without."
        )
    # 'leucocytes_per_µl' goes around in more than one encoding.
    table = table.rename(columns=lambda name: "leucocytes_per_ul" if str(name).startswith("leucocytes_per") else name)
    if "sex_1f_2m" in table:
        table["sex"] = [_SEX.get(str(value).removesuffix(".0")) for value in table.pop("sex_1f_2m")]
    return table.dropna(subset="patient_id").drop_duplicates("patient_id").set_index("patient_id")


def _contradictions(cells: pd.DataFrame, metadata: pd.DataFrame) -> list[str]:
    folders = cells.drop_duplicates("patient").set_index("patient")["code"]
    notes = []
    if lacking := sorted(set(folders.index) - set(metadata.index)):
        notes.append(f"{len(lacking)} patients are not in metadata.csv (first: {lacking[0]})")
    if absent := sorted(set(metadata.index) - set(folders.index)):
        notes.append(f"{len(absent)} patients of metadata.csv have no images (first: {absent[0]})")
    if "bag_label" in metadata:
        stated = metadata["bag_label"].reindex(folders.index)
        if other := sorted(folders.index[stated.notna() & (stated != folders)]):
            notes.append(f"{len(other)} patients lie in the folder of another diagnosis (first: {other[0]})")
    return notes


HEHR = DataSet(
    name="hehr",
    title="AML-Cytomorphology_MLL_Helmholtz: four genetic AML entities and non-malignant controls",
    tissue="peripheral blood, 129 patients with AML and 60 healthy donors",
    classes=CLASSES,
    classes_are="diagnosis",
    images=81_214,
    patients=189,
    size="144 x 144",
    image_format="TIFF",
    licence=None,
    citation=(
        "Hehr M, Sadafi A, Matek C, Lienemann P, Pohlkamp C, Haferlach T, Spiekermann K, Marr C. Explainable AI "
        "identifies diagnostic cells of genetic AML subtypes. PLOS Digital Health 2(3):e0000187 (2023)."
    ),
    doi="10.1371/journal.pdig.0000187",
    data_doi="10.7937/6ppe-4020",
    source="https://www.cancerimagingarchive.net/collection/aml-cytomorphology_mll_helmholtz/",
    download=None,
    layout="data/<diagnosis>/<patient>/image_0.tif, metadata.csv beside data/",
    by_hand=(
        "Open https://www.cancerimagingarchive.net/collection/aml-cytomorphology_mll_helmholtz/ and click 'Download' "
        "(needs the IBM Aspera Connect plugin). Keep metadata.csv beside the folder data; where it comes as a "
        "spreadsheet, save its first sheet as metadata.csv."
    ),
    reader=read,
    oddities=("Cells have no labels; the folder says the patient's diagnosis.",),
)
