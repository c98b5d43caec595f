"""BCCD: fields of a blood smear with boxes; the boxes of white cells are cut out."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from PIL import Image

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.folders import whole_folder
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.images import UnreadableImage, decode, read_bytes
from cytosae.cells.user_tables import read_table
from cytosae.downloads import RemoteFile

CLASSES = tuple(
    CellClass(label.upper(), label) for label in ("neutrophil", "eosinophil", "lymphocyte", "monocyte", "basophil")
)
_MARGIN = 1.3  # edge of the crop over the longer edge of the box
_SPLITS = ("train", "val", "test")

Box = tuple[int, int, int, int]


def read(tree: Tree, made: Path) -> Reading:
    """Read ``Annotations/*.xml`` (VOC), cut every box named WBC out of ``JPEGImages``, and join ``labels.csv`` if there.

    A crop is a square of 1.3 times the longer edge of the box around its centre, as far as the image goes, as PNG.
    ``labels.csv`` (of the Kaggle copy) names the white cells of an image, not of a box: a crop has a label where all
    names are one and there is one box, or as many names as boxes.
    """
    fields = {path.stem: path for path in tree.images() if path.parent.name.lower() == "jpegimages"}
    boxes = {path.stem: path for path in tree.files if path.suffix.lower() == ".xml" and path.stem in fields}
    categories, tables, notes = _categories(tree)
    splits = _splits(tree, tables)
    rows = []
    if boxes:
        with whole_folder(made, min(boxes.values())) as temporary:
            for name in sorted(boxes):
                try:
                    cell_boxes = _white_cells(boxes[name])
                    crops = _crops(fields[name], cell_boxes)
                except (UnreadableImage, ElementTree.ParseError, ValueError) as error:
                    notes.append(f"{name} is left out: {error}")
                    continue
                category = categories.get(_number(name))
                for index, crop in enumerate(crops):
                    crop.save(temporary / f"{name}_{index}.png")
                    code = _code(category, len(crops))
                    path = str(made / f"{name}_{index}.png")
                    rows.append((path, code, f"{name}_{index}", splits.get(name), category))
    columns = ["path", "code", "cell_id", "split", "image_category"]
    used = frozenset({*boxes.values(), *(fields[name] for name in boxes), *tables})
    return Reading(pd.DataFrame(rows, columns=columns, dtype="object"), used, tuple(notes))


def _white_cells(path: Path) -> list[Box]:
    data = read_bytes(path)
    if b"<!DOCTYPE" in data:  # nothing published needs it, and entities can be made to explode
        raise ValueError(f"{path.name} declares a document type")
    cell_boxes = []
    for one in ElementTree.fromstring(data).iter("object"):
        if (one.findtext("name") or "").strip().upper() == "WBC":
            left, top, right, bottom = (
                int(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if left >= right or top >= bottom:
                raise ValueError(f"{path.name} has an empty box")
            cell_boxes.append((left, top, right, bottom))
    return cell_boxes


def _crops(path: Path, boxes: list[Box]) -> list[Image.Image]:
    if not boxes:
        return []
    image = decode(read_bytes(path))
    crops = []
    for left, top, right, bottom in boxes:
        half = _MARGIN * max(right - left, bottom - top) / 2
        x, y = (left + right) / 2, (top + bottom) / 2
        square = (max(0, round(x - half)), max(0, round(y - half)))
        end = (min(image.width, round(x + half)), min(image.height, round(y + half)))
        if square[0] >= end[0] or square[1] >= end[1]:
            raise ValueError(f"a box lies outside of {path.name}")
        crops.append(image.crop((*square, *end)))
    return crops


def _number(name: str) -> str:
    return name.rsplit("_", 1)[-1].lstrip("0") or "0"


def _categories(tree: Tree) -> tuple[dict[str, str], set[Path], list[str]]:
    """Names of the white cells of each image by its number, as they stand in labels.csv."""
    tables = tree.named("labels.csv")
    if not tables:
        return {}, set(), ["labels.csv is not there: white cells without their kinds"]
    table = read_table(tables[0])
    if not {"Image", "Category"} <= set(table.columns):
        return {}, set(), [f"{tables[0].name} has no columns 'Image' and 'Category': white cells without their kinds"]
    table = table.dropna(subset=["Image", "Category"])
    numbers = table["Image"].astype(str).str.removesuffix(".0")
    return dict(zip(numbers, table["Category"].astype(str), strict=True)), {tables[0]}, []


def _code(category: str | None, boxes: int) -> str | None:
    names = [name.strip().upper() for name in (category or "").split(",") if name.strip()]
    certain = len(set(names)) == 1 and (boxes == 1 or len(names) == boxes)
    return names[0] if certain else None


def _splits(tree: Tree, used: set[Path]) -> dict[str, str]:
    """Published split of each image; adds the files that say so to `used`."""
    split_by_image: dict[str, str] = {}
    for path in tree.files:
        if path.suffix.lower() == ".txt" and path.parent.name.lower() == "main":
            used.add(path)
            if path.stem.lower() in _SPLITS:
                split_by_image |= dict.fromkeys(
                    path.read_text(encoding="utf-8", errors="replace").split(), path.stem.lower()
                )
    return split_by_image


BCCD = DataSet(
    name="bccd",
    title="BCCD: blood cell count and detection",
    tissue="peripheral blood",
    classes=CLASSES,
    images=None,
    size="fields of 640 x 480; crops of various sizes",
    image_format="JPEG; crops written as PNG",
    licence="MIT",
    citation="Shenggan. BCCD Dataset (2017), https://github.com/Shenggan/BCCD_Dataset.",
    doi=None,
    data_doi=None,
    source="https://github.com/Shenggan/BCCD_Dataset",
    download="8 MB",
    layout="BCCD/JPEGImages/BloodImage_00000.jpg, BCCD/Annotations/BloodImage_00000.xml, BCCD/ImageSets/Main/train.txt",
    by_hand=(
        "Open https://github.com/Shenggan/BCCD_Dataset, click 'Code' and 'Download ZIP'. For the kinds of the white "
        "cells put labels.csv of https://www.kaggle.com/datasets/paultimothymooney/blood-cells (dataset-master) into the "
        "same folder."
    ),
    files=(
        RemoteFile(
            "BCCD_Dataset-1.0.zip",
            "https://github.com/Shenggan/BCCD_Dataset/archive/v1.0.zip",
            "sha256:97af5cc16d14d293fcb3c82a8f66e49b0339a8d0abd8e9508e0feeb4911caa1f",
            7_875_205,
        ),
    ),
    reader=read,
    oddities=(
        "364 fields; only boxes named WBC are cells here, and they have no kind but in labels.csv of the Kaggle copy.",
        "labels.csv is about images: where one holds different white cells, its crops have no label.",
    ),
)
