"""`cytosae label`: cell types of new cells by a study with labels; its table is taken by `run` and `classify`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import read_cells
from support.commands import ask, refused

QUICK = ["--repeats", "1", "--splits", "3", "--step", "3", "--permutations", "0", "--bootstrap", "50"]


@pytest.fixture(scope="module")
def answered(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    """The cells of the study itself, without their labels for every second one, labelled by the study."""
    folder = tmp_path_factory.mktemp("labels")
    cells = read_cells(drawn_study / "cells.parquet")
    columns = ["cell_id", "path", "dataset", "patient", "diagnosis", "label"]
    cells.loc[::2, "label"] = None
    cells[columns].to_csv(folder / "cells.csv", index=False)
    command = ["label", folder / "cells.csv", "--from", drawn_study, "-o", folder / "out", "--accuracy", "0.8"]
    return ask(*command), folder


def test_labels_and_what_is_left_open(answered: tuple[dict[str, object], Path], drawn_study: Path) -> None:
    found, folder = answered
    table = pd.read_csv(folder / "out" / "labels.csv", dtype={"label": object})
    assert len(table) == found["cells"] == found["labelled"] + found["abstained"]
    chances = table[[name for name in table if name.startswith("p ")]]
    assert chances.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (chances.idxmax(axis=1).str.removeprefix("p ") == table["predicted"]).all()
    sure = table["probability"] >= found["threshold"]
    assert (table["label"].notna() == sure).all()
    assert (table.loc[sure, "label"] == table.loc[sure, "predicted"]).all()
    probe = found["probe"]
    assert probe["answered_accuracy"] >= 0.8 or not probe["answered"]
    assert table["stated_label"].notna().sum() == len(table) // 2
    assert all(size < 10 for size in found["left_out"].values())
    assert found["warnings"] == []  # they are the study's own
    again = ask("label", folder / "cells.csv", "--from", drawn_study, "-o", folder / "out", "--accuracy", "0.8")
    assert again == found


def test_the_table_is_one_of_cells_and_of_fractions(
    answered: tuple[dict[str, object], Path], drawn_study: Path, tmp_path: Path
) -> None:
    _, folder = answered
    listed = ask("cells", folder / "out" / "labels.csv", "-o", tmp_path / "cells.parquet")
    assert listed["cells"] == len(pd.read_csv(folder / "out" / "labels.csv"))
    labels = folder / "out" / "labels.csv"
    barcodes = drawn_study / "cohort" / "barcodes.h5ad"
    found = ask("classify", barcodes, "--labels", labels, "-o", tmp_path / "c", *QUICK)
    assert "cell-type fractions, predicted" in [row["method"] for row in found["methods"]]
    table = pd.read_csv(labels)
    table.iloc[1:].to_csv(tmp_path / "short.csv", index=False)
    assert "the barcode" in refused(
        "classify", barcodes, "--labels", tmp_path / "short.csv", "-o", tmp_path / "d", *QUICK
    )
    table[["dataset", "patient"]].to_csv(tmp_path / "bare.csv", index=False)
    assert "'p TYPE'" in refused("classify", barcodes, "--labels", tmp_path / "bare.csv", "-o", tmp_path / "d", *QUICK)
    assert "no column 'ward'" in refused("classify", barcodes, "--centre", "ward", "-o", tmp_path / "d", *QUICK)
    concepts = tmp_path / "no-study"
    compared = ("compare", barcodes, "healthy", "--study", concepts, "-o", tmp_path / "d")
    assert f"{concepts}" in refused(*compared)
    assert not (tmp_path / "d").exists()  # nothing is claimed before every input was read


def test_cells_that_look_otherwise_are_named(drawn_study: Path, tmp_path: Path) -> None:
    """The accuracy that was measured on the study's cells is not promised for other ones."""
    cells = read_cells(drawn_study / "cells.parquet").iloc[:30]
    (tmp_path / "images").mkdir()
    paths = []
    for path in cells["path"]:
        paths.append(f"images/{len(paths)}.png")
        pixels = np.asarray(Image.open(drawn_study / path).convert("RGB"))
        Image.fromarray(255 - pixels).save(tmp_path / paths[-1])
    pd.DataFrame({"path": paths, "dataset": "negatives"}).to_csv(tmp_path / "cells.csv", index=False)
    found = ask("label", tmp_path / "cells.csv", "--from", drawn_study, "-o", tmp_path / "out")
    (sentence,) = found["warnings"]
    assert sentence.startswith("100% of the cells of negatives (30 of 30) lie farther")
    assert "--features tokens-and-measurements" in sentence


def test_a_study_without_labels_is_refused(drawn_study: Path, tmp_path: Path) -> None:
    import h5py
    from anndata.io import read_elem, write_elem

    other = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    with h5py.File(other / "concepts" / "synthetic.h5ad", "r+") as file:
        write_elem(file, "obs", read_elem(file["obs"]).drop(columns="label"))
    message = refused("label", drawn_study / "cohort" / "cohort.csv", "--from", other, "-o", tmp_path / "out")
    assert "no labels" in message
    missing = refused("label", tmp_path / "nosuch.csv", "--from", other, "-o", tmp_path / "out")
    assert "nosuch.csv: no such file or folder" in missing  # before the labels of the study are looked at
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def fourth_laboratory(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    """Cells of the study's three laboratories and of one that it does not know, labelled by tokens and measurements."""
    folder = tmp_path_factory.mktemp("fourth")
    command = ("label", "synthetic:patients=20,cells=9,seed=5,laboratories=4", "--from", drawn_study, "-o", folder)
    return ask(
        *command, "--features", "tokens-and-measurements", "--laboratory", "laboratory", "--accuracy", "0.7"
    ), folder


def test_types_in_a_laboratory_that_the_study_does_not_know(
    fourth_laboratory: tuple[dict[str, object], Path], drawn_study: Path
) -> None:
    found, folder = fourth_laboratory
    table = pd.read_csv(folder / "labels.csv")
    known = set(read_cells(drawn_study / "cells.parquet")["laboratory"])
    assert found["laboratories"] == {
        name: "as in the study" if name in known else "its own cells" for name in table["laboratory"].unique()
    }
    assert found["judged_on"] == "laboratories left out"
    new = table[~table["laboratory"].isin(known)]
    most = new["stated_label"].value_counts(normalize=True).max()
    right = (new["predicted"] == new["stated_label"]).mean()
    assert right > most + 0.2, (right, most)
    assert new.filter(like="p ").sum(axis=1).to_numpy() == pytest.approx(1)
    permuted = np.random.default_rng(0).permutation(new["stated_label"])
    assert (new["predicted"] == permuted).mean() < most + 0.1


def test_what_is_done_for_few_cells_and_one_laboratory(
    fourth_laboratory: tuple[dict[str, object], Path],
    drawn_study: Path,
    tmp_path: Path,
) -> None:
    _, folder = fourth_laboratory
    table = pd.read_csv(folder / "labels.csv")
    known = set(read_cells(drawn_study / "cells.parquet")["laboratory"])
    few = table[~table["laboratory"].isin(known)].iloc[:4][["cell_id", "path", "patient", "laboratory"]]
    few["dataset"] = "elsewhere"
    few.loc[few.index[0], "laboratory"] = None
    few.to_csv(tmp_path / "few.csv", index=False)
    command = ["label", tmp_path / "few.csv", "--from", drawn_study, "--features", "tokens-and-measurements", "-o"]
    found = ask(*command, tmp_path / "few", "--laboratory", "laboratory")
    assert list(found["laboratories"].values()) == ["nearest laboratory"] * 2
    assert "no laboratory" in found["laboratories"]
    one = ask(*command, tmp_path / "one")
    assert one["laboratories"] == {"elsewhere": "nearest laboratory"}
    assert one["judged_on"] == "patients left out"
    message = refused(*command, tmp_path / "out", "--laboratory", "ward")
    assert "--laboratory ward" in message
    assert not (tmp_path / "out").exists()
