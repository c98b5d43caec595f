"""`cytosae classify --target` of a number and of a time, through the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.artefacts import Manifest
from cytosae.cohort import read_barcodes
from support.commands import ask, refused

QUICK = ["--repeats", "2", "--splits", "3", "--inner", "2", "--permutations", "19", "--bootstrap", "100"]


@pytest.fixture(scope="module")
def barcodes(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn patients with a number that their cells show, and a time that follows it."""
    data = read_barcodes(drawn_study / "cohort" / "barcodes.h5ad")
    rng = np.random.default_rng(0)
    values = np.log1p(data.X)
    first = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)[0][:, 0] * np.sqrt(20)
    data.obs["blasts"] = 40 + 10 * first
    data.obs["months"] = np.exp(1.5 * first) * rng.uniform(0.5, 1.5, 20) + 0.1
    data.obs["died"] = np.arange(20) % 5 > 0
    path = tmp_path_factory.mktemp("outcomes") / "barcodes.h5ad"
    data.write_h5ad(path)
    return path


def test_a_number_beside_the_baselines(barcodes: Path, drawn_study: Path, tmp_path: Path) -> None:
    command = ["classify", barcodes, "--target", "blasts", "--tokens", drawn_study / "tokens", *QUICK]
    found = ask(*command)
    folder = barcodes.parent / "outcome-blasts"
    assert (found["kind"], found["patients"], found["events"]) == ("number", 20, None)
    assert [row["method"] for row in found["methods"]] == [
        "barcodes",
        "mean CLS token",
        "mean patch token",
        "mean and maximum of patch tokens",
        "colour histogram",
        "cell-type fractions",
    ]
    for row in found["methods"]:
        assert row["score"] == "r_squared"
        for name in ("", "spearman_", "absolute_error_"):
            assert row[f"{name}low"] <= row[name.rstrip("_") or "value"] <= row[f"{name}high"]
    assert found["methods"][0]["value"] > 0.5
    assert found["null"]["high"] < found["methods"][0]["value"]
    assert found["null"]["p"] == pytest.approx(1 / 20)
    assert sum(choice["folds"] for choice in found["chosen"]) == 6
    table = pd.read_csv(folder / "predictions.csv")
    assert np.corrcoef(table["blasts"], table["predicted"])[0, 1] > 0.7
    latents = pd.read_csv(folder / "latents.csv")
    assert (latents["sum"].abs().diff().dropna() <= 1e-12).all()
    assert {path.stem for path in folder.glob("*.png")} == {"methods", "predicted"}
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert set(manifest.outputs) == {
        "methods.csv",
        "predictions.csv",
        "latents.csv",
        "models.safetensors",
        "outcome.json",
    }
    before = (folder / "outcome.json").read_bytes()
    ask(*command)
    assert (folder / "outcome.json").read_bytes() == before


def test_the_time_to_an_event_and_folds_from_a_file(barcodes: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    pd.DataFrame({"patient": [f"P{i:03}" for i in range(20)], "fold": [i % 3 for i in range(20)]}).to_csv(folds)
    found = ask("classify", barcodes, "--target", "months", "--event", "died", "--folds", folds, *QUICK)
    assert (found["kind"], found["events"], found["folds"]) == ("survival", 16, "one folds.csv left out")
    (row, fractions) = found["methods"]
    assert row["score"] == "concordance"
    assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
    assert fractions["method"] == "cell-type fractions"
    assert row["value"] > 0.7
    assert any("16 events" in text for text in found["caveats"])
    table = pd.read_csv(barcodes.parent / "outcome-months" / "predictions.csv")
    assert list(table) == ["patient", "months", "died", "log relative hazard"]


def test_what_does_not_fit_is_refused(barcodes: Path) -> None:
    assert "needs --event" in refused("classify", barcodes, "--target", "months", "--kind", "survival")
    assert "belongs to classes" in refused("classify", barcodes, "--target", "blasts", "--leave-out", "laboratory")
    assert "is no number" in refused("classify", barcodes, "--target", "diagnosis", "--kind", "number")
    out = barcodes.parent / "refused"
    labels = ("classify", barcodes, "--target", "blasts", "--labels", out / "labels.csv", "-o", out)
    assert "labels.csv" in refused(*labels)
    assert not out.exists()
    assert "no column 'age'" in refused("classify", barcodes, "--target", "age")
    assert "no column 'seen'" in refused("classify", barcodes, "--target", "months", "--event", "seen")
