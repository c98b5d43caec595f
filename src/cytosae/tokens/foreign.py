"""Tokens that other programs have written: shards of saev, ``.npy`` arrays, HDF5 files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.artefacts import digest, parse_json, reading_hdf5
from cytosae.errors import CytosaeError, in_short

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
DATASET = "features"
"""Name of the features in an HDF5 file, as CLAM and its kin write it."""

# Names of the same thing in saev's metadata.json, newest first: protocols 2.1, 2.0, 1.0 and before there was one.
_PATCHES = ("content_tokens_per_example", "patches_per_ex", "n_patches_per_img")
_WIDTH = ("d_model", "d_vit")
_EXAMPLES = ("n_examples", "n_ex", "n_imgs")
_BUDGET = ("max_tokens_per_shard", "max_patches_per_shard", "patches_per_shard", "n_patches_per_shard")
_FAMILY, _CHECKPOINT = ("family", "vit_family"), ("ckpt", "vit_ckpt")


@dataclass(frozen=True)
class Foreign:
    """Tokens in a file or folder of another program, opened for reading."""

    path: Path
    n_cells: int
    n_tokens: int
    """Of a cell, as stored: with or without CLS."""
    d_model: int
    read: Callable[[int, int], NDArray[Any]]
    """Rows from, up to; ``(n_rows, n_tokens, d_model)``, floating point."""
    files: tuple[Path, ...]
    """All that the tokens depend on."""
    has_cls: bool | None = None
    """Whether token 0 is CLS; None where the file does not say."""
    made_by: str | None = None
    """The model that made them, where the file says it."""
    layer: int | None = None
    """The block after which they were taken, in the count of the program; None where the file does not say."""

    def stamp(self) -> str:
        """Digest of names, sizes and times of all files: differs when one of them was written again."""
        stats = [(path.name, path.stat()) for path in self.files]
        return digest([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


def open_foreign(path: Path, layer: int | None = None) -> Foreign:
    """Open tokens of another program; nothing is read but their description.

    Parameters
    ----------
    path
        A folder of saev (``metadata.json`` and ``acts000000.bin`` and so on), an array ``.npy`` or an HDF5 file with a
        data set ``features``: ``(n_cells, n_tokens, d_model)``, or ``(n_cells, d_model)`` with one vector for a cell. Or a
        folder of such HDF5 files, a bag of cells for each patient, read one after the other by name.
    layer
        Of several that saev has stored, the one to take, named as in its ``metadata.json``.

    Raises
    ------
    CytosaeError
        None of these, of another shape or type, cut short, or without that layer.
    """
    if (path / "metadata.json").is_file():
        return _saev(path, layer)
    if path.is_dir() and (bags := bag_files(path)):
        return _bags(path, bags)
    if path.suffix == ".npy" and path.is_file():
        return _npy(path)
    if path.suffix in HDF5_SUFFIXES and path.is_file():
        return _hdf5(path)
    problem = "no such file or folder" if not path.exists() else "not tokens of a known kind"
    raise CytosaeError(
        f"{path}: {problem}. Expected a folder of saev with metadata.json, a .npy file, HDF5 "
        f"({', '.join(HDF5_SUFFIXES)}) with a data set {DATASET!r}, or a folder of such files."
    )


def _npy(path: Path) -> Foreign:
    def mapped() -> NDArray[Any]:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CytosaeError(f"{path}: not a .npy array of numbers, or cut short ({error}).") from error

    shape = _shape(mapped().shape, mapped().dtype, path)
    return Foreign(path, *shape, partial(_rows, mapped, shape), (path,))


def _rows(mapped: Callable[[], NDArray[Any]], shape: tuple[int, int, int], start: int, stop: int) -> NDArray[Any]:
    # Mapped anew for every batch, so that pages that were read do not stay in memory.
    return np.array(mapped()[start:stop]).reshape(stop - start, *shape[1:])


def _hdf5(path: Path) -> Foreign:
    import h5py

    kind, again = "an HDF5 file, or cut short", "Copy or make it again."

    def read(start: int, stop: int) -> NDArray[Any]:
        with reading_hdf5(path, again, kind=kind), h5py.File(path) as file:
            rows: NDArray[Any] = file[DATASET][start:stop]
        return rows.reshape(stop - start, *shape[1:])

    with reading_hdf5(path, again, kind=kind), h5py.File(path) as file:
        if not isinstance(file.get(DATASET), h5py.Dataset):
            raise CytosaeError(f"{path}: has no data set {DATASET!r}; it has {', '.join(file) or 'none'}.")
        shape = _shape(file[DATASET].shape, file[DATASET].dtype, path)
    return Foreign(path, *shape, read, (path,))


def bag_files(folder: Path) -> list[Path]:
    """The HDF5 files of a folder, a bag of cells for each patient, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in HDF5_SUFFIXES)


def _bags(folder: Path, files: Sequence[Path]) -> Foreign:
    """Bags of cells, a file for each patient, as CLAM, TRIDENT and GenBloom write them; opened one at a time."""
    bags = [_hdf5(path) for path in files]
    first = bags[0]
    for bag in bags:
        if (bag.n_tokens, bag.d_model) != (first.n_tokens, first.d_model):
            raise CytosaeError(
                f"{bag.path}: holds {bag.n_tokens} tokens of {bag.d_model} numbers for a cell, {first.path.name} "
                f"{first.n_tokens} of {first.d_model}. All bags have to be of one model."
            )
    starts = np.concatenate([[0], np.cumsum([bag.n_cells for bag in bags])])

    def read(start: int, stop: int) -> NDArray[Any]:
        inside = [
            bag.read(max(start, begin) - begin, min(stop, end) - begin)
            for bag, begin, end in zip(bags, starts[:-1], starts[1:], strict=True)
            if begin < stop and start < end
        ]
        return np.concatenate([np.asarray(one, np.float32) for one in inside])

    return Foreign(folder, int(starts[-1]), first.n_tokens, first.d_model, read, tuple(files))


def _shape(shape: Sequence[int], dtype: np.dtype[Any], path: Path) -> tuple[int, int, int]:
    """Cells, tokens and width of an array."""
    if dtype.kind != "f":
        raise CytosaeError(f"{path}: holds {dtype}; expected floating-point numbers (float16, float32 or float64).")
    if len(shape) not in {2, 3} or 0 in shape[1:]:
        raise CytosaeError(
            f"{path}: holds an array of shape {tuple(shape)}; expected (n_cells, n_tokens, d_model), or (n_cells, "
            "d_model)."
        )
    return int(shape[0]), int(shape[1]) if len(shape) == 3 else 1, int(shape[-1])


def _saev(folder: Path, layer: int | None) -> Foreign:
    """Shards of saev (OSU-NLP-Group/saev, ``docs/src/developers/protocol.md``).

    ``acts000000.bin`` and so on are plain little-endian float32 arrays ``(n_rows, n_layers, n_tokens, d_model)``, CLS first
    where it was kept. The last has room for as many rows as the others; how many are filled is in ``shards.json``, which the
    first versions did not write.
    """
    about = _object(folder / "metadata.json")
    layers, has_cls = about.get("layers"), about.get("cls_token")
    patches, width, examples, budget = (
        _number(about, names, folder) for names in (_PATCHES, _WIDTH, _EXAMPLES, _BUDGET)
    )
    if not isinstance(layers, list) or not layers or not isinstance(has_cls, bool):
        raise CytosaeError(f"{folder}/metadata.json: layers is {layers!r} and cls_token {has_cls!r}; is it saev's?")
    if (dtype := about.get("dtype", "float32")) != "float32":
        raise CytosaeError(f"{folder}/metadata.json: tokens are stored as {dtype!r}; expected 'float32'.")
    if layer is None and len(layers) > 1:
        raise CytosaeError(f"{folder}: holds layers {', '.join(map(str, layers))}. Choose one with --layer.")
    chosen = layers[0] if layer is None else layer
    if chosen not in layers:
        raise CytosaeError(f"--layer {layer}: {folder} holds {', '.join(map(str, layers))}, counted as saev does.")
    n_tokens = patches + has_cls
    full = budget // (n_tokens * len(layers))
    filled = _filled(folder, examples, full)
    row_shape = (len(layers), n_tokens, width)
    shards = [folder / name for name, _ in filled]
    for path, (_, rows) in zip(shards, filled, strict=True):
        needed = rows * math.prod(row_shape) * 4
        size = path.stat().st_size if path.is_file() else None
        if size is None or size < needed:
            raise CytosaeError(
                f"{path}: {'is missing' if size is None else f'has {size:,} bytes, cut short'}; {rows:,} rows of "
                f"{' x '.join(map(str, row_shape))} float32 need {needed:,}."
            )
    starts = np.concatenate([[0], np.cumsum([rows for _, rows in filled])])

    def read(start: int, stop: int) -> NDArray[Any]:
        chunks = []
        for path, first, last in zip(shards, starts[:-1], starts[1:], strict=True):
            begin, end = max(start, first) - first, min(stop, last) - first
            if begin < end:
                mapped = np.memmap(path, dtype="<f4", mode="r", shape=(int(last - first), *row_shape))
                chunks.append(np.array(mapped[begin:end, layers.index(chosen)]))
        return np.concatenate(chunks)

    model = " ".join(
        str(next((about[name] for name in names if name in about), "")) for names in (_FAMILY, _CHECKPOINT)
    )
    listed = [path for path in (folder / "metadata.json", folder / "shards.json") if path.is_file()]
    return Foreign(
        folder, examples, n_tokens, width, read, (*listed, *shards), has_cls, model.strip() or None, int(chosen)
    )


def _filled(folder: Path, examples: int, full: int) -> list[tuple[str, int]]:
    """Name of each shard and the rows that are filled."""
    if full < 1:
        raise CytosaeError(f"{folder}/metadata.json: a shard holds no whole image; the file is damaged.")
    listing = folder / "shards.json"
    if not listing.is_file():
        return [(f"acts{i:06}.bin", min(full, examples - i * full)) for i in range(-(-examples // full))]
    try:
        entries = parse_json(listing.read_text(encoding="utf-8"))
        filled = [(str(one["name"]), int(next(one[name] for name in _EXAMPLES if name in one))) for one in entries]
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise CytosaeError(f"{listing}: not a list of saev's shards ({in_short(error)}).") from error
    if strange := [name for name, _ in filled if Path(name).name != name]:
        raise CytosaeError(f"{listing}: {strange[0]!r} is no file of {folder}.")
    if (written := sum(rows for _, rows in filled)) != examples:
        raise CytosaeError(
            f"{folder}: its shards hold {written:,} images, its metadata.json says {examples:,}. Was saev stopped "
            "before it was finished? Run it again."
        )
    return [(name, rows) for name, rows in filled if rows]


def _object(path: Path) -> dict[str, Any]:
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CytosaeError(f"{path}: not a JSON file ({error}).") from error
    if not isinstance(document, dict):
        raise CytosaeError(f"{path}: holds a {type(document).__name__}; expected the description that saev writes.")
    return document


def _number(about: dict[str, Any], names: tuple[str, ...], folder: Path) -> int:
    value = next((about[name] for name in names if name in about), None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CytosaeError(f"{folder}/metadata.json: {names[0]} is {value!r}; expected a number, as saev writes it.")
    return value
