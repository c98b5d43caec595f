"""Images of more than eight bits: refused, or read by the scaling that was stated, ever after."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from fastapi import HTTPException
from PIL import Image
from typer.testing import CliRunner

from cytosae.cells import (
    Reading,
    decoded,
    difference,
    intensities,
    list_cells,
    load_squashed,
    pixels_digest,
    read_cells,
    readings,
    write_cells,
)
from cytosae.cli.commands import app
from cytosae.errors import CytosaeError
from cytosae.explorer.images import CellImages
from cytosae.explorer.routes.uploads import _decoded
from cytosae.settings import ImageConfig, intensity_window
from support.image_files import (
    ALPHA,
    DEEP,
    GREY,
    HEIGHT,
    OVER_WHITE,
    QUIET,
    RANDOM,
    RGB,
    WIDTH,
    linear,
    planes,
    png,
    refusal,
    saved,
    seen,
    tiff,
)

pytestmark = QUIET


@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16)}]
)
@pytest.mark.parametrize("planar", [False, True])
def test_sixteen_bit_tiff_is_refused_and_read_by_the_stated_scaling(options: dict[str, Any], planar: bool) -> None:
    values, how = (planes(DEEP), "separate") if planar else (DEEP, "contig")
    data = tiff(values, photometric="rgb", planarconfig=how, **options)
    why = refusal(data)
    assert "16 bits" in why
    assert f"{DEEP.min()} to {DEEP.max()}" in why
    assert "--intensity" in why
    np.testing.assert_array_equal(seen(data, "full"), linear(DEEP, 0, 65535))
    np.testing.assert_array_equal(seen(data, "1000-30000"), linear(DEEP, 1000, 30000))
    np.testing.assert_array_equal(seen(data, "percentile"), linear(DEEP, *np.percentile(DEEP, [0.1, 99.9])))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "uint32", "float16", "float32", "float64"])
def test_every_type_of_number(kind: str) -> None:
    values = RANDOM.random((HEIGHT, WIDTH)).astype(kind) if kind[0] == "f" else DEEP[..., 0].astype(kind)
    ends = (0, 1) if kind[0] == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    data = tiff(values)
    assert "--intensity" in refusal(data)
    np.testing.assert_array_equal(seen(data, "full"), linear(values, *ends))
    np.testing.assert_array_equal(seen(data, "-3-77.5"), linear(values, -3, 77.5))
    np.testing.assert_array_equal(seen(tiff(values, photometric="miniswhite"), "full"), 255 - linear(values, *ends))


def test_values_that_no_scaling_fits() -> None:
    real = np.full((4, 4), 0.5, np.float32)
    real[0, 0] = np.nan
    for how in ("full", "percentile", "0-1"):
        assert "not finite" in refusal(tiff(real), how)
    assert "0.5 to 3" in refusal(tiff(np.where(np.isnan(real), 3, real).astype(np.float32)), "full")
    assert "no contrast" in refusal(tiff(np.full((4, 4), 7, np.uint16)), "percentile")
    assert "64 bits" in refusal(tiff(real.astype(np.complex64)), "full")
    spot = np.zeros((100, 100), np.uint16)  # percentiles alone would make a bright spot disappear
    spot[5, 5] = 900
    assert seen(tiff(spot), "percentile")[5, 5, 0] == 255


def test_bits_in_use_are_those_that_the_file_states() -> None:
    values = DEEP[..., 0] >> 4
    for data in (
        tiff(values, extratags=[(281, 3, 1, 4095, True)]),
        tiff(values, ome=True, metadata={"axes": "YX", "SignificantBits": 12}),
    ):
        assert "12 bits" in refusal(data)
        np.testing.assert_array_equal(seen(data, "full"), linear(values, 0, 4095))


def test_sixteen_bit_png() -> None:
    assert "16 bits" in refusal(png(DEEP, 2))
    np.testing.assert_array_equal(seen(png(DEEP, 2), "full"), linear(DEEP, 0, 65535))
    np.testing.assert_array_equal(seen(png(DEEP[..., :1], 0), "full"), linear(DEEP[..., 0], 0, 65535))
    alpha = ALPHA.astype(np.uint16)[..., None] * 257
    clear = seen(png(np.concatenate([RGB.astype(np.uint16) * 257, alpha], axis=-1), 6), "full")
    assert np.abs(clear - OVER_WHITE).max() <= 1
    clear = seen(png(np.concatenate([GREY[..., None].astype(np.uint16) * 257, alpha], axis=-1), 4), "full")
    assert np.abs(clear - np.repeat(OVER_WHITE[..., :1], 3, -1)).max() <= 1


def test_twelve_bit_jpeg() -> None:
    values = np.add.outer(np.arange(HEIGHT) * 90, np.arange(WIDTH) * 60).astype(np.uint16)
    data = imagecodecs.jpeg_encode(values, bitspersample=12, level=100)
    assert "12 bits" in refusal(data)
    assert np.abs(seen(data, "full") - linear(values, 0, 4095)).max() <= 1


def _microscope(folder: Path) -> Path:
    """A table with an ordinary image and two of 16 bits."""
    folder.mkdir(exist_ok=True)
    (folder / "plain.png").write_bytes(saved(RGB, "PNG"))
    (folder / "deep.tif").write_bytes(tiff(DEEP, photometric="rgb"))
    (folder / "deep.png").write_bytes(png(DEEP // 16, 2))
    pd.DataFrame({"path": ["plain.png", "deep.tif", "deep.png"]}).to_csv(folder / "cells.csv", index=False)
    return folder / "cells.csv"


def test_the_scaling_is_recorded_and_used_ever_after(tmp_path: Path) -> None:
    table = _microscope(tmp_path)
    refused = list_cells(table)
    assert refused.cells["cell_id"].tolist() == ["plain.png"]
    assert refused.rejected["reason"].str.contains("--intensity").all()
    listing = list_cells(table, intensity="0-4095")
    assert listing.summary()["scaled"] == 2
    write_cells(listing.cells, tmp_path / "cells.parquet")
    cells = read_cells(tmp_path / "cells.parquet")
    assert intensities(cells) == [None, "0-4095", "0-4095"]
    for workers in (0, 1):
        (batch,) = decoded(cells["path"].tolist(), [np.array([2, 0, 1])], 16, workers, readings(cells))
        expected = [load_squashed(Path(cells["path"][i]), 16, Reading("0-4095")) for i in (2, 0, 1)]
        np.testing.assert_array_equal(batch.numpy(), np.stack(expected))
    # Another scaling is another image: looked at again, and whatever was made of it is out of date.
    again = list_cells(table, intensity="percentile", previous=cells)
    assert again.inspected == 2
    assert pixels_digest(again.cells) != pixels_digest(cells)
    changed = difference(cells, again.cells)
    assert changed is not None
    assert "2 changed" in changed
    assert list_cells(table, intensity="0-4095", previous=cells).inspected == 0


def test_tables_of_before_are_looked_at_again_and_plain_cells_stay_up_to_date(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "plain.png").write_bytes(saved(RGB, "PNG"))
    (tmp_path / "turned.jpg").write_bytes(saved(RGB, "JPEG", exif=exif))
    cells = list_cells(tmp_path).cells
    assert cells.set_index("cell_id").loc["turned.jpg", ["width", "height"]].tolist() == [HEIGHT, WIDTH]
    before = cells.drop(columns=["file_intensity", "file_note"])
    again = list_cells(tmp_path, previous=before)
    assert again.inspected == 2
    plain, turned = (cells["cell_id"] == name for name in ("plain.png", "turned.jpg"))
    assert pixels_digest(before[plain]) == pixels_digest(again.cells[plain])
    assert difference(before[plain], again.cells[plain]) is None
    assert pixels_digest(before[turned]) != pixels_digest(again.cells[turned])  # it was embedded lying on its side


@pytest.mark.parametrize("text", ["", "FULL", "5", "9-3", "3-3", "a-b", "0-inf", "nan-1", "1-2-3"])
def test_scalings_that_are_none(text: str) -> None:
    with pytest.raises(CytosaeError, match="--intensity"):
        ImageConfig(text)


def test_windows() -> None:
    assert intensity_window("0-4095") == (0, 4095)
    assert intensity_window("-100-1e3") == (-100, 1000)
    assert intensity_window("-0.5--.25") == (-0.5, -0.25)
    assert intensity_window("full") is None


def test_the_command_takes_a_scaling_and_says_what_is_ignored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = _microscope(tmp_path)
    (tmp_path / "plain.png").write_bytes(saved(RGB, "PNG", icc_profile=b"nonsense"))
    (tmp_path / "cut.tif").write_bytes(tiff(RGB, photometric="rgb", compression="lzw")[:900])
    table.write_text(table.read_text() + "cut.tif\n")
    done = CliRunner().invoke(app, ["cells", str(table), "-o", str(tmp_path / "out"), "--intensity", "full"])
    assert done.exit_code == 0, done.output
    said = capfd.readouterr().err + done.output
    assert "broken ICC profile" in said
    assert "plain.png" in said
    assert "Warning" not in said
    assert "TIFF" not in said  # libtiff would speak for itself
    assert intensities(read_cells(tmp_path / "out" / "cells.parquet")) == [None, "full", "full"]


def test_an_upload_is_scaled_as_the_cells_of_its_study(tmp_path: Path) -> None:
    table, folder = _microscope(tmp_path), tmp_path / "study"
    folder.mkdir()
    for scaling in (None, "0-4095"):
        write_cells(list_cells(table, intensity=scaling).cells, folder / "cells.parquet")
        pictures = CellImages(SimpleNamespace(folder=folder))
        assert pictures.intensity == scaling
        cell = pictures.file(SimpleNamespace(name=tmp_path.name, check_row=int, names=lambda rows: ["plain.png"]), 0)
        assert cell == (tmp_path / "plain.png", Reading(None))
    np.testing.assert_array_equal(np.asarray(_decoded(tiff(DEEP, photometric="rgb"), "0-4095")), linear(DEEP, 0, 4095))
    for data, status in ((tiff(DEEP, photometric="rgb"), 415), (saved(Image.new("1", (9000, 9000)), "PNG"), 413)):
        with pytest.raises(HTTPException) as refused:
            _decoded(data, None)
        assert refused.value.status_code == status
