"""A cohort of synthetic patients: who has which diagnosis, what their blood shows, and the files of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytosae.artefacts import PARTIAL, foreign, parse_json
from cytosae.errors import CytosaeError
from cytosae.synthetic.concepts import has_concept
from cytosae.synthetic.laboratory import LABORATORIES, REFERENCE, Laboratory
from cytosae.synthetic.profiles import DIAGNOSES, PROFILES, drawn_profile
from cytosae.synthetic.recipes import CELL_TYPES
from cytosae.synthetic.render import RENDERER_VERSION, render_cell

TABLE_COLUMNS = (
    "cell_id",
    "path",
    "dataset",
    "label",
    "patient",
    "diagnosis",
    "laboratory",
    "mask",
    "concepts",
)
"""Columns of the table of a cohort."""

_RECORD = "synthetic.json"


@dataclass(frozen=True)
class CohortSpec:
    """What to render."""

    patients: int = 60
    """Number of patients; diagnoses take turns."""
    cells: int = 40
    """Mean number of cells per patient."""
    seed: int = 0
    """The same seed gives the same files."""
    laboratories: int = 3
    """Number of laboratories, 1 to 4; balanced over the diagnoses."""
    shift: float = 1.0
    """How far the laboratories differ: 0 not at all, 1 as in `LABORATORIES`, 2 twice as far."""

    def __post_init__(self) -> None:
        most = 1 + len(LABORATORIES)
        for name, low, high in (
            ("patients", 1, 100_000),
            ("cells", 1, 100_000),
            ("seed", 0, 2**63 - 1),
            ("laboratories", 1, most),
            ("shift", 0, 2),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise CytosaeError(f"synthetic cohort: {name} is {value}; expected a value from {low} to {high}.")

    @classmethod
    def parse(cls, text: str) -> CohortSpec:
        """Read a specification such as ``patients=60,cells=40,seed=0``; what is left out keeps its default.

        Raises
        ------
        CytosaeError
            An unknown or repeated key, or a value that is no number or out of range.
        """
        kinds: dict[str, type] = {f.name: type(f.default) for f in fields(cls)}
        values: dict[str, int | float] = {}
        for item in filter(None, (entry.strip() for entry in text.split(","))):
            key, _, value = (field.strip() for field in item.partition("="))
            if key not in kinds:
                raise CytosaeError(
                    f"synthetic cohort: unknown key {key!r} in {text!r}; known keys: {', '.join(kinds)}. "
                    "Write it as in patients=60,cells=40,seed=0."
                )
            if key in values:
                raise CytosaeError(f"synthetic cohort: {key} is given twice in {text!r}.")
            try:
                values[key] = kinds[key](value)
            except ValueError:
                kind = "a whole number" if kinds[key] is int else "a number"
                raise CytosaeError(f"synthetic cohort: {key} is {value!r}; expected {kind}.") from None
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Patient:
    """One patient as drawn."""

    name: str
    """Identifier, such as ``P007``."""
    diagnosis: str
    """One of `DIAGNOSES`."""
    laboratory: Laboratory
    """Where the slide was stained and photographed."""
    n_cells: int
    """Number of cells on record."""
    fractions: NDArray[np.float64]
    """Share of each of `CELL_TYPES` in this patient's blood, shape (n_types,)."""
    rates: Mapping[str, Mapping[str, float]]
    """Cell type -> optional concept -> rate in this patient."""


def draw_patient(spec: CohortSpec, index: int) -> Patient:
    """Patient number `index`; depends on the seed and the index, not on how many patients there are."""
    diagnosis = DIAGNOSES[index % len(DIAGNOSES)]
    # A Latin square of diagnosis and laboratory, so that neither tells anything of the other.
    laboratory = _laboratories(spec)[(index // len(DIAGNOSES) + index % len(DIAGNOSES)) % spec.laboratories]
    rng = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(index,)))
    n_cells = round(spec.cells * float(rng.gamma(8.0) / 8.0))
    fractions, rates = drawn_profile(PROFILES[diagnosis], rng)
    low = max(1, round(0.4 * spec.cells))
    return Patient(f"P{index:03d}", diagnosis, laboratory, max(low, n_cells), fractions, rates)


def _laboratories(spec: CohortSpec) -> tuple[Laboratory, ...]:
    others = tuple(REFERENCE.toward(other, spec.shift) for other in LABORATORIES)
    return (REFERENCE, *others)[: spec.laboratories]


def _cell_generator(spec: CohortSpec, patient: int, cell: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(patient, cell)))


def write_cohort(spec: CohortSpec, folder: Path, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Render a cohort into a folder.

    Writes ``images/<patient>/<cell>.jpg``, ``masks/<patient>/<cell>.png`` (8 bit: 0 background, 128 cytoplasm,
    255 nucleus) and ``concepts/<patient>/<cell>.png`` (see `read_concept_masks`). A cell whose three files are
    there is not rendered again, so that an interrupted run can simply be repeated.

    Parameters
    ----------
    spec
        What to render.
    folder
        Is made where it is missing.
    progress
        Called with the number of cells finished and the number of all.

    Returns
    -------
    One row per cell with `TABLE_COLUMNS`; paths are relative to `folder`, with forward slashes.

    Raises
    ------
    CytosaeError
        The folder holds another synthetic cohort, or cannot be written to.
    """
    try:
        _claim(spec, folder)
        return _write(spec, folder, progress)
    except OSError as error:
        raise CytosaeError(f"{folder}: cannot write the synthetic cohort ({error}).") from error


def _write(spec: CohortSpec, folder: Path, progress: Callable[[int, int], None] | None) -> pd.DataFrame:
    patients = [draw_patient(spec, index) for index in range(spec.patients)]
    total = sum(patient.n_cells for patient in patients)
    rows: list[tuple[str, ...]] = []
    for index, patient in enumerate(patients):
        for kind in ("images", "masks", "concepts"):
            (folder / kind / patient.name).mkdir(parents=True, exist_ok=True)
        for cell in range(patient.n_cells):
            rng = _cell_generator(spec, index, cell)
            cell_type = CELL_TYPES[int(rng.choice(len(CELL_TYPES), p=patient.fractions))]
            stem = f"{patient.name}/{cell:04d}"
            paths = f"images/{stem}.jpg", f"masks/{stem}.png", f"concepts/{stem}.png"
            if not all((folder / path).exists() for path in paths):
                image, masks = render_cell(
                    cell_type, rng, laboratory=patient.laboratory, traits=patient.rates.get(cell_type)
                )
                _write_whole(folder / paths[0], _jpeg(image, patient.laboratory))
                _write_whole(folder / paths[1], _png(segmentation(masks)))
                _write_whole(folder / paths[2], _png(_packed(masks)))
            rows.append(
                (
                    f"synthetic-{spec.seed}-{patient.name}-{cell:04d}",
                    paths[0],
                    "synthetic",
                    cell_type,
                    patient.name,
                    patient.diagnosis,
                    patient.laboratory.name,
                    paths[1],
                    paths[2],
                )
            )
            if progress is not None:
                progress(len(rows), total)
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


def _claim(spec: CohortSpec, folder: Path) -> None:
    """Record what the folder holds; refuse one that holds something else, which would be mixed in unnoticed."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"renderer": RENDERER_VERSION, **asdict(spec)}
    path = folder / _RECORD
    if path.exists():
        try:
            existing = parse_json(path.read_text(encoding="utf-8"))
        except ValueError:
            existing = None
        if existing != record:
            raise CytosaeError(
                f"{folder} holds another synthetic cohort: {path.name} says {existing}, expected {record}. "
                "Choose another folder or remove this one."
            )
        return
    for index in range(spec.patients):
        for kind in ("images", "masks", "concepts"):
            if (taken := folder / kind / draw_patient(spec, index).name).exists():
                raise foreign(taken, "cells")
    _write_whole(path, (json.dumps(record, indent=2) + "\n").encode())


def is_cohort_table(path: Path) -> bool:
    """Whether a file is the table of a cohort that was drawn beside it."""
    with path.open(encoding="utf-8") as file:
        return (path.parent / _RECORD).is_file() and file.readline().strip() == ",".join(TABLE_COLUMNS)


def segmentation(masks: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Bit fields as grey values: 0 background (red cells, platelets included), 128 cytoplasm, 255 nucleus."""
    grey = np.where(has_concept(masks, "cytoplasm"), 128, 0)
    return np.where(has_concept(masks, "nucleus"), 255, grey).astype(np.uint8)


def _packed(masks: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The lowest 24 bits as three bytes, lowest first: shape (..., 3)."""
    if masks.max(initial=0) >= 1 << 24:
        raise ValueError("a bit field of more than 24 concepts does not fit into an RGB image")
    return np.ascontiguousarray(masks.astype("<u4")[..., None].view(np.uint8)[..., :3])


def read_concept_masks(path: str | Path) -> NDArray[np.uint32]:
    """Bit field of a cell from its file in ``concepts/``.

    The file is an RGB PNG: red holds bits 0 to 7, green 8 to 15, blue 16 to 23.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    uint32, shape (height, width); bit ``b`` stands for ``CONCEPTS[b]``.

    Raises
    ------
    CytosaeError
        The file cannot be read or is not an RGB image.
    """
    try:
        with Image.open(path) as image:
            if image.mode != "RGB":
                raise CytosaeError(f"{path}: concept masks are RGB PNG files; found mode {image.mode}.")
            channels = np.asarray(image).astype(np.uint32)
    except OSError as error:
        raise CytosaeError(f"{path}: cannot be read as concept masks ({error}).") from error
    shifted = [channels[..., band] << np.uint32(8 * band) for band in range(3)]
    return np.bitwise_or.reduce(shifted, dtype=np.uint32)


def _jpeg(image: NDArray[np.uint8], laboratory: Laboratory) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=laboratory.jpeg_quality, subsampling=laboratory.jpeg_subsampling
    )
    return buffer.getvalue()


def _png(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _write_whole(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: a file under its own name is whole."""
    temporary = path.with_name(f".{path.name}{PARTIAL}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


disease_concepts: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {diagnosis: profile.marked_by for diagnosis, profile in PROFILES.items()}
)
"""Diagnosis -> planted concepts that it shows in a larger share of cells than the other diagnoses do."""
