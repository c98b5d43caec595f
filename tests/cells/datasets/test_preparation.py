"""Published data sets: each reader on a miniature of its published layout, archives, downloads, and the commands."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from cytosae.artefacts import PARTIAL, read_json
from cytosae.cells import COLUMNS, list_cells, patch_tissues, read_attributes
from cytosae.cells import datasets as published
from cytosae.cells.datasets import DATASETS, RemoteFile, find, prepare
from cytosae.cells.datasets.preparation import NO_CLASS, NO_IMAGE, OTHER_ARCHIVE
from cytosae.cells.walk import ABOVE, BROKEN, HIDDEN, NO_FILE, NOT_UTF8, TWICE
from cytosae.cli.commands import app
from cytosae.errors import CytosaeError
from support.pickles import Calls
from support.published import RNG, acevedo, ask, bccd, images_by_code, mll23, odd_files, picture, refused, table, zipped

# --- what is said of them ---------------------------------------------------------------------------------------------


def test_classes_are_the_published_ones_and_their_counts_add_up() -> None:
    assert list(DATASETS)[:5] == ["mll23", "acevedo", "matek19", "bmc", "hehr"]
    numbers = {"mll23": 18, "acevedo": 13, "matek19": 15, "bmc": 21, "hehr": 5, "bloodmnist": 8, "bccd": 5}
    for name, number in numbers.items():
        assert len(DATASETS[name].classes) == number, name
    for one in DATASETS.values():
        assert len({c.code for c in one.classes}) == len(one.classes) == len({c.label for c in one.classes})
        counts = [c.images for c in one.classes]
        if one.images is not None and all(count is not None for count in counts):
            assert sum(counts) == one.images, one.name
        assert one.citation
        assert one.source.startswith("https://")
        assert one.by_hand
        assert all(file.address.startswith("https://") for file in one.files)
    known = sum(c.images or 0 for c in DATASETS["matek19"].classes)
    assert DATASETS["matek19"].images == known + 70  # those of the four classes whose counts are not at hand
    # The order of the release's class lists, which its published statistics count by.
    for name in ("mll23", "matek19", "bmc"):
        codes = [c.code for c in DATASETS[name].classes]
        assert codes == sorted(codes), name


def test_groupings_of_acevedo() -> None:
    acevedo = find("acevedo")
    assert len(set(acevedo.labels(8).values())) == 8
    eleven = acevedo.labels()
    assert len(set(eleven.values()) - {None}) == 11
    assert [code for code, label in eleven.items() if label is None] == ["IG", "NEUTROPHIL"]
    assert len(set(acevedo.labels(13).values())) == 13
    assert acevedo.labels(8)["BNE"] == "neutrophil"
    with pytest.raises(CytosaeError, match="--classes 5: acevedo can be labelled with 8, 11, 13"):
        acevedo.labels(5)
    with pytest.raises(CytosaeError, match="--classes 5: bmc can be labelled with 21"):
        find("bmc").labels(5)
    assert find("bmc").labels(21)["BLA"] == "blast"


def test_list_and_info() -> None:
    listed = ask("list")
    assert list(listed) == list(DATASETS)
    assert listed["hehr"]["patients"] == 189
    info = ask("info", "bmc")
    assert info["classes"][0] == {"code": "ABE", "label": "abnormal_eosinophil", "images": None}
    assert info["licence"] == "CC BY 4.0"
    assert "MYB_05527" in info["oddities"][0]
    assert ask("info", "hehr")["licence"] is None  # not verified, so not stated
    text = CliRunner().invoke(app, ["datasets", "list"]).output
    assert all(name in text for name in DATASETS)
    assert "17,092" in CliRunner().invoke(app, ["datasets", "info", "acevedo"]).output
    assert "Did you mean mll23?" in refused("info", "mll32")


# --- the published layouts --------------------------------------------------------------------------------------------


def test_mll23(tmp_path: Path) -> None:
    source = mll23(tmp_path / "MLL23_dataset")
    (source / "smudge_cell").mkdir()  # a class folder that is empty
    picture(source / "martian" / "martian_0001.TIF")  # one of no class
    odd = odd_files(source)
    summary = ask("prepare", "mll23", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert Counter(cells["label"]) == dict.fromkeys(["basophil", "myeloblast", "erythroblast", "band_neutrophil"], 2)
    assert set(cells["code"]) == {"basophil", "myeloblast", "normoblast", "neutrophil_band"}
    assert cells["cell_id"].iloc[0] == "mll23/basophil/basophil_0001.TIF"
    assert (cells["dataset"] == "mll23").all()
    assert list(cells.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert len(summary["missing"]) == 14
    assert "smudge_cell" in summary["missing"]
    assert summary["classes"][0] == {"code": "basophil", "label": "basophil", "found": 2, "published": 616}
    assert summary["unknown_folders"] == {"MLL23_dataset/martian": 1}
    assert summary["left_out"] == {HIDDEN: 4, NO_CLASS: 1, NO_IMAGE: 1}
    left = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert len(left) == odd + 1
    assert "martian_0001.TIF" in left["path"].iloc[left["reason"].tolist().index(NO_CLASS)]
    written = read_json(tmp_path / "out" / "dataset.json")
    assert {key: summary[key] for key in written} == written
    assert written["licence"] == "CC BY 4.0"
    text = CliRunner().invoke(app, ["datasets", "prepare", "mll23", str(source), "-o", str(tmp_path / "out")]).output
    assert "2 of 616" in text
    assert "1 images in 'MLL23_dataset/martian' are of no published class" in text
    for path in pd.read_csv(tmp_path / "out" / "left_out.csv")["path"]:
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    assert ask("prepare", "mll23", source, "-o", tmp_path / "out")["left_out"] == {}
    assert not (tmp_path / "out" / "left_out.csv").exists()


@pytest.mark.parametrize("inside", ["", "MLL23_dataset", "MLL23_dataset/basophil"])
def test_a_level_too_high_or_too_low(tmp_path: Path, inside: str) -> None:
    mll23(tmp_path / "download" / "MLL23_dataset")
    prepare(find("mll23"), tmp_path / "download" / inside, tmp_path / "out")
    cells = table(tmp_path / "out")
    assert set(cells["code"]) == ({"basophil"} if inside.endswith("basophil") else {
        "basophil", "myeloblast", "normoblast", "neutrophil_band"
    })  # fmt: skip
    assert "mll23/basophil/basophil_0001.TIF" in set(cells["cell_id"])  # the same wherever it lies


def test_the_innermost_class_folder_counts(tmp_path: Path) -> None:
    source = mll23(tmp_path / "monocyte")  # somebody's name for the whole
    assert "monocyte" not in images_by_code(ask("prepare", "mll23", source, "-o", tmp_path / "out"))


@pytest.mark.parametrize(("classes", "labels", "unlabelled"), [(8, 8, 0), (None, 11, 2), (13, 13, 0)])
def test_acevedo(tmp_path: Path, classes: int | None, labels: int, unlabelled: int) -> None:
    source = acevedo(tmp_path / "in")
    pbc = source / "PBC_dataset_normal_DIB"
    picture(pbc / "platelet" / "UNHEARD_1.jpg")
    (pbc / "basophil" / "BA_8.jpg").rename(pbc / "basophil" / "BA_8.JPG")
    option = () if classes is None else ("--classes", classes)
    summary = ask("prepare", "acevedo", source, "-o", tmp_path / "out", *option)
    cells = table(tmp_path / "out").set_index("cell_id")
    assert len(cells) == 14
    assert cells["label"].nunique() == labels
    assert summary["unlabelled"] == unlabelled == cells["label"].isna().sum()
    assert cells["subtype"].nunique() == 13
    band = cells.loc["acevedo/neutrophil/BNE_1.jpg"]
    assert (band["code"], band["subtype"]) == ("BNE", "band_neutrophil")
    assert band["label"] == ("neutrophil" if classes == 8 else "band_neutrophil")
    assert summary["missing"] == []
    assert summary["unknown_folders"] == {"in/PBC_dataset_normal_DIB/platelet": 1}


def test_real_cells_of_acevedo_have_the_labels_that_the_project_knows(real_cells: Path, tmp_path: Path) -> None:
    known = pd.read_csv(real_cells / "cells.csv").query("dataset == 'pbc'").set_index("path")
    cells = find("acevedo").read(published.Tree.of(real_cells / "pbc"), tmp_path, 8).cells
    assert len(cells) == 8191
    ours = cells.set_index("pbc/" + cells["cell_id"].str.split("/", n=1).str[1]).reindex(known.index)
    for column in ("label", "subtype"):
        assert ours[column].tolist() == known[column].tolist()


def test_matek19(tmp_path: Path) -> None:
    source = tmp_path / "PKG - AML-Cytomorphology"
    cells_folder = source / "AML-Cytomorphology"
    for name in ("BAS/BAS_0001.tiff", "EBO/EBO_0014.tiff", "MYO/MYO_0001.tiff", "NGS/NGS_0001.TIFF"):
        picture(cells_folder / name, edge=40, mode="RGBA")
    picture(source / "data" / "augmented" / "BAS" / "BAS_0001_r90.tiff")
    (source / "annotations.dat").write_text(
        "BAS/BAS_0001.tiff BAS UNC UNC\nEBO/EBO_0014.tiff EBO LYT EBO\nMYO/MYO_0001.tiff MYB nan nan\n"
        "NGS/NGS_0001.tiff NGS nan nan\n"
    )
    (source / "abbreviations.txt").write_text("BAS Basophil\n")
    summary = ask("prepare", "matek19", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("code")
    assert cells["label"].to_dict() == {
        "BAS": "basophil", "EBO": "erythroblast", "MYO": "myeloblast", "NGS": "segmented_neutrophil"
    }  # fmt: skip
    assert cells.loc["BAS", "reannotation_first"] == "not_assigned"
    assert cells.loc["EBO", ["annotation", "reannotation_first", "reannotation_second"]].tolist() == [
        "erythroblast", "lymphocyte", "erythroblast"
    ]  # fmt: skip
    assert pd.isna(cells.loc["NGS", "reannotation_first"])
    assert cells.loc["NGS", "annotation"] == "segmented_neutrophil"
    assert summary["notes"] == ["1 images lie in the folder of another class than annotations.dat says"]
    assert summary["left_out"] == {NO_CLASS: 1}  # the augmented copy; annotations and abbreviations are known
    listing = list_cells(tmp_path / "out" / "cells.csv")  # the alpha channel is no obstacle
    assert (len(listing.cells), len(listing.rejected)) == (4, 0)

    # One level too low the annotations lie beside the source.
    prepare(find("matek19"), cells_folder, tmp_path / "low")
    assert table(tmp_path / "low")["reannotation_first"].notna().sum() == 2
    (source / "annotations.dat").write_text("BAS/BAS_0001.tiff BAS\n")
    assert "row 1 has 2 columns instead of 4" in refused("prepare", "matek19", source, "-o", tmp_path / "out")
    (source / "annotations.dat").unlink()
    assert "annotations.dat is not there" in ask("prepare", "matek19", source, "-o", tmp_path / "out")["notes"][0]


def test_bmc_and_its_broken_file_through_the_listing(tmp_path: Path) -> None:
    source = tmp_path / "BM_cytomorphology_data"
    for name in (
        "ABE/ABE_00001.jpg",
        "MYB/0001-1000/MYB_00001.jpg",
        "MYB/5001-6000/MYB_05528.jpg",
        "OTH/OTH_00001.jpg",
    ):
        picture(source / name, edge=25)
    (source / "MYB" / "5001-6000" / "MYB_05527.jpg").write_bytes(b"\xff\xd8\xff broken")
    picture(source / "XYZ" / "0001-1000" / "XYZ_00001.jpg")
    summary = ask("prepare", "bmc", source, "-o", tmp_path / "out")
    assert images_by_code(summary) == {"ABE": 1, "MYB": 3, "OTH": 1}
    assert summary["unknown_folders"] == {"BM_cytomorphology_data/XYZ/0001-1000": 1}
    assert "bmc/MYB/5001-6000/MYB_05527.jpg" in set(table(tmp_path / "out")["cell_id"])
    target = tmp_path / "study" / "cells.parquet"
    result = CliRunner().invoke(app, ["cells", str(tmp_path / "out" / "cells.csv"), "-o", str(target), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout[result.stdout.index("{") :])["rejected"] == 1
    rejected = pd.read_csv(target.with_name("cells.rejected.csv"))
    assert rejected["path"].tolist() == [str(source / "MYB" / "5001-6000" / "MYB_05527.jpg")]
    listed = pd.read_parquet(target)
    assert Counter(listed["label"]) == {"myelocyte": 2, "abnormal_eosinophil": 1, "other_cell": 1}
    assert set(listed["code"]) == {"ABE", "MYB", "OTH"}


HEHR_TABLE = (
    "patient_id,sex_1f_2m,age,bag_label,instance_count,leucocytes_per_¬µl,pb_myeloblast\n"
    "AEC,1.0,61,PML_RARA,2,1200.0,40\n007,2.0,35,control,2,,0\nZZZ,2.0,50,NPM1,3,900,10\n"
)


def hehr(folder: Path) -> Path:
    for patient in ("PML_RARA/AEC", "control/007", "NPM1/AAA"):
        for number in (0, 10):
            picture(folder / "data" / patient / f"image_{number}.tif", edge=14)
    (folder / "metadata.csv").write_text(HEHR_TABLE, encoding="utf-8")
    return folder


@pytest.mark.parametrize("inside", ["", "data"])
def test_hehr(tmp_path: Path, inside: str) -> None:
    source = hehr(tmp_path / "hehr")
    (source / "data" / "control" / "007" / "fnl34_bn_features_layer_7.npy").write_bytes(b"features")
    picture(source / "data" / "BCR_ABL" / "QQQ" / "image_0.tif")
    summary = ask("prepare", "hehr", source / inside, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert Counter(zip(cells["diagnosis"], cells["patient"], strict=True)) == {
        ("PML_RARA", "AEC"): 2, ("healthy", "007"): 2, ("NPM1", "AAA"): 2
    }  # fmt: skip
    assert cells["label"].isna().all()
    by_patient = cells.drop_duplicates("patient").set_index("patient")
    assert by_patient["sex"].dropna().to_dict() == {"AEC": "female", "007": "male"}
    assert by_patient.loc["AEC", ["age", "leucocytes_per_ul", "pb_myeloblast"]].tolist() == [61, 1200, 40]
    assert pd.isna(by_patient.loc["AAA", "age"])
    assert summary["diagnoses"] == {"NPM1": 2, "PML_RARA": 2, "healthy": 2}
    assert summary["patients"] == 3
    assert summary["missing"] == ["CBFB_MYH11", "RUNX1_RUNX1T1"]
    assert summary["left_out"] == {NO_CLASS: 1, NO_IMAGE: 1}
    assert summary["notes"] == [
        "1 patients are not in metadata.csv (first: AAA)",
        "1 patients of metadata.csv have no images (first: ZZZ)",
    ]


def test_hehr_folder_and_table_that_contradict(tmp_path: Path) -> None:
    source = hehr(tmp_path / "hehr")
    (source / "metadata.csv").write_text("patient_id,bag_label\nAEC,NPM1\n007,control\nAAA,NPM1\n")
    notes = ask("prepare", "hehr", source, "-o", tmp_path / "out")["notes"]
    assert notes == ["1 patients lie in the folder of another diagnosis (first: AEC)"]
    latin = "patient_id,leucocytes_per_µl\n007,4.5\n".encode("latin-1")
    (source / "metadata.csv").write_bytes(latin)
    ask("prepare", "hehr", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert cells.loc[cells["patient"] == "007", "leucocytes_per_ul"].tolist() == [4.5, 4.5]
    (source / "metadata.csv").write_text("")
    assert "the table is empty" in refused("prepare", "hehr", source, "-o", tmp_path / "out")
    (source / "metadata.csv").write_text("name,age\nAEC,3\n")
    assert "no column 'patient_id' (found: name, age)" in refused("prepare", "hehr", source, "-o", tmp_path / "out")


def bloodmnist(path: Path, edge: int = 28, **changed: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = RNG.integers(0, 255, (count, edge, edge, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = RNG.integers(0, 8, (count, 1), dtype=np.uint8)
    arrays |= changed
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return arrays


BLOOD = (
    "basophil", "eosinophil", "erythroblast", "immature_granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet"
)  # fmt: skip


@pytest.mark.parametrize("as_file", [True, False])
def test_bloodmnist(tmp_path: Path, as_file: bool) -> None:
    arrays = bloodmnist(tmp_path / "in" / "bloodmnist_64.npz", 64)
    if not as_file:
        bloodmnist(tmp_path / "in" / "bloodmnist.npz")
    source = tmp_path / "in" / ("bloodmnist_64.npz" if as_file else "")
    summary = ask("prepare", "bloodmnist", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert Counter(cells["split"]) == {"train": 5, "val": 2, "test": 3}
    for split in ("train", "val", "test"):
        for number, (pixels, code) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            cell = cells.loc[f"bloodmnist/{split}/{number:05d}"]
            np.testing.assert_array_equal(np.asarray(Image.open(cell["path"])), pixels)
            assert cell["label"] == BLOOD[code[0]]
    assert summary["left_out"] == {}
    assert len(summary["notes"]) == (0 if as_file else 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}
    ask("prepare", "bloodmnist", source, "-o", tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}


def test_bloodmnist_never_unpickles_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    evil = np.empty((2, 1), dtype=object)
    evil[:] = Calls(open, str(trap), "w")
    path = tmp_path / "bloodmnist.npz"
    for changed in ({"val_labels": evil}, {"val_images": evil}):
        bloodmnist(path, **changed)
        assert "not a file of BloodMNIST" in refused("prepare", "bloodmnist", path, "-o", tmp_path / "out")
        assert not trap.exists()
    bloodmnist(path, test_images=np.zeros((1, 28, 28, 3), np.uint8))
    assert "with 3 labels" in refused("prepare", "bloodmnist", path, "-o", tmp_path / "out")
    bloodmnist(path, test_images=np.zeros((3, 28, 28, 3), np.float32))
    assert "test_images is float32" in refused("prepare", "bloodmnist", path, "-o", tmp_path / "out")
    bloodmnist(path, test_labels=np.array([[1], [9], [2]], np.uint8))
    assert not list((tmp_path / "out").iterdir())
    assert "labels that are not published: 9" in ask("prepare", "bloodmnist", path, "-o", tmp_path / "out")["notes"]
    path.write_bytes(path.read_bytes()[:3000])
    assert "not a file of BloodMNIST" in refused("prepare", "bloodmnist", path, "-o", tmp_path / "out2")


ATTRIBUTES = "cell_size,cell_shape,nucleus_shape,nuclear_cytoplasmic_ratio,chromatin_density,cytoplasm_vacuole,cytoplasm_texture,cytoplasm_colour,granule_type,granule_colour,granularity"  # noqa: E501


def attributes_of(stem: str, folder: str, size: str) -> str:
    values = f"{size},round,irregular,low,densely,no,clear,light blue,coarse,purple,yes"
    return f"{stem}.jpg,{folder.title()},{values},PBC_dataset_normal_DIB/{folder}/{stem}.jpg\n"


def wbcatt(folder: Path) -> Path:
    rows = {
        "train": [("BA_8", "basophil", "small"), ("BNE_1", "neutrophil", "big"), ("EO_10", "eosinophil", "big")],
        "val": [("LY_11", "lymphocyte", "small")],
        "test": [("MO_12", "monocyte", "big"), ("MO_999", "monocyte", "big")],
    }
    for split, some in rows.items():
        text = f"img_name,label,{ATTRIBUTES},path\n" + "".join(attributes_of(*row) for row in some)
        (folder / f"pbc_attr_v1_{split}.csv").write_text(text)
    return folder


def test_wbcatt(tmp_path: Path) -> None:
    source = wbcatt(acevedo(tmp_path / "in"))
    summary = ask("prepare", "wbcatt", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert cells.shape[0] == 5
    cell = cells.loc["wbcatt/neutrophil/BNE_1.jpg"]
    assert (cell["label"], cell["subtype"], cell["split"], cell["cell_size"]) == (
        "neutrophil", "band_neutrophil", "train", "big"
    )  # fmt: skip
    assert cells.loc["wbcatt/lymphocyte/LY_11.jpg", "split"] == "val"
    assert "1 rows of the tables are about images that are not there" in summary["notes"]
    assert "9 of Acevedo's images have no attributes and are not listed" in summary["notes"]
    assert summary["left_out"] == {}
    # What `cytosae evaluate --attributes` reads, with the same cells.
    listed = list_cells(tmp_path / "out" / "cells.csv").cells
    read = read_attributes(tmp_path / "out" / "attributes.csv", listed)
    assert list(read.columns) == ["cell_size"]  # the others have one value here
    assert read["cell_size"].tolist() == [cells.loc[cell, "cell_size"] for cell in listed["cell_id"]]
    (tmp_path / "bare").mkdir()
    assert "none of the images" in refused("prepare", "wbcatt", wbcatt(tmp_path / "bare"), "-o", tmp_path / "o")
    assert "holds none of pbc_attr_v1_train.csv" in refused(
        "prepare", "wbcatt", acevedo(tmp_path / "b"), "-o", tmp_path / "o"
    )


def segmentation_wbc(folder: Path) -> Path:
    for number, edge, ids in ((1, 12, (1, 2, 139)), (2, 30, (1, 88))):
        for one in ids:
            picture(folder / f"Dataset {number}" / f"{one:03d}.bmp", edge)
            mask = np.zeros((edge, edge), np.uint8)
            mask[2:8, 2:8], mask[4:6, 4:6] = 128, 255
            Image.fromarray(mask).save(folder / f"Dataset {number}" / f"{one:03d}.png")
    Image.new("L", (9, 9)).save(folder / "Dataset 1" / "139.png")
    (folder / "Class Labels of Dataset 1.csv").write_text("image ID,class label\n1,2\n2,1\n")
    (folder / "Class Labels of Dataset 2.csv").write_text("image ID,class\n1,3\n88,5\n")
    picture(folder / "Dataset 1.png")  # an overview
    (folder / "README.md").write_text("x")
    return folder


def test_segmentation_wbc(tmp_path: Path) -> None:
    source = segmentation_wbc(tmp_path / "segmentation_WBC-master")
    summary = ask("prepare", "segmentation-wbc", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert cells["label"].dropna().to_dict() == {
        "segmentation-wbc/Dataset 1/001": "lymphocyte",
        "segmentation-wbc/Dataset 1/002": "neutrophil",
        "segmentation-wbc/Dataset 2/001": "monocyte",
        "segmentation-wbc/Dataset 2/088": "basophil",
    }
    assert Path(cells.loc["segmentation-wbc/Dataset 2/088", "path"]).name == "088.bmp"
    assert Path(cells.loc["segmentation-wbc/Dataset 2/088", "mask"]).name == "088.png"
    assert cells["laboratory"].tolist() == ["Jiangxi Tecom"] * 3 + ["CellaVision"] * 2
    assert pd.isna(cells.loc["segmentation-wbc/Dataset 1/139", "mask"])
    assert summary["masks"] == 4
    assert summary["notes"] == [
        "1 masks are of another size than the image and left out: Dataset 1/139",
        "1 images have no label",
    ]
    assert summary["left_out"] == {NO_CLASS: 2, NO_IMAGE: 1}
    shares = patch_tissues(Path(cells["mask"].iloc[0]), (1, 1), 224)
    assert shares[:, 0, 0] == pytest.approx([4 / 144, 32 / 144, 108 / 144], abs=0.01)


SIZES = {"BloodImage_00000_0": (301, 301), "BloodImage_00001_0": (284, 224), "BloodImage_00002_0": (370, 238)}


def test_bccd(tmp_path: Path) -> None:
    source = bccd(tmp_path / "BCCD_Dataset-1.0")
    summary = ask("prepare", "bccd", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert len(cells) == 6
    assert cells["label"].isna().all()
    assert summary["notes"] == ["labels.csv is not there: white cells without their kinds"]
    for name, size in SIZES.items():
        assert Image.open(cells.loc[f"bccd/{name}", "path"]).size == size
    crop = np.asarray(Image.open(cells.loc["bccd/BloodImage_00000_0", "path"])).astype(int)
    # red is the column and green the row of the field: the crop is where its box is
    assert abs(crop[20, 10, 1] - (126 + 20)) < 12
    assert abs(crop[20, 10, 0] - (225 + 10)) < 12
    assert cells["split"].dropna().to_dict() == dict.fromkeys(
        ["bccd/BloodImage_00000_0", "bccd/BloodImage_00001_0"], "train"
    )

    (source / "labels.csv").write_text(
        ',Image,Category\n0,0,NEUTROPHIL\n1,1,\n2,2,EOSINOPHIL\n3,10,"NEUTROPHIL, NEUTROPHIL"\n'
        '4,103,"EOSINOPHIL, LYMPHOCYTE"\n'
    )
    kinds = (source / "labels.csv").read_text()
    (source / "labels.csv").write_text(kinds.replace('"NEUTROPHIL, NEUTROPHIL"', "NEUTROPHIL"))
    prepare(find("bccd"), source, tmp_path / "out")
    assert table(tmp_path / "out")["label"].notna().sum() == 2  # two boxes and one name say of neither what it is
    (source / "labels.csv").write_text(kinds)
    (source / "BCCD" / "Annotations" / "BloodImage_00002.xml").write_text("<annotation><object>")
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    (source / "BCCD" / "Annotations" / "BloodImage_00001.xml").write_text(bomb)
    summary = ask("prepare", "bccd", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert cells["label"].dropna().to_dict() == dict.fromkeys(
        ["bccd/BloodImage_00000_0", "bccd/BloodImage_00010_0", "bccd/BloodImage_00010_1"], "neutrophil"
    )
    assert cells.loc["bccd/BloodImage_00103_0", "image_category"] == "EOSINOPHIL, LYMPHOCYTE"
    assert [note.split(":")[0] for note in summary["notes"]] == [
        "BloodImage_00001 is left out", "BloodImage_00002 is left out"
    ]  # fmt: skip
    images = {path.name for path in (tmp_path / "out" / "images").iterdir() if path.suffix == ".png"}
    assert images == {f"{cell.split('/')[1]}.png" for cell in cells.index}  # nothing of the first run is left


# --- archives ---------------------------------------------------------------------------------------------------------


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
    assert "was not made by this program" in refused("prepare", "mll23", source, "-o", tmp_path / "other")
    assert mine.exists()


def test_what_a_user_has_in_the_output_is_not_replaced(tmp_path: Path) -> None:
    source = bccd(tmp_path / "in")
    mine = picture(source / "images" / "mine.png")
    assert "images/mine.png: is there already and was not made" in refused("prepare", "bccd", source, "-o", source)
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


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    acevedo(tmp_path / "in")
    inner = zipped(tmp_path / "in", tmp_path / "outer" / "PBC_dataset_normal_DIB.zip")
    archive = zipped(inner.parent, tmp_path / "got" / "download.zip")
    for source, output in ((archive, tmp_path / "out"), (archive.parent, archive.parent)):
        for _ in range(2):
            summary = ask("prepare", "acevedo", source, "-o", output)
            assert summary["cells"] == 14
            assert [one["name"] for one in summary["archives"]] == ["download.zip"]
            assert summary["left_out"] == {}
            assert summary["notes"] == []
            assert sorted(path.name for path in (output / "unpacked").iterdir()) == [
                "PBC_dataset_normal_DIB",
                "download",
            ]


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_tar_archives(tmp_path: Path, ending: str) -> None:
    folder = mll23(tmp_path / "in")
    archive = tmp_path / f"mll23.{ending}"
    with tarfile.open(archive, "w:" + {"tar": "", "tar.gz": "gz", "tgz": "gz", "tar.xz": "xz"}[ending]) as opened:
        opened.add(folder, "MLL23")
    assert ask("prepare", "mll23", archive, "-o", tmp_path / "out")["cells"] == 8
    assert (tmp_path / "out" / "unpacked" / "mll23" / "MLL23" / "basophil").is_dir()
    if ending == "tar.gz":
        archive.write_bytes(archive.read_bytes()[:-200])
        assert "cannot be unpacked" in refused("prepare", "mll23", archive, "-o", tmp_path / "cut")
        assert not list((tmp_path / "cut" / "unpacked").iterdir())


@pytest.mark.parametrize(
    "name", ["../evil.TIF", "{}/evil.TIF", "basophil/../../evil.TIF", "..\\evil.TIF", "C:/evil.TIF"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_outside_of_the_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    name = name.format(tmp_path)
    archive = tmp_path / "in" / f"x.{kind}"
    archive.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("basophil/basophil_0001.TIF", b"x")
            opened.writestr(name, b"x")
    else:
        with tarfile.open(archive, "w") as opened:
            for one in ("basophil/basophil_0001.TIF", name):
                info = tarfile.TarInfo(one)
                info.size = 1
                opened.addfile(info, io.BytesIO(b"x"))
    before = set(tmp_path.rglob("*"))
    assert "lies outside" in refused("prepare", "mll23", archive, "-o", tmp_path / "in" / "out")
    new = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before}
    assert new == {"in/out", "in/out/unpacked"}


def test_a_member_whose_name_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    tar = tmp_path / "t.tar"
    with tarfile.open(tar, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.GNU_FORMAT) as opened:
        info = tarfile.TarInfo("basophil/BA_\udcff.png")
        info.size = 1
        opened.addfile(info, io.BytesIO(b"x"))
    said = refused("prepare", "acevedo", tar, "-o", tmp_path / "out")
    assert r"BA_\\xff.png' is not UTF-8" in said
    said.encode()
    assert not list((tmp_path / "out" / "unpacked").iterdir())


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


def test_links_are_refused(tmp_path: Path) -> None:
    tar = tmp_path / "x.tar"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tar, "w") as opened:
            info = tarfile.TarInfo("basophil")
            info.type, info.linkname = kind, "/etc"
            opened.addfile(info)
        assert "is a link" in (said := refused("prepare", "mll23", tar, "-o", tmp_path / "out")) or "no plain" in said
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        member = zipfile.ZipInfo("basophil")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        opened.writestr(member, "/etc")
    assert "'basophil' is a link" in refused("prepare", "mll23", tmp_path / "x.zip", "-o", tmp_path / "out")
    assert not list((tmp_path / "out" / "unpacked").iterdir())


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


# --- downloads --------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves `content` by path, and notes what was asked; can break off, and can go on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.break_after: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        data = self.server.content.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(data) and wanted:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if self.server.break_after is None else self.server.break_after
        self.wfile.write(data[start:end])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield one
        one.shutdown()


def served(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], **changes))


def remote(server: Server, name: str, data: bytes, checksum: str | None = "") -> RemoteFile:
    server.content[f"/{name}"] = data
    if checksum == "":
        checksum = "md5:" + hashlib.md5(data).hexdigest()
    return RemoteFile(name, f"{server.address}/{name}", checksum)


def test_fetch_then_prepare(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(bccd(tmp_path / "in"), tmp_path / "x.zip").read_bytes()
    served(monkeypatch, "bccd", files=(remote(server, "BCCD_Dataset-1.0.zip", data),))
    got = ask("fetch", "bccd", "-o", tmp_path / "got")
    assert got["files"] == [str(tmp_path / "got" / "BCCD_Dataset-1.0.zip")]
    assert (tmp_path / "got" / "BCCD_Dataset-1.0.zip").read_bytes() == data
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["BCCD_Dataset-1.0.zip"]
    ask("fetch", "bccd", "-o", tmp_path / "got")
    assert len(server.asked) == 1  # it is there, with the checksum
    (tmp_path / "got" / "BCCD_Dataset-1.0.zip").write_bytes(b"of somebody else, or damaged")
    assert "has another checksum" in refused("fetch", "bccd", "-o", tmp_path / "got")
    (tmp_path / "got" / "BCCD_Dataset-1.0.zip").unlink()
    ask("fetch", "bccd", "-o", tmp_path / "got")
    assert (tmp_path / "got" / "BCCD_Dataset-1.0.zip").read_bytes() == data
    for folder in ("got", "out"):  # also beside the archive
        assert ask("prepare", "bccd", tmp_path / "got", "-o", tmp_path / folder)["cells"] == 6
    result = CliRunner().invoke(app, ["datasets", "fetch", "bccd", "-o", str(tmp_path / "got")])
    assert "cytosae datasets prepare bccd" in result.output


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = RNG.bytes(3_000_000)
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", data),))
    server.break_after = 2_000_000
    message = refused("fetch", "bccd", "-o", tmp_path)
    assert "could not be downloaded" in message
    assert "What has arrived is kept" in message
    assert not (tmp_path / "a.zip").exists()
    there = (tmp_path / f".a.zip{PARTIAL}").stat().st_size
    assert there >= 1 << 20
    server.break_after = None
    ask("fetch", "bccd", "-o", tmp_path)
    assert server.asked[-1] == ("/a.zip", f"bytes={there}-")
    assert (tmp_path / "a.zip").read_bytes() == data
    # A part that is whole already, and one of something longer.
    for part in (data, data + b"more"):
        (tmp_path / "a.zip").unlink()
        (tmp_path / f".a.zip{PARTIAL}").write_bytes(part)
        ask("fetch", "bccd", "-o", tmp_path)
        assert (tmp_path / "a.zip").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_without_a_checksum_nothing_is_spliced(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", b"new content", None),))
    (tmp_path / f".a.zip{PARTIAL}").write_bytes(b"old")
    result = CliRunner().invoke(app, ["datasets", "fetch", "bccd", "-o", str(tmp_path)])
    assert (tmp_path / "a.zip").read_bytes() == b"new content"
    assert server.asked == [("/a.zip", None)]
    assert "no checksum is published for a.zip" in result.output


def test_another_checksum_is_an_error(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", b"abc", "md5:" + "0" * 32),))
    message = refused("fetch", "bccd", "-o", tmp_path)
    assert "a.zip: what was downloaded has another checksum than the published md5:000" in message
    assert not list(tmp_path.iterdir())
    served(monkeypatch, "bccd", files=(RemoteFile("b.zip", f"{server.address}/nothing", "md5:0"),))
    assert "404" in refused("fetch", "bccd", "-o", tmp_path)


def test_a_zenodo_record_says_its_files_and_checksums(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = {name: zipped(mll23(tmp_path / "in") / name, tmp_path / f"{name}.zip", tmp_path / "in").read_bytes()
                for name in ("basophil", "myeloblast")}  # fmt: skip
    files = []
    for name, data in archives.items():
        path = f"/api/records/1/files/{name}.zip/content"
        server.content[path] = data
        checksum = f"md5:{hashlib.md5(data).hexdigest()}"
        links = {"self": server.address + path}
        files.append({"key": f"{name}.zip", "size": len(data), "checksum": checksum, "links": links})
    server.content["/api/records/1"] = json.dumps({"id": 1, "files": files}).encode()
    served(monkeypatch, "mll23", record=f"{server.address}/api/records/1")
    got = ask("fetch", "mll23", "-o", tmp_path / "got", "--only", "baso*")
    assert [Path(path).name for path in got["files"]] == ["basophil.zip"]
    ask("fetch", "mll23", "-o", tmp_path / "got")
    assert images_by_code(ask("prepare", "mll23", tmp_path / "got", "-o", tmp_path / "out")) == {
        "basophil": 2,
        "myeloblast": 2,
    }
    assert "no file is named 'x*'. There are: basophil.zip, myeloblast.zip" in refused(
        "fetch", "mll23", "-o", tmp_path, "--only", "x*"
    )
    for name in ("../evil", ".bashrc"):
        files[0]["key"] = name
        server.content["/api/records/1"] = json.dumps({"files": files}).encode()
        assert "refused as the name of a file" in refused("fetch", "mll23", "-o", tmp_path / "got")
    server.content["/api/records/1"] = b"<html>"
    assert "did not say which files mll23 has" in refused("fetch", "mll23", "-o", tmp_path / "got")


def test_offline_nothing_is_downloaded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", b"abc"),))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused("fetch", "bccd", "-o", tmp_path / "got")
    assert "nothing is downloaded while HF_HUB_OFFLINE is set" in message
    assert "Download ZIP" in message
    assert not server.asked
    assert not (tmp_path / "got").exists()


def test_without_an_address_it_says_what_to_do_with_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cytosae", "datasets", "fetch", "hehr", "-o", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "https://www.cancerimagingarchive.net/collection/aml-cytomorphology_mll_helmholtz/" in done.stderr
    assert "cytosae datasets prepare hehr" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


def test_bloodmnist_is_fetched_in_the_largest_size_alone() -> None:
    blood = find("bloodmnist")
    assert blood.fetched == "bloodmnist_224.npz"
    assert {file.checksum.split(":")[0] for file in blood.files if file.checksum} == {"md5"}
