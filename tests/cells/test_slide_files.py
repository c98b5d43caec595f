"""A slide of several files is one image: what changes in any of them is noticed, and its folder is no source."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cytosae.cells import list_cells
from cytosae.cells.regions import WholeImage
from cytosae.cells.slide_files import files_of_image, image_sha256


class _Slide(WholeImage):
    """In place of OpenSlide, which reads such files but does not write them."""

    def __init__(self, path: Path) -> None:
        values: NDArray[np.uint8] = np.full((40, 60, 3), 230, np.uint8)
        super().__init__(values)


@pytest.fixture
def slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cytosae.cells.slides.Slide", _Slide)
    folder = tmp_path / "slides"
    (folder / "a").mkdir(parents=True)
    (folder / "a.mrxs").write_bytes(b"an index")
    for name in ("Index.dat", "Data0000.dat", "Slidedat.ini"):
        (folder / "a" / name).write_bytes(name.encode())
    (folder / "a" / "label.jpg").write_bytes(b"no cell")
    return folder / "a.mrxs"


def test_a_slide_with_a_folder_of_pixels_is_one_image(slide: Path) -> None:
    listing = list_cells(slide.parent, large=True)
    assert listing.cells["cell_id"].tolist() == ["a.mrxs"]
    assert listing.rejected.empty
    sizes = [file.stat().st_size for file in (slide, *(slide.parent / "a").iterdir())]
    assert listing.cells["file_bytes"].tolist() == [sum(sizes)]


def test_pixels_that_change_beside_the_index_change_the_slide(slide: Path) -> None:
    before = list_cells(slide.parent, large=True)
    assert list_cells(slide.parent, large=True, previous=before.cells).inspected == 0
    data = slide.parent / "a" / "Data0000.dat"
    stat = data.stat()
    data.write_bytes(b"x" * stat.st_size)
    os.utime(data, ns=(0, 0))  # older than all others: the latest time of change stays
    after = list_cells(slide.parent, large=True, previous=before.cells)
    assert after.inspected == 1
    assert after.cells["file_sha256"].tolist() != before.cells["file_sha256"].tolist()


def test_a_slide_that_is_renamed_is_the_same(slide: Path) -> None:
    before = image_sha256(slide)
    renamed = slide.rename(slide.with_name("b.mrxs"))
    (slide.parent / "a").rename(slide.parent / "b")
    assert image_sha256(renamed) == before
    assert len(files_of_image(renamed)) == 5
    (slide.parent / "b" / "Data0001.dat").write_bytes(b"one more")
    assert image_sha256(renamed) != before
