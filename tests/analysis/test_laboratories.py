"""`cytosae laboratories`, `transfer` and `restain`, and a study whose tokens are harmonised, on drawn and real cells."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.analysis.study_features import study_rows
from cytosae.cells import read_cells
from cytosae.sae import SAE
from cytosae.settings import HarmoniseConfig, LaboratoryConfig
from cytosae.study import Study
from cytosae.tokens import HARMONISATION, TokenStore
from support.commands import ask, cytosae, refused
from support.folders import made_once
from support.studies import drawn_config

QUICK = ["--permutations", "19", "--bootstrap", "50"]
BY = ["--laboratory", "laboratory"]


def changed_barcodes(study: Path, folder: Path, **columns: object) -> Path:
    """The same study with other columns of its patients, without tokens."""
    (folder / "cohort").mkdir(parents=True)
    data = ad.read_h5ad(study / "cohort" / "barcodes.h5ad")
    for name, values in columns.items():
        data.obs[name] = values
    data.write_h5ad(folder / "cohort" / "barcodes.h5ad")
    return folder


def test_the_variance_is_divided_before_and_after(drawn_study: Path, tmp_path: Path) -> None:
    found = ask("laboratories", drawn_study, *BY, "--permutations", "39", "-o", tmp_path / "out")
    table = pd.DataFrame(found["shares"]).set_index(["features", "harmonised", "column"])
    barcodes = table.loc["barcodes"]
    assert barcodes.loc[("none", "laboratory"), "value"] > 0.3
    assert barcodes.loc[("none", "laboratory"), "p"] < 0.05
    assert barcodes.loc[("centre", "laboratory"), "value"] < 0.02
    assert barcodes.loc[("centre", "diagnosis"), "value"] > barcodes.loc[("none", "diagnosis"), "value"]
    features = {"barcodes", "barcodes, log-ratio", "mean CLS token", "mean patch token"}
    assert set(table.index.get_level_values(0)) == features
    assert ask("laboratories", drawn_study, *BY, "--permutations", "39", "-o", tmp_path / "out") == found
    cells = ask("laboratories", drawn_study, *BY, "--target", "label", "--permutations", "9", "-o", tmp_path / "cells")
    assert {row["features"] for row in cells["shares"]} == {"tokens", "concepts"}


def test_every_harmonisation_stands_beside_the_others(drawn_study: Path, tmp_path: Path) -> None:
    found = ask("transfer", drawn_study, *BY, *QUICK, "-o", tmp_path / "out")
    rows = pd.DataFrame(found["methods"])
    assert set(rows["setting"]) == {"alone", "unlabelled ones at hand"}
    assert set(rows["harmonised"]) == {"as they are", "centre", "standardise", "combat"}
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()
    assert rows["null"].between(0, 0.45).all()
    assert set(found["laboratories"]) < set(rows.columns)
    assert (tmp_path / "out" / "transfer.csv").is_file()
    assert ask("transfer", drawn_study, *BY, *QUICK, "-o", tmp_path / "out") == found
    shown = cytosae("transfer", drawn_study, *BY, *QUICK, "-o", tmp_path / "out")
    assert "alone | barcodes, as they are" in shown.stdout
    assert "not centred on healthy controls: too few in laboratory" in shown.stderr
    patients = len(ad.read_h5ad(drawn_study / "cohort" / "barcodes.h5ad"))
    ratios = rows[rows["features"] == "barcodes, log-ratio"]  # a patient's own, so that nobody else is needed
    assert set(ratios["setting"]) == {"alone", "unlabelled ones at hand"}
    halves = np.where(np.arange(patients) // 5 % 2, "a", "b")  # two patients of each diagnosis in each
    both = changed_barcodes(drawn_study, tmp_path / "both", laboratory=halves)
    with_controls = ask("transfer", both, *BY, *QUICK, "-o", tmp_path / "both" / "out")
    assert "healthy controls at hand" in {row["setting"] for row in with_controls["methods"]}


def test_taught_concepts_stand_beside_the_barcodes_and_less_the_patients_own_mean(
    drawn_study: Path, tmp_path: Path
) -> None:
    path = tmp_path / "study" / "cohort" / "barcodes.h5ad"
    path.parent.mkdir(parents=True)
    data = ad.read_h5ad(drawn_study / "cohort" / "barcodes.h5ad")
    data.var["taught"] = [None] * (data.n_vars - 2) + ["Stain", "Diagnosis and stain"]
    number = pd.factorize(data.obs["diagnosis"].astype(str), sort=True)[0]
    stain = 1 + pd.factorize(data.obs["laboratory"].astype(str), sort=True)[0]
    planted = np.expm1(np.stack([2 * stain, 2 * stain + number], axis=1))
    data.X = np.concatenate([np.asarray(data.X)[:, :-2], planted], axis=1).astype(np.float32)
    data.write_h5ad(path)
    rows = study_rows(tmp_path / "study", "diagnosis", LaboratoryConfig(laboratory="laboratory"))
    taught, ratios = rows.features["taught concepts"], rows.features["taught concepts, log-ratio"]
    assert [block.shape[1] for block in (*taught, *ratios)] == [2] * 6
    np.testing.assert_allclose(taught[0][:, 0], 2 * stain, rtol=1e-4)
    np.testing.assert_allclose(ratios[0], np.stack([-number, number], axis=1) / 2, atol=1e-3)  # the stain is gone
    assert rows.features["barcodes, log-ratio"][0].shape[1] == data.n_vars
    assert set(study_rows(drawn_study, "diagnosis", LaboratoryConfig(laboratory="laboratory")).features) == {
        "barcodes",
        "barcodes, log-ratio",
        "mean CLS token",
        "mean patch token",
    }


def test_cells_are_asked_in_another_laboratory(drawn_study: Path, tmp_path: Path) -> None:
    command = ["transfer", drawn_study, *BY, "--target", "label", "--cells", "10", "--permutations", "2"]
    found = ask(*command, "--from", "reference", "-o", tmp_path / "one")
    rows = pd.DataFrame(found["methods"])
    measured = {"measurements", "tokens and measurements", "concepts and measurements"}
    assert set(rows["features"]) == {"tokens", "concepts", *measured}
    assert set(rows.loc[rows["features"].isin(measured), "setting"]) == {"unlabelled ones at hand"}
    assert set(rows["harmonised"]) == {"as they are", "centre", "standardise", "whiten", "coral", "combat"}
    assert "reference" not in rows.columns  # it is learned from, and not asked
    message = refused(*command, "--from", "nowhere", "-o", tmp_path / "two")
    assert "--from nowhere: no such laboratory; there are" in message
    assert not (tmp_path / "two").exists()


def test_what_cannot_be_told_apart_is_refused(drawn_study: Path, tmp_path: Path) -> None:
    obs = ad.read_h5ad(drawn_study / "cohort" / "barcodes.h5ad").obs
    apl = (obs["diagnosis"] == obs["diagnosis"].iloc[0]).to_numpy()
    one = changed_barcodes(drawn_study, tmp_path / "one", laboratory="a")
    assert "all rows are of 'a'" in refused("transfer", one, *BY, "-o", tmp_path / "out")
    assert "--laboratory site: no such column" in refused("transfer", one, "--laboratory", "site", "-o", tmp_path / "o")
    same = changed_barcodes(drawn_study, tmp_path / "same", laboratory=obs["diagnosis"].astype(str).to_numpy())
    for command in ("transfer", "laboratories"):
        assert "diagnosis and laboratory cannot be separated" in refused(command, same, *BY, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # All patients of one diagnosis from a laboratory of their own: nothing makes a good figure of it.
    apart = changed_barcodes(drawn_study, tmp_path / "apart", laboratory=np.where(apl, "a", obs["laboratory"]))
    found = ask("transfer", apart, *BY, "--permutations", "0", "--bootstrap", "20", "-o", tmp_path / "apart" / "out")
    assert any("laboratory a: all of one diagnosis" in caveat for caveat in found["caveats"])
    assert all(row["a"] == 0 for row in found["methods"])
    twin = shutil.copytree(same, tmp_path / "twins" / "apart")
    assert "two of the studies have one name" in refused("transfer", apart, twin, *BY, "-o", tmp_path / "out")
    missing = refused("transfer", tmp_path / "nothing", *BY, "-o", tmp_path / "out")
    assert "barcodes.h5ad: missing" in missing


@pytest.fixture(scope="module")
def harmonised_study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn cells once more, their tokens standardised by laboratory."""

    def make(to: Path) -> None:
        folder = to / "harmonised"
        for part in ("tokens", "backbone.json", "cells.parquet"):
            copy = shutil.copytree if (drawn_study / part).is_dir() else shutil.copy
            folder.mkdir(exist_ok=True)
            copy(drawn_study / part, folder / part)
        config = replace(drawn_config(), harmonise=HarmoniseConfig("standardise", "laboratory"))
        Study(folder, config).run(drawn_study / "cells.parquet")

    return made_once(tmp_path_factory, "harmonised", make) / "harmonised"


def test_a_study_of_harmonised_tokens(harmonised_study: Path, drawn_study: Path, tmp_path: Path) -> None:
    own = SAE.from_pretrained(harmonised_study / "sae").metadata["harmonisation"]
    assert (own["method"], own["laboratory"]) == ("standardise", "laboratory")
    raw, cells = drawn_study / "tokens", drawn_study / "cells.parquet"
    message = refused("encode", cells, "--tokens", raw, "--sae", harmonised_study / "sae", "-o", tmp_path / "c")
    assert "The tokens are as they are, the autoencoder was trained on tokens harmonised by standardise" in message
    message = refused("encode", cells, "--tokens", harmonised_study / "tokens", "--sae", drawn_study / "sae", "-o", "c")
    assert (
        "The tokens are harmonised by standardise, laboratory, the autoencoder was trained on tokens as they are"
        in message
    )
    found = ask("transfer", drawn_study, harmonised_study, *BY, *QUICK, "-o", tmp_path / "out")
    rows = pd.DataFrame(found["methods"])
    of_harmonised = rows[rows["study"] == "harmonised"]
    assert set(of_harmonised["tokens"]) == {"standardise by laboratory"}
    assert "alone" not in set(of_harmonised["setting"])  # its tokens knew other patients of the laboratory


def test_new_cells_pass_the_harmonisation_of_the_study(harmonised_study: Path, tmp_path: Path) -> None:
    cells = read_cells(harmonised_study / "cells.parquet")
    columns = ["cell_id", "path", "dataset", "patient", "diagnosis", "laboratory", "label"]
    few = cells[columns].groupby("laboratory").head(6).assign(laboratory="elsewhere")
    few.to_csv(tmp_path / "few.csv", index=False)
    command = ["label", tmp_path / "few.csv", "--from", harmonised_study, "-o", tmp_path / "few", "--accuracy", "0.5"]
    assert "elsewhere is new and has 18 cells, fewer than 20: they are read as cells of" in cytosae(*command).stderr
    many = cells[columns].groupby("laboratory").head(9).assign(laboratory="elsewhere")
    many.to_csv(tmp_path / "many.csv", index=False)
    command = ["label", tmp_path / "many.csv", "--from", harmonised_study, "-o", tmp_path / "many", "--accuracy", "0.5"]
    assert "elsewhere is new: harmonised by 27 of its own cells, without labels" in cytosae(*command).stderr
    many.drop(columns="laboratory").to_csv(tmp_path / "without.csv", index=False)
    without = ["label", tmp_path / "without.csv", "--from", harmonised_study, "-o", tmp_path / "w", "--accuracy", "0.5"]
    assert "--laboratory laboratory: no such column" in refused(*without)


def test_harmonising_needs_tokens_on_disk_and_ends_when_it_is_left_out(harmonised_study: Path, tmp_path: Path) -> None:
    message = refused(
        "run", harmonised_study / "cells.parquet", "--study", tmp_path, "--harmonise", "centre", "--no-store"
    )
    assert "--harmonise centre: needs tokens on disk" in message
    copy = tmp_path / "tokens"
    shutil.copytree(harmonised_study / "tokens", copy)
    assert TokenStore(copy).harmonisation is not None
    ask("embed", harmonised_study / "cells.parquet", "-o", copy, "--workers", "0")
    assert not (copy / HARMONISATION).exists()
    assert TokenStore(copy).harmonisation is None


def test_images_in_the_colours_of_the_mean_laboratory(real_cells: Path, tmp_path: Path) -> None:
    table = pd.read_csv(real_cells / "cells.csv")
    table = table[table["dataset"].isin(["pbc", "bccd_crops"])].groupby("dataset").head(44)
    table = table.assign(path=[str(real_cells / path) for path in table["path"]], mask=None)
    first, later = table.groupby("dataset").head(24), table.groupby("dataset").tail(20)
    first.to_csv(tmp_path / "first.csv", index=False)
    made = ask("restain", tmp_path / "first.csv", "-o", tmp_path / "out")
    assert (made["cells"], made["laboratories"]) == (48, 2)
    restained = pd.read_csv(tmp_path / "out" / "restained.csv")
    assert restained["label"].notna().sum() == first["label"].notna().sum()

    def colours(paths: pd.Series, folder: Path) -> np.ndarray:
        return np.mean(
            [np.asarray(Image.open(folder / path).convert("RGB")).mean(axis=(0, 1)) for path in paths], axis=0
        )

    def distance(cells: pd.DataFrame, folder: Path) -> float:
        of_each = [colours(own["path"], folder) for _, own in cells.groupby("dataset")]
        return float(np.abs(of_each[0] - of_each[1]).max())

    assert distance(restained, tmp_path / "out") < 0.3 * distance(first, tmp_path)
    assert ask("cells", tmp_path / "out" / "restained.csv", "-o", tmp_path / "cells.parquet")["cells"] == 48
    # New cells, of a laboratory that is known and of one that is not, to the same colours.
    new = pd.concat([later, later[later["dataset"] == "pbc"].head(3).assign(dataset="elsewhere")])
    new.assign(cell_id=range(len(new))).to_csv(tmp_path / "new.csv", index=False)
    said = cytosae("restain", tmp_path / "new.csv", "--reference", tmp_path / "out", "-o", tmp_path / "new").stderr
    assert "dataset elsewhere is new and has 3 cells, fewer than 20: they are taken for cells of pbc" in said
    assert (
        distance(pd.read_csv(tmp_path / "new" / "restained.csv").query("dataset != 'elsewhere'"), tmp_path / "new") < 12
    )


def test_what_cannot_be_restained_is_said(some_cells: Path, tmp_path: Path) -> None:
    assert "1 of 4 laboratories have 20 cells or more" in refused("restain", some_cells, "-o", tmp_path / "a")
    assert "--method nosuch: unknown" in refused("restain", some_cells, "--method", "nosuch", "-o", tmp_path / "b")
    assert "stains.json: missing" in refused("restain", some_cells, "--reference", tmp_path, "-o", tmp_path / "c")
    (tmp_path / "stains.json").write_text('{"laboratories": {"a": {"origin": [1]}}}')
    assert "not the stains of `cytosae restain`" in refused(
        "restain", some_cells, "--reference", tmp_path, "-o", tmp_path / "d"
    )
