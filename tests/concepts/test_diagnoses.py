"""A diagnosis is named where its patients show a concept more often; never for cells, few patients, or a laboratory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from cytosae.concepts import read_concepts, read_descriptions, read_facts
from cytosae.concepts.description import describing
from cytosae.concepts.description.diagnoses import Diagnosed, diagnosed
from cytosae.concepts.storage import read_activations
from support.commands import assert_user_error, cytosae
from support.studies import SET

CONCEPTS = 40


def cohort(
    diagnoses: list[str], cells: int | list[int] = 12, laboratories: list[str] | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells of one patient for each of some diagnoses, and how likely each is to show each concept, 0.3."""
    numbers = [cells] * len(diagnoses) if isinstance(cells, int) else cells
    patient = np.repeat(np.arange(len(diagnoses)), numbers)
    obs = pd.DataFrame({"patient": [f"P{p}" for p in patient], "diagnosis": np.array(diagnoses)[patient]})
    if laboratories is not None:
        obs["laboratory"] = np.array(laboratories)[patient]
    return obs, np.full((len(obs), CONCEPTS), 0.3)


def found(obs: pd.DataFrame, likely: np.ndarray, seed: int = 0) -> tuple[Diagnosed, np.ndarray]:
    active = np.random.default_rng(seed).random(likely.shape) < likely
    return diagnosed(obs, sp.csr_matrix(active.astype(float)), "laboratory", 0), active


def test_a_planted_diagnosis_is_found_over_patients() -> None:
    obs, likely = cohort(["A", "B", "C"] * 10)
    likely[obs["diagnosis"] == "B", 3] = 0.8
    said, active = found(obs, likely)
    assert said.names[said.best.best[3]] == "B"
    shares = pd.DataFrame(active).groupby(obs["patient"], sort=False).mean()
    mine = obs.groupby("patient", sort=False)["diagnosis"].first() == "B"
    assert said.best.value[3] == pytest.approx(roc_auc_score(mine, shares[3]))
    assert said.ratio[3] == pytest.approx(shares.loc[mine, 3].mean() / shares.loc[~mine, 3].mean(), rel=0.05)
    assert said.best.q[3] < 0.01
    assert (np.delete(said.best.q, 3) > 0.05).all()


def test_shuffled_diagnoses_pass_as_seldom_as_q_says() -> None:
    rng = np.random.default_rng(0)
    lowest = []
    for seed in range(100):
        obs, likely = cohort(rng.permutation(["A", "B", "C"] * 8).tolist(), 6)
        lowest.append(found(obs, likely, seed)[0].best.q.min())
    assert 0.03 <= np.mean(np.array(lowest) < 0.1) <= 0.2  # the smallest of 40 concepts and 3 diagnoses
    assert np.mean(np.array(lowest) < 0.01) <= 0.04


def test_many_cells_of_one_patient_are_one_patient() -> None:
    obs, likely = cohort(["A"] * 10 + ["B"] * 10, [12] * 10 + [300] + [12] * 9)
    likely[obs["patient"] == "P10", 0] = 1
    assert found(obs, likely)[0].best.q[0] > 0.05


def test_a_rare_concept_is_not_that_of_patients_with_many_cells() -> None:
    obs, likely = cohort(["A"] * 12 + ["B"] * 12, [200] * 12 + [10] * 12)
    said = found(obs, likely * 0 + 0.02)[0]
    assert (said.best.q > 0.01).all()


@pytest.mark.parametrize(
    ("diagnoses", "laboratories"),
    [
        (["A", "B", "C"], None),  # a patient each
        (["A"] * 4 + ["B"] * 30, None),  # few
        (["A"] * 12 + ["B"] * 12, ["one"] * 12 + ["two"] * 12),  # each laboratory its own
        (["A"] * 20, None),
    ],
)
def test_nothing_is_said_where_nothing_can_be_compared(diagnoses: list[str], laboratories: list[str] | None) -> None:
    obs, likely = cohort(diagnoses, laboratories=laboratories)
    likely[obs["diagnosis"] == "A", 0] = 1
    said = found(obs, likely)[0]
    assert (said.best.best == -1).all()
    for column in ("patient", "diagnosis"):
        assert (found(obs.drop(columns=column), likely)[0].best.best == -1).all()


def test_what_is_the_laboratorys_is_not_the_diagnosis() -> None:
    laboratories = ["one"] * 20 + ["two"] * 20
    obs, likely = cohort(["A"] * 17 + ["B"] * 3 + ["A"] * 3 + ["B"] * 17, laboratories=laboratories)
    likely[obs["laboratory"] == "one", 0] = 0.9
    likely[obs["diagnosis"] == "A", 1] = 0.9
    blind = found(obs.drop(columns="laboratory"), likely)[0]
    assert blind.best.q[:2].max() < 0.01  # without the column nobody could know
    said = found(obs, likely)[0]
    assert said.best.q[0] > 0.05
    assert said.best.q[1] < 0.01


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("diagnoses") / "study"))


def test_the_sentence_names_it_and_four_patients_are_too_few(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_user_error(cytosae("describe", study, "--laboratory", "nowhere", check=False), "nowhere", "no such column")
    describing.describe_concepts(study)
    assert not (read_facts(study)["kind"] == "diagnosis").any()  # five groups of four
    concepts = read_concepts(study / "concepts", SET)
    latent = int(read_descriptions(study)["latent"].iloc[0])
    shows = (
        read_activations(study / "concepts", SET, np.arange(concepts.n_obs), np.array([latent]))[0].toarray()[:, 0] > 0
    )
    share = pd.Series(shows).groupby(concepts.obs["patient"].astype(str).to_numpy()).transform("mean")

    def planted(obs: pd.DataFrame, active: Any, laboratory: str, seed: int) -> Diagnosed:
        few = share.rank(method="dense") <= share.rank(method="dense").median()
        return diagnosed(
            obs.assign(diagnosis=np.where(few, "healthy", "APL")).drop(columns="laboratory"), active, "", seed
        )

    monkeypatch.setattr(describing, "diagnosed", planted)
    describing.describe_concepts(study)
    facts = read_facts(study).query(f"kind == 'diagnosis' and latent == {latent}")
    assert facts["passes"].tolist() == [True]
    assert facts["subject"].tolist() == ["APL"]
    assert facts["q"].iloc[0] < 0.01
    row = read_descriptions(study).set_index("latent").loc[latent]
    assert row["diagnosis"].startswith("diagnosis APL")
    assert row["diagnosis"] in row["description"]
    text = concepts.var.index[latent]
    assert read_concepts(study / "concepts", SET).var["description"][text] == row["description"]
