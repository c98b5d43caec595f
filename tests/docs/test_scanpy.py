"""The recipes of docs/how-to/scanpy.md, run as they stand there on a small study, and judged by plain computations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib import pyplot as plt
from PIL import Image
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from cytosae.artefacts import sae_weights_digest
from cytosae.backbones import load
from cytosae.cells import list_cells
from cytosae.concepts import encode
from cytosae.sae import SAE, train
from cytosae.settings import TrainConfig
from cytosae.synthetic import CohortSpec, write_cohort
from cytosae.tokens import TokenStore, embed, store_layout
from support.paths import ROOT

sc = pytest.importorskip("scanpy")
mpl.use("Agg")

pytestmark = pytest.mark.slow  # scanpy compiles UMAP and its own functions
PAGE = ROOT / "docs" / "how-to" / "scanpy.md"
TRAINING = TrainConfig(
    expansion=2,
    images=960,
    batch_images=8,
    l1=2e-3,
    learning_rate=2e-3,
    warmup_steps=10,
    directions_init="tokens",
    dead_latent_loss="none",
)


def real_table(real_cells: Path) -> pd.DataFrame:
    """A table of 120 pbc cells of eight types and 33 cells of another laboratory."""
    cells = pd.read_csv(real_cells / "cells.csv")
    pbc = cells[cells["dataset"] == "pbc"].groupby("label").head(15)
    other = cells[cells["dataset"] == "segwbc_tecom"].groupby("label").head(8)
    chosen = pd.concat([pbc, other]).drop(columns="mask")
    return chosen.assign(path=[str(real_cells / path) for path in chosen["path"]])


@pytest.fixture(scope="module")
def place(real_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study`, of real cells, and `cohort`, of drawn patients, both of one autoencoder."""
    folder = tmp_path_factory.mktemp("scanpy")
    cohort = write_cohort(CohortSpec(patients=30, cells=4), folder / "cohort")
    backbone = load("tiny", layer=-2)
    for name, table in (("study", real_table(real_cells)), ("cohort", cohort)):
        path = folder / name / "cells.csv"
        path.parent.mkdir(exist_ok=True)
        table.to_csv(path, index=False)
        embed(list_cells(path).cells, backbone, folder / name / "tokens", store_layout(backbone.info), workers=0)
    train(TokenStore(folder / "study" / "tokens"), folder / "study" / "sae", TRAINING)
    sae = SAE.from_pretrained(folder / "study" / "sae")
    for name in ("study", "cohort"):
        encode(TokenStore(folder / name / "tokens"), sae, folder / name / "concepts")
    return folder


@pytest.fixture(scope="module")
def page(place: Path) -> Iterator[dict[str, Any]]:
    """Every name that the blocks of the page leave behind."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 10
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for number, block in enumerate(blocks):
            exec(compile(block, f"docs/how-to/scanpy.md, block {number}", "exec"), names)
    yield names
    plt.close("all")


def test_reference_cells_are_the_strongest_cells_of_the_whole_data_set(page: dict[str, Any]) -> None:
    values = page["data"].to_df("mean_activation")
    for latent in page["concepts"].var_names[:20]:
        names = page["references"][latent]
        assert set(values[latent].nlargest(len(names)).index) == set(names)


def test_kept_concepts_are_those_of_var(page: dict[str, Any]) -> None:
    data, concepts = page["data"], page["concepts"]
    expected = data.var_names[data.var["is_concept"] & (data.var["n_references"] >= 10)]
    assert concepts.var_names.tolist() == expected.tolist()
    assert 20 < concepts.n_vars < data.n_vars
    assert concepts.n_obs == 120
    np.testing.assert_allclose(concepts.X.toarray() ** 2, concepts.layers["mean_activation"].toarray(), rtol=1e-5)


def test_scores_of_scanpy_are_those_of_a_rank_sum_test_on_mean_activations(page: dict[str, Any]) -> None:
    concepts = page["concepts"]
    m = concepts.layers["mean_activation"].toarray()
    found = sc.get.rank_genes_groups_df(concepts, group="eosinophil").set_index("names").loc[concepts.var_names]
    is_type = (concepts.obs["label"] == "eosinophil").to_numpy()
    plain = mannwhitneyu(m[is_type], m[~is_type], axis=0, method="asymptotic", use_continuity=False)
    np.testing.assert_allclose(found["pvals"], plain.pvalue, rtol=1e-3, atol=1e-12)
    sign = plain.statistic - is_type.sum() * (~is_type).sum() / 2
    assert (np.sign(found["scores"].to_numpy())[sign != 0] == np.sign(sign)[sign != 0]).all()


def test_top_concepts_tell_their_cell_type_from_the_others(page: dict[str, Any]) -> None:
    concepts = page["concepts"]
    m = pd.DataFrame(concepts.layers["mean_activation"].toarray(), index=concepts.obs_names, columns=concepts.var_names)
    labels = concepts.obs["label"].astype(str)
    assert {"eosinophil", "platelet", "basophil", "neutrophil"} <= set(page["top"])
    for label, names in page["top"].items():
        for name, auroc in zip(names, page["auroc"][label], strict=True):
            by_label = m[name].groupby(labels).mean()
            assert by_label.idxmax() == label
            assert auroc == roc_auc_score(labels == label, m[name])
    name = page["concept"]
    assert m[name][labels == "eosinophil"].mean() > 2 * m[name][labels != "eosinophil"].mean()
    assert page["auroc"]["eosinophil"][0] > 0.95


def test_dot_plot_draws_group_means(page: dict[str, Any], place: Path) -> None:
    plot, concepts = page["plot"], page["concepts"]
    m, labels = concepts.layers["mean_activation"].toarray(), concepts.obs["label"].astype(str).to_numpy()
    drawn = [name for names in page["top"].values() for name in names]
    assert plot.dot_color_df.columns.tolist() == drawn
    columns = concepts.var_names.get_indexer(drawn)
    order = plot.dot_color_df.index.astype(str)
    means = np.array([m[labels == label][:, columns].mean(0) for label in order])
    low, high = means.min(0), means.max(0)
    np.testing.assert_allclose(plot.dot_color_df, (means - low) / (high - low), atol=1e-4)
    shares = np.array([(m[labels == label][:, columns] > 0.02).mean(0) for label in order])
    np.testing.assert_allclose(plot.dot_size_df, shares, atol=1e-6)
    with Image.open(place / "dotplot.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_umap_gives_a_place_to_every_cell_and_neighbours_are_of_one_type(page: dict[str, Any], place: Path) -> None:
    concepts = page["concepts"]
    places = concepts.obsm["X_umap"]
    assert places.shape == (concepts.n_obs, 2)
    assert np.isfinite(places).all()
    # Where UMAP puts a cell depends on threads and processor, who its neighbours are does not.
    labels = concepts.obs["label"].astype(str).to_numpy()
    edges = concepts.obsp["distances"].tocoo()
    same = labels[edges.row] == labels[edges.col]
    chance = np.mean(labels[:, None] == labels[None])
    assert same.mean() > 2 * chance
    root = np.sqrt(concepts.layers["mean_activation"].toarray())
    centred = root - root.mean(0)
    share = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(concepts.uns["pca"]["variance_ratio"], (share / share.sum())[:30], rtol=1e-2)
    assert (place / "umap.png").stat().st_size > 10_000


def test_concept_keeps_its_column_across_data_sets(page: dict[str, Any]) -> None:
    both, data, other, name = page["both"], page["data"], page["other"], page["concept"]
    assert both.n_obs == data.n_obs + other.n_obs
    assert both.var_names.tolist() == data.var_names.tolist()
    for laboratory, part in (("pbc", data), ("tecom", other)):
        mine = both[both.obs["laboratory"] == laboratory]
        assert (mine.X != part.X).nnz == 0
        expected = part[part.obs["label"] == "eosinophil"].to_df("mean_activation")[name].mean()
        assert page["across"].loc[laboratory, "eosinophil"] == pytest.approx(expected, rel=1e-5)
    assert page["across"].loc["tecom"].idxmax() == "eosinophil"
    assert (both.var["is_concept"] >= data.var["is_concept"]).all()
    assert "cytosae" not in both.uns


def test_patients_are_means_of_their_cells(page: dict[str, Any]) -> None:
    cohort, patients = page["cohort"], page["patients"]
    counts = cohort.obs["patient"].value_counts()
    assert sorted(patients.obs["patient"]) == sorted(counts.index[counts >= 3])
    m = cohort.layers["mean_activation"].toarray()
    for row, (patient, diagnosis) in enumerate(patients.obs[["patient", "diagnosis"]].itertuples(index=False)):
        mine = (cohort.obs["patient"] == patient).to_numpy()
        np.testing.assert_allclose(patients.X[row], m[mine].mean(0), rtol=1e-4, atol=1e-7)
        assert set(cohort.obs["diagnosis"][mine]) == {diagnosis}
        assert patients.obs["cells"].iloc[row] == mine.sum()
    assert page["diseased"].sum() == 6
    assert page["result"]["p"].is_monotonic_increasing
    assert (page["result"]["q"] >= page["result"]["p"]).all()


def test_cells_as_units_raise_false_alarms_on_the_page(page: dict[str, Any]) -> None:
    alarms = page["false_alarms"]
    assert alarms["cells as units"] > 1.5 * alarms["patients as units"]
    assert alarms["patients as units"] < 0.08


def test_files_are_read_back(page: dict[str, Any], place: Path) -> None:
    for name, mine in (("concepts-with-umap.h5ad", page["concepts"]), ("patients.h5ad", page["patients"])):
        read = ad.read_h5ad(place / name)
        assert read.shape == mine.shape
        assert read.obs_names.tolist() == mine.obs_names.tolist()
        for a, b in ((read.X, mine.X), *((read.layers[key], mine.layers[key]) for key in mine.layers)):
            a, b = (x.toarray() if sp.issparse(x) else np.asarray(x) for x in (a, b))
            np.testing.assert_array_equal(a, b)
    read = sc.read_h5ad(place / "concepts-with-umap.h5ad")
    np.testing.assert_array_equal(read.obsm["X_umap"], page["concepts"].obsm["X_umap"])
    assert read.uns["cytosae"]["inputs"]["sae"] == sae_weights_digest(place / "study" / "sae")
    assert sc.get.rank_genes_groups_df(read, group="eosinophil")["names"].iloc[0] in read.var_names


def null_cohort(rng: np.random.Generator, patients: int = 16, cells: int = 20, latents: int = 100) -> ad.AnnData:
    """Patients differ (intraclass correlation 0.2), their two diseases do not."""
    owner = np.repeat(np.arange(patients), cells)
    effect = rng.normal(size=(patients, latents))[owner]
    values = np.exp(0.5 * effect + rng.normal(size=effect.shape)).astype(np.float32)
    disease = np.where(np.arange(patients) % 2 == 0, "a", "b")
    obs = pd.DataFrame({"patient": [f"p{i:02d}" for i in owner], "diagnosis": disease[owner]}, dtype="category")
    obs.index = obs.index.astype(str)
    return ad.AnnData(values, obs=obs, layers={"mean_activation": sp.csr_matrix(values)})


def rejected(data: ad.AnnData) -> float:
    """Share of latents with p < 0.05 in scanpy's test between the two diseases."""
    sc.tl.rank_genes_groups(data, "diagnosis", groups=["a"], reference="b", method="wilcoxon", use_raw=False)
    return float((sc.get.rank_genes_groups_df(data, group="a")["pvals"] < 0.05).mean())


def test_a_test_on_cells_rejects_a_true_null_and_one_on_patients_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(5):
        cohort = null_cohort(rng)
        patients = sc.get.aggregate(cohort, by=["patient", "diagnosis"], func="mean", layer="mean_activation")
        patients.X = np.asarray(patients.layers["mean"])
        rates.append((rejected(cohort), rejected(patients)))
    on_cells, on_patients = np.mean(rates, axis=0)
    assert on_cells > 0.3
    assert 0.025 < on_patients < 0.075


def test_clusters_of_noise_differ_by_construction() -> None:
    """Double dipping: the page warns of p-values between clusters that were found in the same values."""
    rng = np.random.default_rng(0)
    noise = ad.AnnData(rng.normal(size=(400, 10)).astype(np.float32))
    halves = {
        "found": KMeans(2, random_state=0, n_init=3).fit_predict(noise.X),
        "drawn": rng.integers(0, 2, 400),
    }
    smallest = {}
    for name, half in halves.items():
        noise.obs["diagnosis"] = pd.Categorical(np.where(half == 0, "a", "b"))
        sc.tl.rank_genes_groups(noise, "diagnosis", groups=["a"], reference="b", method="wilcoxon", use_raw=False)
        smallest[name] = sc.get.rank_genes_groups_df(noise, group="a")["pvals_adj"].min()
    assert smallest["found"] < 1e-6
    assert smallest["drawn"] > 0.01


def test_latents_of_other_autoencoders_join_without_complaint() -> None:
    """Why the page compares digests before it joins: anndata sees no difference."""
    a, b = (
        ad.AnnData(
            np.full((3, 2), value, np.float32), var=pd.DataFrame(index=["0", "1"]), uns={"cytosae": {"sae": value}}
        )
        for value in (1, 2)
    )
    assert ad.concat({"a": a, "b": b}, index_unique="-").shape == (6, 2)


def test_page_follows_its_own_advice() -> None:
    text = PAGE.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    assert "normalize_total" not in code
    assert "highly_variable_genes" not in code
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        path = PAGE.parent / picture
        assert path.stat().st_size < 120_000
        with Image.open(path) as image:
            image.verify()
