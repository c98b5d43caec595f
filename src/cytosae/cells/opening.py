"""Which images are read region by region, and by what."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytosae.cells.images import MOST_PIXELS, SLIDES, decode, read_bytes
from cytosae.cells.regions import Regions, WholeImage
from cytosae.cells.samples import UnreadableImage
from cytosae.storage import StoredPath, resolve_path

_TIFF = frozenset({".tif", ".tiff"})


def open_regions(path: str, intensity: str | None = None) -> Regions:
    """Open an image of any size: one that is too large is read region by region, others whole.

    Parameters
    ----------
    path
        File or URL.
    intensity
        Scaling of an image that is held whole, see `cytosae.settings.ImageConfig`.

    Raises
    ------
    UnreadableImage
        With the reason.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    file = resolve_path(path)
    return open_large(file) or WholeImage(np.asarray(decode(read_bytes(file), intensity)))


def open_large(path: Path) -> Regions | None:
    """A slide, or a TIFF that is too large to be held or has smaller copies in tiles; None for other files.

    Raises
    ------
    UnreadableImage
        OpenSlide is not installed, or the file is of a kind that is not read region by region.
    """
    ending = path.suffix.lower()
    if ending not in SLIDES and ending not in _TIFF:
        return None
    if isinstance(path, StoredPath):
        if ending in SLIDES:
            raise UnreadableImage("a slide at a URL: copy it to this machine first")
        return None
    if not path.is_file():
        raise UnreadableImage("file is missing")
    if ending in SLIDES:
        from cytosae.cells.slides import Slide

        return Slide(path)
    from cytosae.cells.tiled import open_tiled

    return open_tiled(path, MOST_PIXELS)
