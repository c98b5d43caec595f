"""Folders of every shape: labels, splits, links, and every file a cell or named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import list_cells
from cytosae.errors import CytosaeError
from cytosae.study import list_to
from support.sources import columns_of, picture, refusal


def shape(folder: Path, *names: str) -> tuple[dict[str, tuple[Any, Any]], str]:
    """Label and split of each image of a folder that holds these, and what was said."""
    for shade, name in enumerate(names):
        picture(folder / name, shade)
    listing = list_cells(folder)
    labels, splits = columns_of(listing.cells, "label", "split")
    return dict(zip(listing.cells["cell_id"], zip(labels, splits, strict=True), strict=True)), " ".join(listing.remarks)


def test_split_folders(tmp_path: Path) -> None:
    found, said = shape(tmp_path, "train/blast/0.png", "Train/mono/0.png", "VALID/blast/1.png", "holdout/mono/2.png")
    assert found == {
        "train/blast/0.png": ("blast", "train"),
        "Train/mono/0.png": ("mono", "train"),
        "VALID/blast/1.png": ("blast", "val"),
        "holdout/mono/2.png": ("mono", "test"),
    }
    assert "SPLIT/CLASS" in said
    assert "2 classes (blast, mono)" in said
    assert "train 2" in said


def test_split_below_class_and_below_one_folder_and_without_classes(tmp_path: Path) -> None:
    found, said = shape(tmp_path / "1", "blast/train/0.png", "mono/test/0.png")
    assert list(found.values()) == [("blast", "train"), ("mono", "test")]
    assert "CLASS/SPLIT" in said
    found, said = shape(tmp_path / "2", "images/train/blast/0.png", "images/dev/mono/0.png")
    assert list(found.values()) == [("mono", "val"), ("blast", "train")]
    found, said = shape(tmp_path / "3", "train/0.png", "test/1.png")
    assert list(found.values()) == [(None, "test"), (None, "train")]
    assert "SPLIT" in said
    assert "no classes" in said


def test_folders_that_are_not_consistent_keep_the_first_as_label(tmp_path: Path) -> None:
    found, said = shape(tmp_path / "1", "train/blast/0.png", "mono/0.png")
    assert set(found.values()) == {("train", None), ("mono", None)}
    assert "'train'" in said
    found, said = shape(tmp_path / "2", "blast/P1/0.png", "mono/P2/deep/0.png", "x.png")
    assert set(found.values()) == {("blast", None), ("mono", None), (None, None)}
    assert "2 images lie in folders below the class folder" in said
    assert "1 images lie in no class folder" in said
    found, said = shape(tmp_path / "3", "blast/0.png", "mono/0.png")
    assert said == ""


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    source = tmp_path / "s"
    picture(source / "a" / "1.png")
    picture(tmp_path / "else" / "2.png")
    picture(tmp_path / "else" / "deep" / "3.png")
    (source / "b").symlink_to(tmp_path / "else")
    (source / "B").symlink_to(tmp_path / "else")
    (source / "a" / "up").symlink_to(source)
    (source / "a" / "self").symlink_to(source / "a" / "self")
    (tmp_path / "else" / "back").symlink_to(tmp_path)
    (source / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (source / "linked.png").symlink_to(tmp_path / "else" / "2.png")
    os.mkfifo(source / "pipe.png")
    listing = list_cells(source)
    assert sorted(Path(path).name for path in listing.cells["path"]) == ["1.png", "2.png", "3.png", "linked.png"]
    assert {"B/2.png", "B/deep/3.png"} <= set(listing.cells["cell_id"])
    reasons = dict(zip(listing.rejected["cell_id"], listing.rejected["reason"], strict=True))
    assert "listed already" in reasons["b"]
    assert "folder above" in reasons["a/up"]
    assert "missing" in reasons["gone.png"]
    assert "regular" in reasons["pipe.png"]
    assert "a/self" in reasons


def test_every_file_is_a_cell_or_named(folder: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "w.webp")
    Image.new("RGB", (9, 9)).save(folder / "j", format="JPEG")
    Image.new("RGB", (9, 9)).save(folder / "p.PNG~", format="PNG")
    Image.new("RGB", (9, 9)).save(folder / "camera.nef", format="TIFF")
    for name in (
        "notes.txt",
        "t.csv",
        "scan.dat",
        ".DS_Store",
        "Thumbs.db",
        "._a.png",
        "__MACOSX/x/a.png",
        ".git/b.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 99)
    cells, figures = list_to(folder, folder / "out" / "cells.parquet")
    rejected = pd.read_csv(folder / "out" / "cells.rejected.csv").set_index("cell_id")["reason"]
    assert {"a.png", "b.png", "c.png", "j", "p.PNG~"} <= set(cells["cell_id"])
    named = set(cells["cell_id"]) | set(rejected.index)
    assert {"w.webp", "camera.nef", "notes.txt", "t.csv", "scan.dat"} <= named
    assert rejected["notes.txt"] == "not an image (.txt)"
    assert "TIFF" in rejected["camera.nef"]
    (hidden,) = [reason for reason in rejected if "hidden" in reason]
    assert "5 such" in hidden
    assert figures["reasons"]["not an image"] == 3
    assert figures["rejected"] == sum(figures["reasons"].values()) == len(rejected)


def test_what_was_left_out_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("x")
    (folder / "d.png").write_bytes(b"")
    list_to(folder, folder / "out" / "cells.parquet")
    said = " ".join(capsys.readouterr().err.split())
    assert "2 left out (1 file is empty, 1 not an image)" in said
    with pytest.raises(CytosaeError, match=r"1 of 4 cells"):
        list_cells(folder, strict=True)
    (folder / "d.png").unlink()
    assert len(list_cells(folder, strict=True).cells) == 3  # a note beside the images is no unreadable cell


def test_a_closed_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(folder / "shut" / "0.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_cells(folder)
    assert len(listing.cells) == 3
    assert listing.rejected["cell_id"].tolist() == ["shut"]
    assert "Permission denied" in listing.rejected["reason"][0]
    assert "Permission denied" in refusal(folder / "shut")


def test_figures_of_a_study_inside_the_source_are_no_cells(folder: Path) -> None:
    picture(folder / "study" / "report" / "figures" / "overview.png")
    (folder / "study" / "report" / "manifest.json").write_text('{"stage": "report", "cytosae": "1"}')
    listing = list_cells(folder)
    assert len(listing.cells) == 3
    assert listing.rejected["cell_id"].tolist() == ["study/report"]
    picture(folder / "own" / "d.png")
    for text in ("[]", "[" * 100_000, "9" * 5000):
        (folder / "own" / "manifest.json").write_text(text)
        assert len(list_cells(folder).cells) == 4


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "x.svg").write_bytes(b"<svg/>")
    message = refusal(tmp_path)
    assert "holds no image" in message
    assert "1 not an image (.svg)" in message


@pytest.mark.parametrize(
    "names", [("train_set", "test_set"), ("TrainingSet", "TestSet"), ("Train", "Test-A"), ("train1", "test 2")]
)
def test_names_of_splits_as_people_write_them(tmp_path: Path, names: tuple[str, str]) -> None:
    found, said = shape(tmp_path, *(f"{name}/blast/{name}.png" for name in names))
    assert set(found.values()) == {("blast", "train"), ("blast", "test")}
    assert "SPLIT/CLASS" in said


def test_splits_below_several_folders_and_beside_a_stray_image(tmp_path: Path) -> None:
    found, said = shape(tmp_path / "deep", "x/data/train/blast/0.png", "x/data/test/mono/1.png")
    assert sorted(found.values()) == [("blast", "train"), ("mono", "test")]
    assert "deep/x/data/SPLIT/CLASS" in said
    found, said = shape(tmp_path / "stray", "train/blast/0.png", "test/mono/1.png", "plot.png")
    assert found["plot.png"] == (None, None)
    assert found["train/blast/0.png"] == ("blast", "train")
    assert "1 images lie in no class folder" in said


def test_folders_of_systems_and_unfinished_copies_are_no_cells(tmp_path: Path) -> None:
    kept = shape(
        tmp_path, "a/1.png", "@eaDir/1.png", "$RECYCLE.BIN/2.png", "lost+found/3.png", "System Volume Information/4.png"
    )
    picture(tmp_path / "a" / "5.png", 5)
    (tmp_path / "a" / "5.png").rename(tmp_path / "a" / "5.png.part")
    assert set(kept[0]) == {"a/1.png"}
    rejected = list_cells(tmp_path).rejected.set_index("cell_id")["reason"]
    assert "unfinished copy" in rejected["a/5.png.part"]


def test_a_folder_of_masks_is_said(tmp_path: Path) -> None:
    assert "'masks' is taken for a class" in shape(tmp_path, "images/1.png", "masks/1.png")[1]


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(45):
            os.mkdir("d" * 100)  # noqa: PTH102 (relative to the folder below)
            os.chdir("d" * 100)
        Path("b.png").write_bytes(b"x")
    finally:
        os.chdir(here)
    listing = list_cells(tmp_path)
    assert len(listing.cells) == 1
    assert any("too long" in reason for reason in listing.rejected["reason"])


def test_why_a_file_is_missing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    (tmp_path / "t.csv").write_text("path\na.png\nA.PNG\nC:\\cells\\a.png\n")
    reasons = list_cells(tmp_path / "t.csv").rejected.set_index("cell_id")["reason"]
    assert "there is 'a.png'" in reasons["A.PNG"]
    assert "a path of Windows" in reasons["C:\\cells\\a.png"]


def test_a_data_set_keeps_its_name_where_its_folder_gets_another(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png", 1)
    picture(tmp_path / "one" / "b.png", 2)
    list_to(tmp_path / "one", tmp_path / "cells.parquet")
    (tmp_path / "one").rename(tmp_path / "two")
    cells, figures = list_to(tmp_path / "two", tmp_path / "cells.parquet")
    assert set(cells["dataset"]) == {"one"}
    assert figures["why"] is None
    assert any("still called 'one'" in remark for remark in figures["remarks"])
    for name, shade in (("a.png", 9), ("b.png", 8)):  # other images are another data set
        picture(tmp_path / "two" / name, shade)
    assert set(list_to(tmp_path / "two", tmp_path / "cells.parquet")[0]["dataset"]) == {"two"}
