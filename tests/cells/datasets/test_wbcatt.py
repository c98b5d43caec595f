"""WBCAtt, on a miniature of its published tables."""

from __future__ import annotations

from pathlib import Path

from cytosae.cells import list_cells, read_attributes
from support.published import acevedo, ask, refused, table

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
