"""WBCAtt: eleven morphological attributes of Acevedo's white blood cells, by experts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.cells.datasets import acevedo
from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.user_tables import read_table
from cytosae.downloads import RemoteFile
from cytosae.errors import CytosaeError

ATTRIBUTES = (
    "cell_size", "cell_shape", "nucleus_shape", "nuclear_cytoplasmic_ratio", "chromatin_density", "cytoplasm_vacuole",
    "cytoplasm_texture", "cytoplasm_colour", "granule_type", "granule_colour", "granularity",
)  # fmt: skip
_SPLITS = ("train", "val", "test")
_COMMIT = "3121eea24a0977184bbedcb61b90f7a528f7b4e9"

_ANNOTATED = ("BA", "EO", "LY", "MO", "NEUTROPHIL", "BNE", "SNE")
CLASSES = tuple(CellClass(one.code, one.label, one.images) for one in acevedo.CLASSES if one.code in _ANNOTATED)


def _name(split: str) -> str:
    return f"pbc_attr_v1_{split}.csv"


def read(tree: Tree, made: Path) -> Reading:
    """Read ``pbc_attr_v1_{train,val,test}.csv`` and join them to Acevedo's images by file name."""
    tables = {split: paths[0] for split in _SPLITS if (paths := tree.named(_name(split)))}
    if not tables:
        raise CytosaeError(
            f"{tree.roots[0]}: holds none of {', '.join(map(_name, _SPLITS))}. Put WBCAtt's tables and Acevedo's images "
            "into one folder; `cytosae datasets info wbcatt` says where they are."
        )
    attributes = pd.concat([_attributes(path).assign(split=split) for split, path in tables.items()])
    images = acevedo.read(tree, made).cells
    if images.empty:
        raise CytosaeError(
            f"{tree.roots[0]}: holds WBCAtt's tables, but none of the images that they are about. Put Acevedo's images "
            "into the same folder; `cytosae datasets info acevedo` says where they are."
        )
    names = [Path(path).name for path in images["path"]]
    cells = images.assign(img_name=names).merge(attributes, on="img_name", how="inner", validate="many_to_one")
    notes = [f"{_name(split)} is not there" for split in _SPLITS if split not in tables]
    if absent := len(set(attributes["img_name"]) - set(names)):
        notes.append(f"{absent} rows of the tables are about images that are not there")
    if bare := len(set(names) - set(attributes["img_name"])):
        notes.append(f"{bare} of Acevedo's images have no attributes and are not listed")
    used = {*tables.values(), *map(Path, images["path"])}
    return Reading(cells.drop(columns="img_name"), frozenset(used), tuple(notes))


def _attributes(path: Path) -> pd.DataFrame:
    table = read_table(path)
    if missing := [column for column in ("img_name", *ATTRIBUTES) if column not in table]:
        raise CytosaeError(
            f"{path}: has no column {', '.join(missing)}. It has to be a table of WBCAtt; fetch it again."
        )
    return table[["img_name", *ATTRIBUTES]].drop_duplicates("img_name")


WBCATT = DataSet(
    name="wbcatt",
    title="WBCAtt: morphological attributes of Acevedo's white blood cells",
    tissue="peripheral blood, healthy",
    classes=CLASSES,
    images=10_298,
    size="360 x 363 and near",
    image_format="CSV, beside Acevedo's JPEG",
    licence="MIT (attributes); CC BY 4.0 (images)",
    citation=(
        "Tsutsui S, Pang W, Wen B. WBCAtt: a white blood cell dataset annotated with detailed morphological attributes. "
        "NeurIPS Datasets and Benchmarks (2023). Images: Acevedo et al. (2020)."
    ),
    doi="10.48550/arXiv.2306.13531",
    data_doi=None,
    source="https://github.com/apple2373/wbcatt",
    download=None,
    layout="pbc_attr_v1_train.csv, _val.csv and _test.csv, beside PBC_dataset_normal_DIB/",
    by_hand=(
        "Open https://github.com/apple2373/wbcatt, folder submission, and download pbc_attr_v1_train.csv, _val.csv and "
        "_test.csv. " + acevedo.ACEVEDO.by_hand
    ),
    files=(
        *(
            RemoteFile(
                _name(split), f"https://raw.githubusercontent.com/apple2373/wbcatt/{_COMMIT}/submission/{_name(split)}"
            )
            for split in _SPLITS
        ),
        acevedo.IMAGES,
    ),
    reader=read,
    groupings={
        5: {code: acevedo.EIGHT[code] for code in _ANNOTATED},
        7: {one.code: one.label for one in CLASSES},
    },
    default_grouping=5,
    attributes=ATTRIBUTES,
    oddities=("Only Acevedo's neutrophils, eosinophils, basophils, lymphocytes and monocytes have attributes.",),
)
