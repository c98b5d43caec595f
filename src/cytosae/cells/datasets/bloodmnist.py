"""BloodMNIST: Acevedo's images, cropped and made small, as arrays with a published split."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.folders import is_current, whole_folder
from cytosae.cells.datasets.tree import Tree
from cytosae.console import progress
from cytosae.downloads import RemoteFile
from cytosae.errors import CytosaeError

CLASSES = tuple(
    CellClass(str(number), label)
    for number, label in enumerate(
        (
            "basophil", "eosinophil", "erythroblast", "immature_granulocyte", "lymphocyte", "monocyte", "neutrophil",
            "platelet",
        )
    )
)  # fmt: skip
_SPLITS = ("train", "val", "test")
_FILE = re.compile(r"bloodmnist(?:_(\d+))?\.npz")


def read(tree: Tree, made: Path) -> Reading:
    """Read ``bloodmnist_224.npz`` (or another size; the largest of several), and write its images as PNG.

    The arrays are ``train_images (n, edge, edge, 3)`` and ``train_labels (n, 1)``, and so on for ``val`` and ``test``.
    Images are read one at a time; nothing is unpickled.
    """
    sizes = {path: int(match[1] or 28) for path in tree.files if (match := _FILE.fullmatch(path.name.lower()))}
    if not sizes:
        return Reading(pd.DataFrame(columns=["path", "code", "cell_id", "split"], dtype="object"))
    source = max(sizes, key=lambda path: sizes[path])
    labels = _labels(source)
    if not is_current(made, source):
        _write_images(source, made, {split: len(codes) for split, codes in labels.items()})
    rows = [
        (str(made / split / f"{number:05d}.png"), str(code), f"{split}/{number:05d}", split)
        for split, codes in labels.items()
        for number, code in enumerate(codes)
    ]
    others = sorted(path.name for path in sizes if path != source)
    notes = [f"{source.name} was read; the same images in other sizes: {', '.join(others)}"] if others else []
    if unknown := sorted({row[1] for row in rows} - {one.code for one in CLASSES}):
        notes.append(f"labels that are not published: {', '.join(unknown)}")
    return Reading(
        pd.DataFrame(rows, columns=["path", "code", "cell_id", "split"], dtype="object"),
        frozenset(sizes),
        tuple(notes),
    )


def _labels(path: Path) -> dict[str, NDArray[np.int64]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {split: np.asarray(arrays[f"{split}_labels"]).astype(np.int64).reshape(-1) for split in _SPLITS}
    except KeyError as error:
        raise _not_it(path, f"{error.args[0]}") from error
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise _not_it(path, str(error).splitlines()[0]) from error


def _not_it(path: Path, reason: str) -> CytosaeError:
    return CytosaeError(
        f"{path}: not a file of BloodMNIST ({reason}). It holds images and labels of {', '.join(_SPLITS)}; fetch it "
        "again with `cytosae datasets fetch bloodmnist`."
    )


def _write_images(source: Path, folder: Path, counts: dict[str, int]) -> None:
    total = sum(counts.values())
    with whole_folder(folder, source) as temporary, progress("images", total, "images") as bar:
        done = 0
        for split, count in counts.items():
            (temporary / split).mkdir()
            for number, pixels in enumerate(_images(source, split, count)):
                Image.fromarray(pixels).save(temporary / split / f"{number:05d}.png", compress_level=1)
                done += 1
                bar.to(done)


def _images(source: Path, split: str, count: int) -> Iterator[NDArray[np.uint8]]:
    """Images of one array, without holding all: 12,000 of 224 pixels would take 1.8 GB."""
    try:
        with zipfile.ZipFile(source) as zip_file, zip_file.open(f"{split}_images.npy") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = header(file)
            if dtype != np.uint8 or by_columns or len(shape) != 4 or shape[3] != 3 or shape[0] != count:
                raise _not_it(source, f"{split}_images is {dtype} of shape {shape}, with {count} labels")
            size = int(np.prod(shape[1:]))
            for _ in range(count):
                yield np.frombuffer(_exactly(file, size), dtype=np.uint8).reshape(shape[1:])
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _not_it(source, str(error).splitlines()[0]) from error


def _exactly(file: object, size: int) -> bytes:
    data: bytes = file.read(size)  # type: ignore[attr-defined]
    if len(data) != size:
        raise EOFError("the array ends too early")
    return data


def _remote(name: str, md5: str) -> RemoteFile:
    return RemoteFile(name, f"https://zenodo.org/records/10519652/files/{name}?download=1", f"md5:{md5}")


BLOODMNIST = DataSet(
    name="bloodmnist",
    title="BloodMNIST of MedMNIST+",
    tissue="peripheral blood, healthy",
    classes=CLASSES,
    images=17_092,
    size="28, 64, 128 or 224",
    image_format="arrays in an npz; written as PNG",
    licence="CC BY 4.0",
    citation=(
        "Yang J, Shi R, Wei D, Liu Z, Zhao L, Ke B, Pfister H, Ni B. MedMNIST v2 - a large-scale lightweight benchmark "
        "for 2D and 3D biomedical image classification. Scientific Data 10:41 (2023). Images: Acevedo et al. (2020)."
    ),
    doi="10.1038/s41597-022-01721-8",
    data_doi="10.5281/zenodo.10519652",
    source="https://zenodo.org/records/10519652",
    download=None,
    layout="bloodmnist_224.npz, bloodmnist_128.npz, bloodmnist_64.npz or bloodmnist.npz (28 pixels)",
    by_hand="Open https://zenodo.org/records/10519652 and download bloodmnist_224.npz.",
    files=(
        _remote("bloodmnist.npz", "7053d0359d879ad8a5505303e11de1dc"),
        _remote("bloodmnist_64.npz", "2b94928a2ae4916078ca51e05b6b800b"),
        _remote("bloodmnist_128.npz", "adace1e0ed228fccda1f39692059dd4c"),
        _remote("bloodmnist_224.npz", "b718ff6835fcbdb22ba9eacccd7b2601"),
    ),
    fetched="bloodmnist_224.npz",
    reader=read,
    oddities=(
        "The images are Acevedo's, cropped to 200 x 200: never put both into one study.",
        "Split as published: 11,959 train, 1,712 val, 3,421 test.",
    ),
)
