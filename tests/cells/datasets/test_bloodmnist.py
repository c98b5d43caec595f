"""BloodMNIST, on a miniature of its published file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytosae.cells.datasets import find
from support.pickles import Calls
from support.published import RNG, ask, refused, table


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


def test_bloodmnist_is_fetched_in_the_largest_size_alone() -> None:
    blood = find("bloodmnist")
    assert blood.fetched == "bloodmnist_224.npz"
    assert {file.checksum.split(":")[0] for file in blood.files if file.checksum} == {"md5"}
