"""Listing of cells: sources, names of every kind, what is left out and why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cytosae.artefacts import write_csv
from cytosae.cells import COLUMNS, decoded, difference, held_out, list_cells, load_squashed, read_cells, write_cells
from cytosae.errors import CytosaeError
from cytosae.study import list_to
from support.sources import picture, refusal, table


def test_real_table_is_listed_whole(real_cells: Path) -> None:
    listing = list_cells(real_cells / "cells.csv")
    assert len(listing.cells) == 8961
    assert len(listing.rejected) == 0
    assert listing.summary()["datasets"] == {
        "pbc": 8191,
        "bccd_crops": 371,
        "segwbc_tecom": 299,
        "segwbc_cellavision": 100,
    }
    assert listing.cells["label"].isna().sum() == 29
    assert "subtype" in listing.cells  # unknown columns are kept
    assert listing.cells["mask"].notna().sum() == 399
    assert Path(listing.cells["mask"].dropna().iloc[0]).is_file()


def test_class_folders_give_labels_and_odd_files_are_ignored(pictures: Path) -> None:
    (pictures / ".DS_Store").write_bytes(b"x")
    (pictures / "blast" / "notes.txt").write_text("x")
    (pictures / "__MACOSX").mkdir()
    (pictures / "__MACOSX" / "._0.png").write_bytes(b"x")
    (pictures / "blast" / "0.png").rename(pictures / "blast" / "0.PNG")
    cells = list_cells(pictures).cells
    assert cells.groupby("label").size().to_dict() == {"blast": 4, "monocyte": 4}
    assert list(cells.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert "blast/0.PNG" in set(cells["cell_id"])


def test_flat_folder_has_no_labels(pictures: Path) -> None:
    cells = list_cells(pictures / "blast").cells
    assert len(cells) == 4
    assert cells["label"].isna().all()
    assert (cells["dataset"] == "blast").all()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table_paths_count_from_the_table(pictures: Path, suffix: str) -> None:
    table = pd.DataFrame({"path": ["blast/0.png", "monocyte/1.png"], "patient": ["007", "8"], "ward": [3, 4]})
    path = pictures / f"t.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    cells = list_cells(path).cells
    assert cells["patient"].tolist() == ["007", "8"]  # numbers that are names keep their zeros
    assert cells["ward"].tolist() == [3, 4]
    assert all(Path(p).is_file() for p in cells["path"])


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "tif", "tiff"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1"])
def test_every_format_and_mode_becomes_rgb(tmp_path: Path, form: str, mode: str) -> None:
    image = Image.new("RGB", (30, 20), (200, 100, 50)).convert(mode)
    path = tmp_path / f"x.{form}"
    try:
        image.save(path)
    except (OSError, KeyError):
        pytest.skip(f"{form} has no mode {mode}")
    pixels = load_squashed(path, 16)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    if mode in {"RGB", "RGBA", "P", "CMYK"}:
        assert np.abs(pixels.reshape(-1, 3).mean(0) - (200, 100, 50)).max() < 30


def test_transparent_pixels_lie_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    image.save(tmp_path / "x.png")
    pixels = load_squashed(tmp_path / "x.png", 8)
    assert (pixels[0, 0] == (0, 0, 255)).all()
    assert (pixels.reshape(-1, 3)[1:] == 255).all()
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "x.tiff")
    assert (load_squashed(tmp_path / "x.tiff", 8) == (255, 0, 0)).all()


def _spoil(folder: Path) -> dict[str, str]:
    """Unreadable files of every kind, with a word of the reason that must be given."""
    good = (folder / "blast" / "0.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    Image.new("RGB", (64, 64), "red").save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:500])
    (folder / "text.png").write_text("no image")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(folder / "deep.png")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(folder / "deep.tiff")
    Image.fromarray(np.ones((8, 8), np.float32)).save(folder / "real.tiff")
    return {
        "empty.png": "0 bytes",
        "cut.png": "damaged",
        "cut.jpg": "damaged",
        "text.png": "not a JPEG",
        "deep.png": "8 bits",
        "deep.tiff": "8 bits",
        "real.tiff": "8 bits",
        "gone.png": "missing",
    }


def test_sixteen_bit_colour_is_refused(tmp_path: Path) -> None:
    # Pillow cannot write 16-bit colour, but reads it and drops the low bytes without a word.
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(4 * 6) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(png)
    assert Image.open(tmp_path / "x.png").mode == "RGB"
    with pytest.raises(CytosaeError, match="8 bits"):
        list_cells(tmp_path)


def test_unreadable_cells_are_left_out_and_named(pictures: Path) -> None:
    reasons = _spoil(pictures)
    paths = [*reasons, "blast/0.png"]
    pd.DataFrame({"path": paths}).to_csv(pictures / "t.csv", index=False)
    listing = list_cells(pictures / "t.csv")
    assert listing.cells["cell_id"].tolist() == ["blast/0.png"]
    found = dict(zip(listing.rejected["cell_id"], listing.rejected["reason"], strict=True))
    assert found.keys() == reasons.keys()
    for name, word in reasons.items():
        assert word in found[name], (name, found[name])
    with pytest.raises(CytosaeError, match="strict"):
        list_cells(pictures / "t.csv", strict=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("path,label\n", "empty"),
        ("file,label\nx,y\n", "no column 'path'"),
        ("path,cell_id\na.png,1\nb.png,1\n", "more than once"),
        ("path,cell_id\na.png,\n", "no cell_id"),
        ("path,label\n,x\n", "row 1 has no path"),
        ("path\na.png\n", "none of its 1 images"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CytosaeError, match=words):
        list_cells(tmp_path / "t.csv")


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="no such file"):
        list_cells(tmp_path / "absent.csv")
    with pytest.raises(CytosaeError, match="holds no image"):
        list_cells(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(CytosaeError, match="not a readable"):
        list_cells(tmp_path / "x.parquet")


def test_image_size_does_not_reach_the_model(tmp_path: Path) -> None:
    for index, size in enumerate([(224, 224), (363, 360), (100, 300)]):
        Image.new("RGB", size, "purple").save(tmp_path / f"{index}.png")
    arrays = [load_squashed(tmp_path / f"{index}.png", 224) for index in range(3)]
    assert all(np.array_equal(array, arrays[0]) for array in arrays)


def test_table_round_trip_keeps_relative_paths(pictures: Path, tmp_path: Path) -> None:
    cells = list_cells(pictures).cells
    write_cells(cells, pictures / "cells.parquet")
    assert pd.read_parquet(pictures / "cells.parquet")["path"].iloc[0] == "blast/0.png"
    moved = tmp_path / "moved"
    pictures.rename(moved)
    again = read_cells(moved / "cells.parquet")
    assert all(Path(path).is_file() for path in again["path"])
    assert difference(cells, again) is None


def test_unchanged_files_are_not_opened_again_and_changes_are_named(pictures: Path) -> None:
    first = list_cells(pictures)
    again = list_cells(pictures, previous=first.cells)
    assert (first.inspected, again.inspected) == (8, 0)
    assert difference(first.cells, again.cells) is None
    Image.new("RGB", (9, 9)).save(pictures / "blast" / "2.png")
    changed = list_cells(pictures, previous=first.cells)
    assert changed.inspected == 1
    assert difference(first.cells, changed.cells) == "cells 1 changed (first: blast/2.png)"
    relabelled = first.cells.assign(label="x")
    assert "labels" in str(difference(first.cells, relabelled))


def test_foreign_parquet_is_no_listing(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(CytosaeError, match="not a table made by"):
        read_cells(tmp_path / "x.parquet")


def test_decoding_in_processes_gives_the_same_in_order(pictures: Path) -> None:
    paths = list_cells(pictures).cells["path"].tolist()
    batches = [np.array([3, 1, 2]), np.array([7]), np.array([0, 0])]
    state = torch.get_rng_state()
    here, there = (list(decoded(paths, batches, 32, workers)) for workers in (0, 2))
    assert [len(batch) for batch in here] == [3, 1, 2]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert np.array_equal(here[1][0].numpy(), load_squashed(Path(paths[7]), 32))
    assert torch.equal(state, torch.get_rng_state())  # training's random numbers do not depend on decoding


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_is_named(pictures: Path, workers: int) -> None:
    paths = list_cells(pictures).cells["path"].tolist()
    Path(paths[5]).unlink()
    with pytest.raises(CytosaeError, match=r"1\.png: file is missing"):
        list(decoded(paths, [np.arange(8)], 32, workers))


def test_held_out_cells(pictures: Path) -> None:
    cells = list_cells(pictures).cells
    mask = held_out(cells, 0.25, seed=3)
    assert mask.sum() == 2
    assert np.array_equal(mask, held_out(cells, 0.25, seed=3))
    assert not np.array_equal(mask, held_out(cells, 0.25, seed=4))
    assert held_out(cells.head(1), 0.25, 0).sum() == 0
    cells["split"] = pd.array(["train"] * 5 + ["val", "Test", None], dtype="string")
    assert held_out(cells, 0.25, 0).tolist() == [False] * 5 + [True, True, False]


def test_paths_as_other_systems_spell_them(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "Bär.png")  # composed
    picture(tmp_path / "images" / "a\\b.png")
    listing = list_cells(table(tmp_path, "path\nimages\\Bär.png\nimages/a\\b.png\nimages\\none.png\n"))
    assert listing.cells["cell_id"].tolist() == ["images/Bär.png", "images/a\\b.png"]
    assert listing.rejected["cell_id"].tolist() == ["images\\none.png"]
    assert any("another spelling" in remark for remark in listing.remarks)
    assert len(list_cells(table(tmp_path, "path\nimages/Ba\u0308r.png\n")).cells) == 1


ODD = [
    *(
        "a b.png",
        'quote".png',
        "'.png",
        "new\nline.png",
        "#1.png",
        "50%.png",
        "what?.png",
        "c:d.png",
        "-x.png",
        "=1+1.png",
    ),
    "é" * 125 + ".png",
]


def test_names_of_every_kind_pass_through_the_table(tmp_path: Path) -> None:
    for shade, name in enumerate(ODD):
        picture(tmp_path / "s" / name, shade)
    listing = list_cells(tmp_path / "s")
    assert sorted(listing.cells["cell_id"]) == sorted(ODD)
    write_cells(listing.cells, tmp_path / "s" / "cells.parquet")
    again = read_cells(tmp_path / "s" / "cells.parquet")
    assert difference(listing.cells, again) is None
    assert all(Path(path).is_file() for path in again["path"])
    write_csv(tmp_path / "s" / "t.csv", again[["path", "cell_id"]])
    assert difference(listing.cells, list_cells(tmp_path / "s" / "t.csv").cells.assign(dataset="s")) is None


def test_a_path_with_a_colon_and_slashes_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "C:" / "x.png")
    monkeypatch.chdir(tmp_path.parent)
    assert len(list_cells(table(tmp_path, "path\nC://x.png\n")).cells) == 1


def test_names_that_are_not_utf8_are_named(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/Z\xe4hler.png"
    try:
        Path(os.fsdecode(odd)).write_bytes((folder / "a.png").read_bytes())
    except OSError:
        pytest.skip("this disk takes no such names")
    cells, figures = list_to(folder, folder / "out" / "cells.parquet")
    assert (len(cells), figures["rejected"]) == (3, 1)
    rejected = pd.read_csv(folder / "out" / "cells.rejected.csv")
    assert rejected["cell_id"].tolist() == ["Z\\xe4hler.png"]
    assert "not UTF-8" in rejected["reason"][0]
    assert "not UTF-8" in refusal(Path(os.fsdecode(odd)))


def test_two_data_sets_may_use_the_same_ids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png")
    text = "path,cell_id,dataset\na/1.png,1,A\nb/1.png,1,B\n"
    listing = list_cells(table(tmp_path, text))
    assert listing.cells["cell_id"].tolist() == ["A/1", "B/1"]
    assert any("two data sets" in remark for remark in listing.remarks)
    assert "more than once" in refusal(table(tmp_path, text.replace(",B", ",A")))
    assert len(list_cells(table(tmp_path, "path,dataset\na/1.png,A\n./a/1.png,B\n")).cells) == 2
    assert len(list_cells(table(tmp_path, "path,cell_id\na/1.png,1\n./a/1.png,2\n")).cells) == 2
