"""segmentation_WBC: two small sets of white blood cells with masks of nucleus and cytoplasm."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.images import UnreadableImage, decode, read_bytes
from cytosae.cells.user_tables import read_table
from cytosae.downloads import RemoteFile
from cytosae.errors import CytosaeError

# Counts: Class Labels of Dataset 1.csv and of Dataset 2.csv.
CLASSES = (
    CellClass("1", "neutrophil", 209),
    CellClass("2", "lymphocyte", 90),
    CellClass("3", "monocyte", 63),
    CellClass("4", "eosinophil", 34),
    CellClass("5", "basophil", 4),
)
_LABORATORIES = {"1": "Jiangxi Tecom", "2": "CellaVision"}
_FOLDER = re.compile(r"dataset[ _]?([12])")


def read(tree: Tree, made: Path) -> Reading:
    """Read ``Dataset 1/001.bmp`` with its mask ``001.png`` and ``Class Labels of Dataset 1.csv``, and the same of 2."""
    labels, used, notes = _labels(tree)
    masks = {(path.parent, path.stem): path for path in tree.files if path.suffix.lower() == ".png"}
    rows = []
    other_size = []
    for path in tree.files:
        match = _FOLDER.fullmatch(path.parent.name.lower())
        if path.suffix.lower() != ".bmp" or match is None or not path.stem.isdigit():
            continue
        mask = masks.get((path.parent, path.stem))
        if mask is not None and not _same_size(path, mask):
            other_size.append(f"{path.parent.name}/{path.stem}")
            mask = None
        number = match[1]
        code = labels.get((number, int(path.stem)))
        cell = f"Dataset {number}/{path.stem}"
        rows.append((str(path), code, cell, None if mask is None else str(mask), _LABORATORIES[number]))
    if other_size:
        notes.append(
            f"{len(other_size)} masks are of another size than the image and left out: {', '.join(other_size[:5])}"
        )
    cells = pd.DataFrame(rows, columns=["path", "code", "cell_id", "mask", "laboratory"], dtype="object")
    if lacking := int(cells["code"].isna().sum()):
        notes.append(f"{lacking} images have no label")
    return Reading(cells, frozenset(used), tuple(notes))


def _labels(tree: Tree) -> tuple[dict[tuple[str, int], str], set[Path], list[str]]:
    labels: dict[tuple[str, int], str] = {}
    used: set[Path] = set()
    notes = []
    for number in _LABORATORIES:
        name = f"Class Labels of Dataset {number}.csv"
        tables = tree.named(name)
        if not tables:
            notes.append(f"{name} is not there")
            continue
        table = read_table(tables[0])
        try:
            ids, classes = (table.iloc[:, column].astype(int) for column in (0, 1))
        except (ValueError, IndexError) as error:
            raise CytosaeError(f"{tables[0]}: is not a table of image numbers and classes. Fetch it again.") from error
        labels |= {(number, image): str(code) for image, code in zip(ids, classes, strict=True)}
        used.add(tables[0])
    return labels, used, notes


def _same_size(image: Path, mask: Path) -> bool:
    try:
        one, other = (decode(read_bytes(path)) for path in (image, mask))
    except UnreadableImage:  # `cytosae cells` names an image that cannot be read; a mask is of no use without it
        return False
    return one.size == other.size


SEGMENTATION_WBC = DataSet(
    name="segmentation-wbc",
    title="segmentation_WBC: white blood cell images with masks",
    tissue="peripheral blood",
    classes=CLASSES,
    images=400,
    size="120 x 120 (300 images), 300 x 300 (100 images)",
    image_format="BMP, masks PNG",
    licence="GPL-3.0",
    citation=(
        "Zheng X, Wang Y, Wang G, Liu J. Fast and robust segmentation of white blood cell images by self-supervised "
        "learning. Micron 107:55-71 (2018)."
    ),
    doi="10.1016/j.micron.2018.01.010",
    data_doi=None,
    source="https://github.com/zxaoyou/segmentation_WBC",
    download=None,
    layout="Dataset 1/001.bmp and 001.png (mask), Dataset 2/..., Class Labels of Dataset 1.csv and 2.csv beside them",
    by_hand="Open https://github.com/zxaoyou/segmentation_WBC, click 'Code' and 'Download ZIP'.",
    files=(
        RemoteFile(
            "segmentation_WBC-master.zip", "https://github.com/zxaoyou/segmentation_WBC/archive/refs/heads/master.zip"
        ),
    ),
    reader=read,
    oddities=(
        "The labels were added by its authors and not checked by experts.",
        "Images and masks have the same names; .bmp is the image, .png the mask (0, 128 cytoplasm, 255 nucleus).",
        "Some fields were cut out twice, a few pixels apart.",
    ),
)
