"""Whole slides and large TIFF: read region by region, cells where they lie, bare and crowded regions left out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from benchmarks.fields import counts
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells import UnreadableImage, open_regions
from cytosae.cells.regions import REGION_WISE
from cytosae.fields import BOX, cut_out, detecting, monolayer, read_field_cells, read_fields
from cytosae.settings import FieldConfig
from cytosae.synthetic import DrawnField, FieldSpec, render_field
from support.commands import ask

WIDTH, HEIGHT = 3000, 1400
X, Y, EDGE, CROWDED = 1800, 100, 1200, 600


def write_pyramid(path: Path, pixels: NDArray[np.uint8], mpp: float | None, description: str | None = None) -> None:
    """A pyramid in tiles as scanners write it, with copies of a half and a quarter."""
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 95},
        **({} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}),
    }
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, description=description, metadata=None, **options)
        for factor in (2, 4):
            size = pixels.shape[1] // factor, pixels.shape[0] // factor
            smaller = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
            file.write(smaller, subfiletype=1, metadata=None, **options)


@pytest.fixture(scope="module")
def drawn() -> DrawnField:
    return render_field(FieldSpec(width=EDGE, height=EDGE, cells=8), 21)


@pytest.fixture(scope="module")
def pixels(drawn: DrawnField) -> NDArray[np.uint8]:
    """Bare glass, a monolayer at `X` and `Y`, and cells in four layers on the left."""
    glass = np.percentile(drawn.pixels, 95, axis=(0, 1))
    slide = np.full((HEIGHT, WIDTH, 3), glass.astype(np.uint8))
    slide[Y : Y + EDGE, X : X + EDGE] = drawn.pixels
    layers = [drawn.pixels, drawn.pixels[::-1], drawn.pixels[:, ::-1], drawn.pixels[::-1, ::-1]]
    dark = np.prod([layer / glass for layer in layers], axis=0) * glass
    slide[:EDGE, :CROWDED] = np.clip(dark[:, :CROWDED], 0, 255).astype(np.uint8)
    return slide


@pytest.fixture(scope="module")
def slide(drawn: DrawnField, pixels: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_pyramid(folder / "smear.tif", pixels, drawn.mpp)
    return folder / "smear.tif"


@pytest.fixture(scope="module")
def found(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "fields"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detecting, "TILE", 90.0)
        ask("fields", slide.parent, "-o", folder)
    return folder


def test_cells_of_a_slide_lie_where_they_are_drawn(found: Path, drawn: DrawnField, pixels: NDArray[np.uint8]) -> None:
    cells = read_field_cells(found)
    assert set(cells["mpp_from"]) == {"file"}
    assert cells["mpp"].iloc[0] == pytest.approx(drawn.mpp, rel=1e-4)
    boxes = [(x - X, y - Y, x + w - X, y + h - Y) for x, y, w, h in cells[list(BOX)].itertuples(index=False)]
    hit, missed, wrong = counts([box for box in boxes if box[0] >= 0], drawn)
    assert hit / (hit + missed) > 0.9
    assert wrong <= 0.15 * hit
    assert len(boxes) - sum(box[0] >= 0 for box in boxes) <= 2  # none where cells lie in layers
    for row in cells.iloc[[0, -1]].to_dict("records"):
        image = np.asarray(Image.open(found / row["path"])).astype(int)
        box = tuple(int(row[name]) for name in BOX)
        assert np.abs(image - cut_out(pixels, box, row["mpp"], 25.0, 224)).mean() < 4  # type: ignore[arg-type]


def test_bare_and_crowded_regions_are_listed_with_the_reason(found: Path) -> None:
    rejected = pd.read_csv(found / "rejected.csv")
    kinds = rejected["reason"].str.split(":").str[0]
    for kind, low, high in ((monolayer.CROWDED, 0, 700), (monolayer.BARE, CROWDED, X - 1)):
        own = rejected[kinds == kind]
        assert len(own) >= 1, kind
        assert own["x"].between(low, high).all()
    assert (read_fields(found)["file_note"] == REGION_WISE).all()
    everything = FieldConfig(least_covered=0, most_covered=1)
    assert monolayer.why_no_monolayer(np.zeros((4, 4)), everything) is None
    assert monolayer.why_no_monolayer(np.ones((4, 4)), everything) is None


def test_regions_and_smaller_copies_are_the_pixels_of_the_slide(slide: Path, pixels: NDArray[np.uint8]) -> None:
    image = open_regions(str(slide))
    assert (image.width, image.height, len(image.levels)) == (WIDTH, HEIGHT, 3)
    for left, top, width, height in ((0, 0, 10, 10), (1590, 90, 700, 300), (WIDTH - 9, HEIGHT - 5, 9, 5)):
        part = image.read(left, top, width, height).astype(int)
        assert np.abs(part - pixels[top : top + height, left : left + width]).mean() < 4
    small = image.reduced(X, 96, 1200, 1200, 8)
    expected = np.asarray(Image.fromarray(pixels[96:1296, X : X + EDGE]).resize((150, 150), Image.Resampling.BOX))
    assert np.abs(small.astype(int) - expected).mean() < 3


def test_the_scale_is_that_of_red_cells_where_the_file_has_none(
    drawn: DrawnField, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    write_pyramid(tmp_path / "bare.tif", pixels, None)
    red = monolayer.measure_slide_scale(open_regions(str(tmp_path / "bare.tif")), FieldConfig())
    assert red.count > 20
    assert red.mpp == pytest.approx(drawn.mpp, rel=0.1)


@pytest.mark.parametrize("kind", ["deflate", "grey", "strips"])
def test_every_kind_of_large_tiff_is_read_in_regions(
    kind: str, pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytosae.cells.opening.MOST_PIXELS", 1_000_000)
    part = np.ascontiguousarray(pixels[:1300, 1500:3000])
    part = part[..., 0] if kind == "grey" else part
    how = {"rowsperstrip": 64} if kind == "strips" else {"tile": (128, 256)}
    photometric = "minisblack" if kind == "grey" else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", part, photometric=photometric, compression="zlib", **how)
    read = open_regions(str(tmp_path / "a.tif")).read(100, 200, 700, 900)
    assert (read == (part[..., None] if kind == "grey" else part)[200:1100, 100:800]).all()


def test_a_slide_of_a_scanner_is_read_through_openslide(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    description = "Aperio Image Library v1\r\n3000x1400 -> 3000x1400|AppMag = 40|MPP = 0.1500"
    write_pyramid(tmp_path / "a.svs", pixels, None, description)
    image = open_regions(str(tmp_path / "a.svs"))
    assert (image.mpp, image.width, len(image.levels)) == (0.15, WIDTH, 3)
    part = image.read(1590, 90, 700, 300).astype(int)
    assert np.abs(part - pixels[90:390, 1590:2290]).mean() < 4
    small = image.reduced(X, 96, 1200, 1200, 8)
    expected = np.asarray(Image.fromarray(pixels[96:1296, X : X + EDGE]).resize((150, 150), Image.Resampling.BOX))
    assert np.abs(small.astype(int) - expected).mean() < 3


def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.svs").write_bytes(b"II*\0nothing")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(UnreadableImage, match=r"cytosae\[slides\]"):
        open_regions(str(tmp_path / "a.svs"))
    monkeypatch.undo()
    pytest.importorskip("openslide")
    with pytest.raises(UnreadableImage, match="OpenSlide does not read"):
        open_regions(str(tmp_path / "a.svs"))
    values = np.zeros((300, 300, 3), np.uint16)
    monkeypatch.setattr("cytosae.cells.opening.MOST_PIXELS", 10_000)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb", tile=(128, 128))
    with pytest.raises(UnreadableImage, match="8 bits"):
        open_regions(str(tmp_path / "deep.tif"))
