"""The contact sheet of the documentation: synthetic cells beside real ones, and planted structures outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation

from cytosae.synthetic.concepts import has_concept
from cytosae.synthetic.laboratory import LABORATORIES, REFERENCE, Laboratory
from cytosae.synthetic.recipes import CELL_TYPES, TRAIT_RATES
from cytosae.synthetic.render import render_cell

PLANTED: tuple[tuple[str, str], ...] = (
    ("eosinophilic_granules", "eosinophil"),
    ("basophilic_granules", "eosinophil"),
    ("azurophilic_granules", "promyelocyte"),
    ("auer_rod", "blast"),
    ("faggot", "promyelocyte"),
    ("vacuoles", "monocyte"),
    ("nuclear_lobes", "promyelocyte"),
    ("nuclear_indentation", "monocyte"),
    ("nuclear_indentation", "blast"),
    ("nucleoli", "blast"),
    ("open_chromatin", "blast"),
    ("dense_chromatin", "lymphocyte"),
    ("perinuclear_halo", "blast"),
    ("cytoplasmic_basophilia", "blast"),
    ("hypogranulation", "segmented_neutrophil"),
    ("platelet", "platelet"),
)
"""Concept and cell type of each outlined example."""

_OUTLINE = (0, 255, 90)
_EDGE = 132  # px of a cell on the sheet
_TEXT = 17  # px of a line of text
_COLUMNS = 8


def contact_sheet(real: Mapping[str, Sequence[Path]] | None = None, seed: int = 0) -> Image.Image:
    """Draw the sheet.

    Parameters
    ----------
    real
        Cell type -> image files of real cells; up to four of each are shown in the right half of its row.
    seed
        Of the synthetic cells.

    Returns
    -------
    RGB image, 8 cells wide.
    """
    half = _COLUMNS // 2
    pair_rows = -(-len(PLANTED) // half)
    styles = (REFERENCE, *LABORATORIES)
    row = _EDGE + _TEXT
    sheet = Image.new("RGB", (_COLUMNS * _EDGE, (len(CELL_TYPES) + pair_rows + 1) * row), "white")
    for line, cell_type in enumerate(CELL_TYPES):
        _label(sheet, 0, line, f"{_words(cell_type)}: synthetic")
        for column in range(half):
            image, _ = _example(seed, line, column, cell_type, REFERENCE)
            _paste(sheet, column, line, Image.fromarray(image))
        files = list((real or {}).get(cell_type, ()))[:half]
        _label(sheet, half, line, "real" if files else "")
        for column, file in enumerate(files):
            with Image.open(file) as source:
                _paste(sheet, half + column, line, source.convert("RGB"))
    for index, (concept, cell_type) in enumerate(PLANTED):
        line, column = len(CELL_TYPES) + index // half, 2 * (index % half)
        image, masks = _example(seed, 50 + index, 0, cell_type, REFERENCE, concept)
        _label(sheet, column, line, f"{_words(concept)} ({_words(cell_type)})")
        _paste(sheet, column, line, Image.fromarray(image))
        _paste(sheet, column + 1, line, Image.fromarray(outlined(image, has_concept(masks, concept))))
    line = len(CELL_TYPES) + pair_rows
    for column in range(_COLUMNS):
        style = styles[column // 2]
        if column % 2 == 0:
            _label(sheet, column, line, f"laboratory: {style.name}")
        image, _ = _example(seed, 90, column % 2, ("eosinophil", "monocyte")[column % 2], style)
        _paste(sheet, column, line, Image.fromarray(image))
    return sheet


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Copy of an image with the outline of a mask drawn just outside of it.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3).
    mask
        Boolean, shape (height, width).
    """
    marked = image.copy()
    marked[binary_dilation(mask, iterations=1) & ~mask] = _OUTLINE
    return marked


def _example(
    seed: int, line: int, column: int, cell_type: str, style: Laboratory, concept: str | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(line, column)))
    optional = concept in TRAIT_RATES[cell_type]
    return render_cell(cell_type, rng, laboratory=style, traits={concept: 1.0} if concept and optional else None)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _paste(sheet: Image.Image, column: int, line: int, cell: Image.Image) -> None:
    small = cell.resize((_EDGE - 2, _EDGE - 2), Image.Resampling.LANCZOS)
    sheet.paste(small, (column * _EDGE, line * (_EDGE + _TEXT) + _TEXT))


def _label(sheet: Image.Image, column: int, line: int, text: str) -> None:
    corner = (column * _EDGE + 2, line * (_EDGE + _TEXT) + 1)
    ImageDraw.Draw(sheet).text(corner, text, fill=(30, 30, 30), font=ImageFont.load_default(size=12))
