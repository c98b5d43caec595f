"""All cells of a patient that show a concept, and those unlike the cells of any other patient, through the command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cytosae.analysis.one_patient import open_patient
from cytosae.analysis.patient_cells import cells_of_concept, patient_unfamiliar, read_drawn_cells
from cytosae.cohort import number_by_chance, read_barcodes
from cytosae.concepts import read_concepts
from support.commands import ask, refused
from support.studies import SET


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of patients."""
    return Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("cells") / "study"))


def test_every_cell_that_shows_a_concept_is_listed_beside_the_number_by_chance(study: Path, tmp_path: Path) -> None:
    data, barcodes = read_concepts(study / "concepts", SET), read_barcodes(study / "cohort" / "barcodes.h5ad")
    mine = (data.obs["patient"] == "P003").to_numpy()
    shown = np.asarray((data.X[mine] > 0).sum(axis=0)).ravel()
    latent = int(np.flatnonzero((shown >= 3) & (shown <= 6))[0])
    command = ["patient", study, "P003", "-o", tmp_path / "p.html", "--cells", "2", "--concepts", "2"]
    found = ask(*command, "--concept", latent)
    (one,) = found["shown"].values()
    counts = data.X[mine][:, [latent]].toarray()[:, 0]
    means = data.layers["mean_activation"][mine][:, [latent]].toarray()[:, 0]
    order = [i for i in np.argsort(-means, kind="stable") if counts[i] > 0]
    assert [cell["cell"] for cell in one["cells"]] == data.obs_names[mine][order].tolist()
    assert [cell["patches"] for cell in one["cells"]] == counts[order].tolist()
    group = (barcodes.obs["diagnosis"] == "healthy").to_numpy()
    active = [
        int((data.X[(data.obs["patient"] == name).to_numpy()][:, [latent]].toarray() > 0).sum())
        for name in barcodes.obs_names[group]
    ]
    chance = number_by_chance(len(order), int(mine.sum()), active, barcodes.obs["n_cells"][group])
    assert one["group"] == "healthy patients"
    assert one["by_chance"]["expected"] == pytest.approx(chance.expected)
    assert (one["by_chance"]["low"], one["by_chance"]["high"]) == pytest.approx((chance.low, chance.high))
    expected = [cell["expected_as_strong"] for cell in one["cells"]]
    assert expected == sorted(expected)
    assert expected[0] > 0
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert f"Cells that show latent {latent}" in html
    assert f"{len(order)} of {mine.sum()} cells show it" in html
    assert "Cells unlike those of any other patient" in html
    all_others = ask(*command, "--concept", latent, "--healthy", "nobody")
    (one,) = all_others["shown"].values()
    assert (one["group"], one["by_chance"]["patients"]) == ("other patients", 19)
    assert "has latents 0 to" in refused(*command, "--concept", "99999")
    assert "no latent has this number or name" in refused(*command, "--concept", "Auer rod")


def test_cells_of_a_kind_that_nobody_else_has_come_first(study: Path) -> None:
    patient = open_patient(study, study / "cohort" / "barcodes.h5ad", "P000")
    drawn = read_drawn_cells(study, patient.data)
    whole = read_concepts(study / "concepts", SET)
    assert len(drawn.row) == whole.n_obs
    usual = patient_unfamiliar(patient, drawn, whole.var)
    assert usual is not None
    assert patient.row not in drawn.patient[usual.compared]
    assert len(usual.result.cells) <= usual.result.chance.high
    means = patient.means.toarray()
    means[[1, 4]] = means[[1, 4]][:, np.random.default_rng(0).permutation(means.shape[1])]
    found = patient_unfamiliar(replace(patient, means=sp.csr_matrix(means)), drawn, whole.var)
    assert found is not None
    assert set(found.result.cells[:2]) == {1, 4}
    told = found.record(patient)
    assert {cell["cell"] for cell in told["cells"][:2]} == set(patient.cells.index[[1, 4]])
    assert all(cell["nearest_patient"] != "P000" for cell in told["cells"])
    assert told["threshold"] == pytest.approx(usual.result.threshold)  # the patient has no say in it
    assert f"{len(told['cells'])} of {len(patient.cells)} cells" in found.sentence()


def test_two_groups_say_the_same_of_the_same_patient(study: Path) -> None:
    patient = open_patient(study, study / "cohort" / "barcodes.h5ad", "P001")
    drawn = read_drawn_cells(study, patient.data)
    first, second = (cells_of_concept(patient, drawn, 3, group) for group in ("healthy", "nobody"))
    assert first.cells.tolist() == second.cells.tolist()
    assert second.chance.patients == 19
