"""Preparing a published data set: what is made, what is left alone, what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from cytosae.cells.datasets.preparation import NO_IMAGE, OTHER_ARCHIVE
from cytosae.cells.walk import ABOVE, BROKEN, HIDDEN, NO_FILE, NOT_UTF8, TWICE
from support.published import acevedo, ask, bccd, images_by_code, mll23, odd_files, picture, refused, table, zipped


def test_a_folder_of_archives(tmp_path: Path) -> None:
    plain = mll23(tmp_path / "plain")
    odd_files(plain / "basophil")
    source = tmp_path / "zips"
    for folder in sorted(plain.iterdir()):
        zipped(folder, source / f"{folder.name}.zip", plain)
    first = ask("prepare", "mll23", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert len(cells) == 8
    written = (tmp_path / "out" / "cells.csv").read_bytes()
    assert b"unpacked/basophil/basophil/basophil_0001.TIF" in written  # relative, so the folder can be moved
    assert str(tmp_path).encode() not in written
    sums = {one["name"]: one["sha256"] for one in first["archives"]}
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    assert first["left_out"] == {HIDDEN: 4, NO_IMAGE: 1}

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "unpacked").rglob("*")}
    assert ask("prepare", "mll23", source, "-o", tmp_path / "out") == first
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "unpacked").rglob("*")}
    assert (tmp_path / "out" / "cells.csv").read_bytes() == written

    # An archive that has changed is unpacked again; a folder that was not made here is not touched.
    picture(plain / "basophil" / "basophil_0003.TIF")
    zipped(plain / "basophil", source / "basophil.zip", plain)
    assert images_by_code(ask("prepare", "mll23", source, "-o", tmp_path / "out"))["basophil"] == 3
    assert len(table(tmp_path / "out")) == 9
    mine = picture(tmp_path / "other" / "unpacked" / "basophil" / "mine.png")
    assert "was not made by cytosae" in refused("prepare", "mll23", source, "-o", tmp_path / "other")
    assert mine.exists()


def test_what_a_user_has_in_the_output_is_not_replaced(tmp_path: Path) -> None:
    source = bccd(tmp_path / "in")
    mine = picture(source / "images" / "mine.png")
    assert "images/mine.png: exists already and was not made" in refused("prepare", "bccd", source, "-o", source)
    assert mine.exists()
    own = tmp_path / "own" / "cells.csv"
    own.parent.mkdir()
    own.write_text("path\nmine.png\n")
    assert "cells.csv: exists already and was not written by" in refused("prepare", "bccd", source, "-o", own.parent)
    assert own.read_text() == "path\nmine.png\n"
    acevedo(source / "images")  # published folders inside one of that name
    assert ask("prepare", "acevedo", source, "-o", source)["cells"] == 14


def test_output_in_the_source_and_images_there_twice(tmp_path: Path) -> None:
    folder = mll23(tmp_path / "in")
    zipped(folder / "basophil", folder / "more.zip", folder)
    for _ in range(2):
        summary = ask("prepare", "mll23", folder, "-o", folder)
        assert images_by_code(summary)["basophil"] == 2
        assert summary["notes"] == ["2 images are there more than once"]
        assert summary["left_out"] == {}
    other = mll23(tmp_path / "other")
    zipped(other / "basophil", other / "basophil.zip", other)  # unpacked by hand: lies beside it
    assert ask("prepare", "mll23", other, "-o", tmp_path / "out")["archives"] == []


def test_linked_folders_are_followed_and_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, source = tmp_path / "elsewhere" / "basophil", tmp_path / "in"
    picture(real / "BA_1.jpg")
    picture(source / "eosinophil" / "EO_1.jpg")
    closed = source / "ig"
    closed.mkdir()
    (source / "basophil").symlink_to(real)
    (source / "twice").symlink_to(real)
    (source / "above").symlink_to(tmp_path)
    (source / "eosinophil" / "up").symlink_to("..")
    (source / "eosinophil" / "gone.png").symlink_to("nowhere.png")
    (source / "eosinophil" / "EO_\udcff.jpg").write_bytes(b"x")
    os.mkfifo(source / "eosinophil" / "pipe.png")
    scan = os.scandir

    def scandir(folder: Any) -> Any:
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert ask("prepare", "acevedo", source, "-o", tmp_path / "out")["cells"] == 2
    left_out = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert {Path(path).name: reason for path, reason in left_out.to_numpy().tolist()} == {
        "EO_\\xff.jpg": NOT_UTF8,
        "above": ABOVE,
        "twice": TWICE,
        "gone.png": BROKEN,
        "ig": "the folder cannot be opened (Permission denied)",
        "pipe.png": NO_FILE,
        "up": ABOVE,
    }


def test_what_cannot_be_prepared_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rar = tmp_path / "in" / "PBC.rar"
    rar.parent.mkdir()
    rar.write_bytes(b"Rar!")
    assert "Unpack it and give the folder" in refused("prepare", "acevedo", rar, "-o", out)
    message = refused("prepare", "acevedo", rar.parent, "-o", out)
    assert "Unpack PBC.rar first" in message
    assert "PBC_dataset_normal_DIB/<class>" in message
    assert not (out / "cells.csv").exists()
    mll23(tmp_path / "in")
    assert ask("prepare", "mll23", rar.parent, "-o", out)["left_out"] == {OTHER_ARCHIVE: 1}
    assert "no such file or folder" in refused("prepare", "bmc", tmp_path / "nowhere", "-o", out)
    (tmp_path / "x.txt").write_text("x")
    assert "neither a folder nor an archive" in refused("prepare", "bmc", tmp_path / "x.txt", "-o", out)
    (tmp_path / "x.zip").write_bytes(b"PK nothing")
    assert "cannot be unpacked (File is not a zip file)" in refused("prepare", "bmc", tmp_path / "x.zip", "-o", out)
    assert "can be labelled with 21" in refused("prepare", "bmc", tmp_path, "-o", out, "--classes", "8")


def test_room_on_the_disk_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(mll23(tmp_path / "in"), tmp_path / "mll23.zip")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    assert "GB are free" in refused("prepare", "mll23", archive, "-o", tmp_path / "out")
