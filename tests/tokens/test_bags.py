"""Embeddings without images: a bag of cells for each patient, from tokens to a classification."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from cytosae.cohort import read_barcodes
from cytosae.errors import CytosaeError
from cytosae.tokens import TokenStore, bag_cells
from support.commands import ask, ask_with_messages, refused

WIDTH = 12


def bags(folder: Path, patients: int = 24, coords: bool = True) -> tuple[Path, dict[str, np.ndarray], Path]:
    """A folder of bags, what is in each, and the table of the patients; the diagnosis moves three dimensions."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    written, rows = {}, []
    for index in range(patients):
        name, n = f"P{index:02}", 5 + index % 4
        ill = index % 2 == 0
        written[name] = rng.normal(size=(n, WIDTH)).astype(np.float32)
        written[name][:, :3] += 3 * ill
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"] = written[name]
            if coords:
                file["coords"] = rng.integers(0, 1000, (n, 2))
        rows.append((f"{name}.h5", "AML" if ill else "healthy", 30 + index))
    table = folder.parent / "patients.csv"
    pd.DataFrame(rows, columns=["slide_id", "diagnosis", "age"]).to_csv(table, index=False)
    return folder, written, table


def test_bags_are_tokens_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder, written, table = bags(tmp_path / "uni")
    command = ["tokens", "import", folder, "--patients", table, "-o", tmp_path / "tokens", "--store-dtype", "bfloat16"]
    found, messages = ask_with_messages(*command, "--cells-per-shard", "17")
    assert found["grid"] == "1x1"
    assert "without images" in messages
    store = TokenStore(tmp_path / "tokens")
    assert store.n_cells == sum(map(len, written.values()))
    tokens = next(iter(store.stream([np.arange(store.n_cells)])))[:, 1].float().numpy()
    np.testing.assert_allclose(tokens, np.concatenate(list(written.values())), atol=0.05)
    cells = store.cells
    assert cells["dataset"].unique().tolist() == ["uni"]
    assert cells["patient"].tolist() == [name for name, cells in written.items() for _ in cells]
    assert cells["cell_id"].is_unique
    assert {"coords_x", "coords_y", "age"} <= set(cells)
    assert cells.groupby("patient")["diagnosis"].first().tolist() == ["AML", "healthy"] * 12


def test_from_bags_to_a_classification(tmp_path: Path) -> None:
    folder, _, table = bags(tmp_path / "bags", coords=False)
    ask("tokens", "import", folder, "--patients", table, "-o", tmp_path / "tokens")
    training = [
        "--expansion",
        "2",
        "--images",
        "1600",
        "--batch-images",
        "16",
        "--learning-rate",
        "0.01",
        "--l1",
        "0.01",
    ]
    ask("train", tmp_path / "tokens", "-o", tmp_path / "sae", *training)
    ask(
        "encode",
        tmp_path / "tokens" / "cells.parquet",
        "--tokens",
        tmp_path / "tokens",
        "--sae",
        tmp_path / "sae",
        "-o",
        tmp_path / "concepts",
    )
    ask("barcodes", tmp_path / "concepts", "-o", tmp_path / "barcodes.h5ad")
    assert read_barcodes(tmp_path / "barcodes.h5ad").obs["age"].tolist() == list(range(30, 54))
    quick = ["--repeats", "1", "--splits", "3", "--step", "3", "--permutations", "0", "--bootstrap", "50"]
    found = ask("classify", tmp_path / "barcodes.h5ad", "--tokens", tmp_path / "tokens", *quick)
    values = {row["method"]: row["value"] for row in found["methods"]}
    assert values["mean patch token"] > 0.9
    assert values["barcodes"] > 0.7
    assert "colour histogram" not in values


def test_what_is_no_bag_is_refused(tmp_path: Path) -> None:
    folder, *_ = bags(tmp_path / "bags", patients=3)
    single = folder / "P00.h5"
    assert "needs --cells" in refused("tokens", "import", single, "-o", tmp_path / "t")
    (tmp_path / "none").mkdir()
    assert "no .h5 files" in refused("tokens", "import", tmp_path / "none", "-o", tmp_path / "t")
    other = tmp_path / "others.csv"
    for content, text in (
        ("name,diagnosis\nP00,AML\n", "no column of patients"),
        ("patient,diagnosis\nX,AML\n", "none of its patients, such as 'X'"),
        ("patient,diagnosis\nP00,AML\nP00,AML\n", "has two rows"),
    ):
        other.write_text(content)
        with pytest.raises(CytosaeError, match=text):
            bag_cells(folder, other)
    with h5py.File(folder / "P01.h5", "a") as file:
        del file["coords"]
        file["coords"] = np.zeros((2, 2))
    with pytest.raises(CytosaeError, match="need"):
        bag_cells(folder)
    with h5py.File(folder / "P01.h5", "w") as file:
        file["features"] = np.zeros((4, 7), np.float32)
    assert "All bags have to be of one model" in refused("tokens", "import", folder, "-o", tmp_path / "t")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            {"embeddings": np.zeros((3, WIDTH))},
            "needs a data set 'features' with a row for each cell; it has embeddings",
        ),
        ({"features": np.float32(1)}, "needs a data set 'features' with a row for each cell"),
        ({"features": np.zeros((2, WIDTH)), "coords": np.array([[b"a", b"b"]] * 2)}, "2 cells need numbers"),
    ],
)
def test_a_bag_says_what_it_lacks(tmp_path: Path, content: dict[str, np.ndarray], why: str) -> None:
    with h5py.File(tmp_path / "P00.h5", "w") as file:
        for name, values in content.items():
            file[name] = values
    with pytest.raises(CytosaeError, match="P00.h5.*" + why):
        bag_cells(tmp_path)
