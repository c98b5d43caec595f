"""SegmentationWBC, on a miniature of its published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import patch_tissues
from cytosae.cells.datasets.preparation import NO_CLASS, NO_IMAGE
from support.published import ask, picture, table


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
