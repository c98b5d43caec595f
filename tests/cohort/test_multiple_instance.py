"""The deep baseline, and the tokens of patients that it looks at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cohort import colour_histograms, count_bags, make_barcodes, patient_tokens, predict_bags, read_barcodes
from cytosae.cohort.multiple_instance import MODELS, Bags
from cytosae.concepts import read_concepts, read_datasets
from cytosae.errors import CytosaeError
from cytosae.tokens import TokenStore
from support.cohorts import encoded, people


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_finds_the_one_cell_that_tells(kind: str) -> None:
    rng = np.random.default_rng(0)
    target = np.arange(40) % 2
    bags, start = [], 0
    cells = []
    for label in target:
        own = rng.normal(0, 1, (30, 16)).astype(np.float32)
        if label:
            own[rng.choice(30, 2, replace=False), 3] += 6
        cells.append(own)
        bags.append(np.arange(start, start + 30))
        start += 30
    everything = Bags(np.concatenate(cells), bags)
    train = np.arange(40) < 28
    said = predict_bags(everything, target, train, ~train, 2, kind=kind)
    assert (said.argmax(axis=1) == target[~train]).mean() >= 0.9
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(said, predict_bags(everything, target, train, ~train, 2, kind=kind))
    shuffled = rng.permutation(target)
    blind = predict_bags(everything, shuffled, train, ~train, 2, kind=kind)
    assert (blind.argmax(axis=1) == target[~train]).mean() < 0.9


def test_tokens_of_patients(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    columns = people(dataset=["blood"] * 40)
    folder = encoded(make_store, "a", **columns)
    make_barcodes([folder], tmp_path / "b.h5ad")
    data = read_barcodes(tmp_path / "b.h5ad")
    store = TokenStore(folder.parent / "tokens")
    found = patient_tokens(store, data)
    tokens = store.read(np.arange(40)).float().numpy()
    for row, name in enumerate(data.obs_names):
        mine = store.cells["patient"].eq(name).to_numpy(bool)
        np.testing.assert_allclose(found.cls[row], tokens[mine, 0].mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.patches[row], tokens[mine, 1:].mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)
        largest = tokens[mine, 1:].max(axis=1).mean(axis=0)
        np.testing.assert_allclose(found.largest[row], largest, rtol=1e-4, atol=1e-5)
        both = found.pooled()["mean and maximum of patch tokens"][row]
        np.testing.assert_array_equal(both, np.concatenate([found.patches[row], found.largest[row]]))
        np.testing.assert_allclose(found.bags.cells[found.bags.rows[row]], tokens[mine, 0], rtol=1e-5)
    store.cells.loc[0, "patient"] = "somebody"
    with pytest.raises(CytosaeError, match="4 cells of P0, the barcode 5"):
        patient_tokens(store, data)


def test_counts_of_the_cells_of_each_patient(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    folders = [encoded(make_store, name, seed, **people()) for seed, name in enumerate("ab")]
    make_barcodes(folders[:1], tmp_path / "b.h5ad")
    data = read_barcodes(tmp_path / "b.h5ad")
    (name,) = read_datasets(folders[0])
    whole = read_concepts(folders[0], name)
    assert data.obs["dataset"].unique().tolist() == [name]
    found = count_bags(folders[0], data[1:].copy())  # without one patient
    assert len(found.rows) == 7
    for row, patient in enumerate(data.obs["patient"][1:]):
        mine = (whole.obs["patient"] == patient).to_numpy()
        np.testing.assert_allclose(found.cells[found.rows[row]], np.log1p(whole.X[mine].toarray()), rtol=1e-6)


def test_the_latents_that_vary_most_are_taken(
    make_store: Callable[..., TokenStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytosae.cohort.baselines.WIDEST", 5)
    folder = encoded(make_store, "a", **people())
    make_barcodes([folder], tmp_path / "b.h5ad")
    found = count_bags(folder, read_barcodes(tmp_path / "b.h5ad"))
    (name,) = read_datasets(folder)
    values = np.log1p(read_concepts(folder, name).X.toarray())
    widest = np.sort(np.argsort(-values.var(axis=0), kind="stable")[:5])
    np.testing.assert_allclose(np.sort(found.cells, axis=0), np.sort(values[:, widest], axis=0), rtol=1e-6)


def test_colours_are_mean_histograms_of_the_patients_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = []
    for number, colour in enumerate([(255, 0, 0), (255, 0, 0), (0, 0, 255), (10, 10, 10), (0, 255, 0)]):
        names.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (30, 20), colour).save(names[-1])
    cells = pd.DataFrame({"path": names})
    rows = np.array([0, 1, 1, 2, -1])
    found = colour_histograms(cells, rows, 3)
    assert found is not None
    red, blue, black = 7 * 64, 7, 0
    np.testing.assert_allclose((found**2).sum(axis=1), 1, rtol=1e-6)
    assert found[0, red] == 1
    np.testing.assert_allclose(found[1, [red, blue]] ** 2, 0.5, rtol=1e-6)
    assert found[2, black] == 1
    Path(names[1]).unlink()
    assert colour_histograms(cells, rows, 3) is None
    assert "without the baseline of colours" in capsys.readouterr().err
