"""Miniatures of published data sets, in their published layouts."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cytosae.cells import read_source
from support import commands

RNG = np.random.default_rng(0)
ask, refused = partial(commands.ask, "datasets"), partial(commands.refused, "datasets")
"""The commands of published data sets."""


def picture(path: Path, edge: int = 24, mode: str = "RGB") -> Path:
    """Write a small image with noise in the format that the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(mode)
    pixels = RNG.integers(0, 255, (edge, edge, channels), dtype=np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = 255
    Image.fromarray(pixels, mode=None if channels > 1 else "L").save(path)
    return path


def odd_files(folder: Path) -> int:
    """What lies in unpacked archives besides images; how many files it is."""
    (folder / "__MACOSX" / "x").mkdir(parents=True)
    (folder / "__MACOSX" / "x" / "._a.jpg").write_bytes(b"resource fork")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "._x.jpg").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("do not read")
    return 5


def table(folder: Path) -> pd.DataFrame:
    """The table that was written, as the project reads it; every file of it is there."""
    cells = read_source(folder / "cells.csv")
    assert all(Path(path).is_file() for path in cells["path"])
    assert all(Path(path).is_file() for path in cells["mask"].dropna())
    assert cells["cell_id"].is_unique
    return cells


def images_by_code(summary: dict[str, Any]) -> dict[str, int]:
    """Images by published code, without those of none."""
    return {one["code"]: one["found"] for one in summary["classes"] if one["found"]}


def mll23(folder: Path) -> Path:
    for code in ("basophil", "myeloblast", "normoblast", "neutrophil_band"):
        for number in (1, 2):
            picture(folder / code / f"{code}_{number:04d}.TIF", edge=288 // 12)
    return folder


PBC = {
    "neutrophil": ("BNE_1", "SNE_22", "NEUTROPHIL_3"),
    "ig": ("MMY_4", "MY_5", "PMY_6", "IG_7"),
    "basophil": ("BA_8", "BA_9"),
    "eosinophil": ("EO_10",),
    "lymphocyte": ("LY_11",),
    "monocyte": ("MO_12",),
    "erythroblast": ("ERB_13",),
    "platelet": ("PLATELET_14",),
}


def acevedo(folder: Path) -> Path:
    for name, stems in PBC.items():
        for stem in stems:
            picture(folder / "PBC_dataset_normal_DIB" / name / f"{stem}.jpg", edge=36)
    return folder


# Boxes of BCCD's published annotations, and what their crops among the project's real cells measure.
BOXES = {
    "BloodImage_00000": [(260, 177, 491, 376)],
    "BloodImage_00001": [(68, 315, 286, 480)],
    "BloodImage_00002": [(283, 1, 567, 106)],
    "BloodImage_00010": [(23, 229, 204, 421), (239, 253, 510, 470)],
    "BloodImage_00103": [(9, 9, 60, 60)],
}


def voc(name: str, boxes: list[tuple[int, int, int, int]]) -> str:
    objects = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for kind, (a, b, c, d) in [("RBC", (1, 1, 90, 90)), *(("WBC", box) for box in boxes)]
    )
    return f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"


def bccd(folder: Path) -> Path:
    for sub in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / "BCCD" / sub).mkdir(parents=True)
    rows, columns = np.mgrid[:480, :640]
    field = Image.fromarray(np.stack([columns % 256, rows % 256, rows * 0], -1).astype(np.uint8))
    for name, boxes in BOXES.items():
        field.save(folder / "BCCD" / "JPEGImages" / f"{name}.jpg", quality=95)
        (folder / "BCCD" / "Annotations" / f"{name}.xml").write_text(voc(name, boxes))
    (folder / "BCCD" / "ImageSets" / "Main" / "train.txt").write_text("BloodImage_00000\nBloodImage_00001\n")
    (folder / "BCCD" / "ImageSets" / "Main" / "trainval.txt").write_text("BloodImage_00000\n")
    return folder


def zipped(folder: Path, target: Path, root: Path | None = None) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root or folder))
    return target
