"""Concepts that a study is taught: latents like any other, beside an autoencoder that stays as it was."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytosae.analysis import (
    Viewer,
    classify,
    compare_groups,
    predict_patients,
    saved_backbone,
    show_patient,
    study_tokens,
    teach,
)
from cytosae.analysis.teaching_views import make_views, views_of
from cytosae.artefacts import sha256_file
from cytosae.cells import read_cells
from cytosae.concepts import (
    evaluate_study,
    latent_called,
    read_concepts,
    read_dictionary,
    read_maps,
    read_names,
    read_taught,
)
from cytosae.errors import CytosaeError
from cytosae.explorer import export
from cytosae.sae import SAE
from cytosae.settings import ClassifyConfig, CompareConfig, EvaluateConfig, TeachConfig
from cytosae.study import Study
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.teaching import VIEWS, marks_from_latent, marks_table, read_marks
from cytosae.tokens import TokenStore
from support.commands import ask, cytosae
from support.explorer import get, opened
from support.folders import made_once
from support.studies import DRAWN, SET, drawn_config

CONFIG = TeachConfig(random_cells=128, precision=0.9, views=0)
NUCLEUS = "nucleus"


def planted(study: Path, name: str) -> np.ndarray:
    """Whether each patch of each cell shows a planted structure, ``(n_cells, n_patches)``."""
    paths = read_cells(study / "cells.parquet")["concepts"]
    truth = [patch_labels(read_concept_masks(study / "cohort" / path))[CONCEPTS.index(name)].ravel() for path in paths]
    return np.array(truth)


def clicks(study: Path, name: str, count: int, concept: str, whole: bool = False) -> pd.DataFrame:
    """Marks of an expert who clicks on a patch of each of some cells."""
    cells, truth = read_cells(study / "cells.parquet"), planted(study, name)
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.flatnonzero(truth.any(1)))[:count]
    patches = [None if whole else int(rng.choice(np.flatnonzero(truth[row]))) for row in rows]
    return marks_table((concept, cells["cell_id"][r], p, "this") for r, p in zip(rows, patches, strict=True))


@pytest.fixture(scope="module")
def taught(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A study that was taught what a nucleus is, by sixty clicks; nobody writes into it."""
    said: dict[str, Any] = {}

    def make(to: Path) -> None:
        study = Path(shutil.copytree(drawn_study, to / "study"))
        said.update(teach(study, clicks(study, NUCLEUS, 60, "Nucleus"), CONFIG))

    return made_once(tmp_path_factory, "taught", make) / "study", said


def test_a_taught_concept_is_a_latent_after_the_autoencoders_own(
    drawn_study: Path, taught: tuple[Path, dict[str, Any]]
) -> None:
    study, _ = taught
    before, after = (read_concepts(folder / "concepts", SET) for folder in (drawn_study, study))
    number = before.n_vars
    assert after.n_vars == number + 1
    assert (after.X[:, :number] != before.X).nnz == 0
    assert (after.layers["mean_activation"][:, :number] != before.layers["mean_activation"]).nnz == 0
    assert after.var["taught"][f"{number}"] == "Nucleus"
    assert after.var["taught"][:number].isna().all()
    # By the rule of the autoencoder's own loss, whatever was taught beside it.
    own = after.var.iloc[:number]
    assert own["is_concept"].tolist() == before.var["is_concept"].tolist()
    assert own["not_concept"].astype(object).equals(before.var["not_concept"].astype(object))
    assert after.var["is_concept"].iloc[-1]
    assert read_names(study / "concepts") == {number: "Nucleus"}
    for name in ("model.safetensors", "config.json"):
        assert sha256_file(study / "sae" / name) == sha256_file(drawn_study / "sae" / name)
    barcodes = ad.read_h5ad(study / "cohort" / "barcodes.h5ad")
    assert barcodes.var["taught"].iloc[-1] == "Nucleus"
    counts = after.X[:, number].toarray()[:, 0]
    truth = planted(study, NUCLEUS).sum(1)
    assert np.corrcoef(counts, truth)[0, 1] > 0.5
    np.testing.assert_allclose(
        barcodes.X[:, number], pd.Series(counts).groupby(after.obs["patient"].to_numpy()).mean(), rtol=1e-5
    )


def test_its_maps_show_where_it_is_and_it_is_silent_on_cls(taught: tuple[Path, dict[str, Any]]) -> None:
    study, _ = taught
    with study_tokens(study) as source:
        viewer = Viewer(study, source)
        latent = viewer.sae.n_latents - 1
        row = viewer.references(latent, SET)
        tokens = viewer.tokens(np.arange(source.n_cells))
    assert viewer.title(latent) == f"Latent {latent}: Nucleus"
    assert len(row.maps) == 10
    h = viewer.sae.encode(tokens.flatten(0, 1))[:, -1].detach().unflatten(0, tokens.shape[:2]).numpy()
    assert (h[:, 0] > 0.2).mean() < 0.02
    shown, truth = h[:, 1:] > 0.2, planted(study, NUCLEUS)
    assert truth[shown].mean() > 0.5
    assert shown[truth].mean() > 0.5


def test_what_is_reconstructed_is_what_the_autoencoder_alone_does(taught: tuple[Path, dict[str, Any]]) -> None:
    study, _ = taught
    both, alone = read_dictionary(study), SAE.from_pretrained(study / "sae")
    with study_tokens(study) as source:
        x = alone.centred(next(iter(source.stream([np.arange(2)])))).flatten(0, 1)
    assert both(x)[0].equal(alone(x)[0])
    assert both.encode(x)[:, : alone.n_latents].equal(alone.encode(x))


def test_running_the_study_again_keeps_it_and_a_shared_file_is_taken(
    taught: tuple[Path, dict[str, Any]], drawn_study: Path, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(taught[0], tmp_path / "study"))
    stages = Study(study, drawn_config()).run(Path(DRAWN))
    made = {name for name, stage in stages.items() if not stage["skipped"]}
    assert made == {"descriptions", "report"}  # of what was taught
    assert all(stage["skipped"] for stage in Study(study, drawn_config()).run(Path(DRAWN)).values())
    other = Path(shutil.copytree(drawn_study, tmp_path / "other"))
    said = teach(other, taught=study / "taught" / "taught.safetensors")
    assert said["taught"] == {"Nucleus": read_concepts(drawn_study / "concepts", SET, matrices=False).n_vars}
    first, second = (read_concepts(folder / "concepts", SET) for folder in (study, other))
    assert (first.X != second.X).nnz == 0
    removed = teach(other, remove=["Nucleus"])
    assert removed["taught"] == {}
    silent = read_concepts(other / "concepts", SET)
    assert silent.X[:, -1].nnz == 0
    assert silent.n_vars == second.n_vars  # numbers of later ones stay
    with pytest.raises(CytosaeError, match="there is none of that name; there are none"):
        teach(other, remove=["Nucleus"])


def test_concepts_of_other_tokens_are_refused_by_name(taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    study, _ = taught
    concepts = read_taught(study)
    assert concepts is not None
    for key, value, expected in (
        ("fingerprint", "f" * 64, "backbone tiny"),
        ("layer", 3, "layer 4 of"),
        ("offset", "", "tokens that are not centred"),
        ("grid", [8, 8], r"grid \[8, 8\]"),
    ):
        foreign = type(concepts)(**{**concepts.__dict__, "frame": {**concepts.frame, key: value}})
        foreign.save(tmp_path / "taught.safetensors")
        with pytest.raises(CytosaeError, match=f"taught on {expected}"):
            teach(study, taught=tmp_path / "taught.safetensors")
    (tmp_path / "taught.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CytosaeError, match="not a file of taught concepts, or damaged"):
        teach(study, taught=tmp_path / "taught.safetensors")
    with pytest.raises(CytosaeError, match="a safetensors file, but none of taught concepts"):
        teach(study, taught=study / "sae" / "model.safetensors")
    with pytest.raises(CytosaeError, match="no name for one"):
        concepts.with_concept("n" * 201, concepts.weights[0], 0.0, concepts.directions[0], {})


def test_marks_that_say_nothing_change_nothing(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    (cell,) = read_cells(study / "cells.parquet")["cell_id"][:1]
    for rows, expected in (
        ([], "a header and no mark"),
        ([("x", cell, 3, "none")], "withdraw no mark"),
        ([("x", cell, 3, "not")], "its 1 marks all say 'not'"),
        ([("x", "gone", 3, "this")], "1 marks are on cells that this study does not have"),
    ):
        with pytest.raises(CytosaeError, match=expected):
            teach(study, marks_table(rows), CONFIG)
    assert not (study / "taught").exists()


def test_what_is_left_to_do_without_an_update_and_marks_that_are_damaged(
    taught: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Path(shutil.copytree(taught[0], tmp_path / "study"))
    with pytest.raises(CytosaeError, match="withdraw no mark"):
        teach(study, marks_table([("Nucleus", "elsewhere", 3, "none")]), CONFIG)
    teach(study, remove=["Nucleus"], update=False)
    assert f"Left to do: `cytosae teach {study}`" in capsys.readouterr().err
    with pytest.raises(CytosaeError, match=f"cytosae teach {study}"):
        export(study, tmp_path / "page")
    assert not (tmp_path / "page").exists()
    marks = study / "taught" / "marks.csv"
    marks.write_bytes(marks.read_bytes()[:-30])
    with pytest.raises(CytosaeError, match=r"marks.csv: changed or damaged .* put a copy of it back"):
        teach(study, clicks(study, NUCLEUS, 3, "Nucleus"), CONFIG)


def test_a_useless_threshold_is_called_that(
    drawn_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    cells, rng = read_cells(study / "cells.parquet")["cell_id"], np.random.default_rng(0)
    rows = [("noise", cells[row], int(rng.integers(256)), "this") for row in range(0, 60, 3)]
    said = teach(study, marks_table(rows), replace(CONFIG, precision=0.05), update=False)
    assert said["learned"]["noise"]["threshold"]["useless"]
    assert "noise: The threshold is useless" in capsys.readouterr().err


def test_the_command_learns_from_labels_and_masks(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    wish = ["--cells-with", "label=lymphocyte", "--inside", "nucleus", "--most", "10", "--random-cells", "64"]
    said = cytosae("teach", study, *wish, "--no-update").stdout
    assert "learned | label: lymphocyte" in said
    assert "learned | nucleus" in said
    assert set(read_marks(study / "taught" / "marks.csv")["concept"]) == {"label: lymphocyte", "nucleus"}


def test_a_taught_study_can_be_evaluated(taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The measures are of the autoencoder's own latents; taught ones are judged when they are learned."""
    study = Path(shutil.copytree(taught[0], tmp_path / "study"))
    few = EvaluateConfig(cells=50, token_cells=20, changed_cells=20, draws=20)
    with study_tokens(study) as tokens:
        evaluate_study(study, tokens, few)
    measured = pd.read_parquet(study / "quality" / "latents.parquet")
    assert len(measured) == SAE.from_pretrained(study / "sae").n_latents
    assert measured["coherence"].notna().any()


def test_the_command_says_that_marks_in_one_cell_cannot_be_tested(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    cell = read_cells(study / "cells.parquet")["cell_id"][0]
    (tmp_path / "marks.csv").write_text(f"concept,cell_id,patch,mark\nfew,{cell},118,this\nfew,{cell},0,not\n")
    said = cytosae("teach", study, "--marks", tmp_path / "marks.csv", "--random-cells", "64", "--no-update").stdout
    assert "AUROC not known yet: mark more cells" in said
    assert "nan" not in said


def test_concepts_depend_less_on_views_that_are_made_once_for_a_study(
    drawn_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, marks = Path(shutil.copytree(drawn_study, tmp_path / "study")), clicks(drawn_study, NUCLEUS, 6, "Nucleus")
    few = replace(CONFIG, views=6)
    teach(study, marks, few, update=False)
    made = (study / "taught" / VIEWS).read_bytes()
    learned = read_taught(study)
    assert learned is not None
    assert learned.details[0]["settings"]["views"] == 6
    images = read_cells(study / "cells.parquet")["path"]
    store = TokenStore(study / "tokens")
    sae = SAE.from_pretrained(study / "sae")
    views = views_of(store, np.arange(4), sae, saved_backbone(study))
    tokens = store.read(np.arange(4)).float().numpy()[:, 1:].reshape(-1, sae.d_model)
    for changes in (views.turned, views.restained):
        share = np.trace(changes) / np.trace(np.cov(tokens.T))
        assert 0.01 < share < 0.7  # patches come back to where they were, so most of them is as it was
    teach(study, marks, few, update=False)
    assert (study / "taught" / VIEWS).read_bytes() == made
    plain = Path(shutil.copytree(drawn_study, tmp_path / "gone"))
    cells = pd.read_parquet(plain / "cells.parquet")
    cells["path"] = [f"{path}.gone" for path in images]
    cells.to_parquet(plain / "cells.parquet")
    assert make_views(plain, Moved(store, cells), sae, few) is None
    assert "not looked at turned and restained" in capsys.readouterr().err


@dataclass(frozen=True)
class Moved:
    """Tokens of cells whose images are gone."""

    store: TokenStore
    cells: pd.DataFrame

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_the_command_learns_from_a_latent_that_almost_fits(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    data = read_concepts(study / "concepts", "synthetic", matrices=False)
    latent = int(np.flatnonzero(data.var["is_concept"])[3])
    found = ask("teach", study, "--like", latent, "--no-update", "--random-cells", "64")
    (learned,) = found["learned"].values()
    assert latent in [near["latent"] for near in learned["nearest"]]
    marks = read_marks(study / "taught" / "marks.csv")
    cells = data.varm["reference_cells"][latent]
    assert set(marks["concept"]) == {f"like latent {latent}"}
    assert marks["cell_id"].tolist() == data.obs_names[cells[cells >= 0]][: len(marks)].tolist()
    latents, maps = read_maps(study / "concepts", "synthetic")
    (own,) = maps[latents == latent]
    assert marks["patch"].tolist() == own.reshape(len(own), -1).argmax(axis=1)[: len(marks)].tolist()
    with pytest.raises(CytosaeError, match="latents 0 to"):
        marks_from_latent(study / "concepts", str(len(data.var)))


def test_classification_and_comparison_take_them_alone_and_say_what_they_gain(
    taught: tuple[Path, dict[str, Any]], drawn_study: Path, tmp_path: Path
) -> None:
    study, _ = taught
    barcodes = study / "cohort" / "barcodes.h5ad"
    config = ClassifyConfig(repeats=1, splits=3, step=1, permutations=0, bootstrap=20)
    result = classify(barcodes, tmp_path / "all", config, centre="laboratory")
    methods = {row["method"]: row for row in result["methods"]}
    assert {
        "barcodes, taught concepts alone",
        "barcodes, untaught concepts alone",
        "barcodes, centred by laboratory",
    } <= methods.keys()
    alone = classify(barcodes, tmp_path / "taught", replace(config, concepts="taught"))
    assert alone["methods"][0]["value"] == methods["barcodes, taught concepts alone"]["value"]
    assert alone["concepts"]["latents"] == 1
    before = classify(drawn_study / "cohort" / "barcodes.h5ad", tmp_path / "before", config)
    assert before["methods"][0]["value"] == methods["barcodes, untaught concepts alone"]["value"]
    assert not any("taught" in row["method"] for row in before["methods"])
    with pytest.raises(CytosaeError, match="these barcodes have none"):
        classify(drawn_study / "cohort" / "barcodes.h5ad", tmp_path / "none", replace(config, concepts="taught"))
    quick = CompareConfig(bootstrap=20, permutations=50, concepts="taught", prevalence=0)
    compare_groups(barcodes, tmp_path / "compared", "healthy", config=quick)
    table = pd.read_csv(tmp_path / "compared" / "latents.csv", index_col=0)
    assert table["taught"].dropna().tolist() == ["Nucleus"]
    assert table["difference"].to_numpy().nonzero()[0].tolist() == [len(table) - 1]


def test_the_explorer_the_patient_page_and_a_prediction_take_it_like_any_latent(
    taught: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    study = Path(shutil.copytree(taught[0], tmp_path / "study"))
    latent = read_concepts(study / "concepts", SET, matrices=False).n_vars - 1
    client = opened(study)
    about = get(client, f"latents/{SET}/{latent}")
    assert len(about["similar"]) == 10
    assert latent in get(client, f"latents/{SET}")["latent"]
    name = get(client, "study")["taught"][str(latent)]
    assert latent_called(name.upper(), read_names(study / "concepts"), latent + 1) == latent
    assert get(client, f"cells/{SET}/0/maps/{latent}")["latent"] == latent
    classify(
        study / "cohort" / "barcodes.h5ad",
        study / "cohort" / "classification",
        ClassifyConfig(repeats=1, splits=3, step=1, permutations=0, bootstrap=20, concepts="taught"),
    )
    page = show_patient(study, "P000", tmp_path / "page.html")
    assert set(page["prediction"]["concepts"][0]) == {"latent", "adds"}
    assert page["prediction"]["concepts"][0]["latent"] == latent
    said = predict_patients(study, study / "cohort" / "cohort.csv", tmp_path / "predicted")
    assert {name for patient in said["patients"] for name in patient["concepts"]} == {str(latent)}
