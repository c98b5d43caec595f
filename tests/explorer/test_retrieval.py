"""What the explorer answers of the cells of one patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from cytosae.analysis.one_patient import open_patient
from cytosae.analysis.patient_cells import cells_of_concept, patient_unfamiliar, read_drawn_cells
from cytosae.explorer import schemas
from support.explorer import CLOSE, get, refusal


def test_cells_of_a_patient_are_those_that_the_library_lists(client: TestClient, study: Path, data: Any) -> None:
    patient = open_patient(study, study / "cohort" / "barcodes.h5ad", "P003")
    drawn = read_drawn_cells(study, patient.data)
    latent = int(np.argmax((patient.counts.toarray() > 0).sum(axis=0) == 4))
    for group in ("healthy", "nobody"):
        expected = cells_of_concept(patient, drawn, latent, group)
        found = get(client, f"patients/P003/concepts/{latent}", against=group)
        schemas.patient_cells.ConceptCells.model_validate(found)
        assert [cell["cell_id"] for cell in found["cells"]] == patient.cells.index[expected.cells].tolist()
        assert [cell["score"] for cell in found["cells"]] == pytest.approx(expected.values.tolist(), **CLOSE)
        assert [cell["expected"] for cell in found["cells"]] == pytest.approx(expected.expected.tolist(), **CLOSE)
        assert (found["group"], found["sure"], found["n_cells"]) == (expected.group, expected.sure, len(patient.cells))
        assert found["chance"]["expected"] == pytest.approx(expected.chance.expected, **CLOSE)
        for cell in found["cells"]:
            assert data.obs_names[cell["row"]] == cell["cell_id"]
    odd = patient_unfamiliar(patient, drawn, data.var)
    told = get(client, "patients/P003/unfamiliar")
    schemas.patient_cells.UnfamiliarAnswer.model_validate(told)
    assert odd is not None
    assert told["unlike"]["threshold"] == pytest.approx(odd.result.threshold, **CLOSE)
    assert [cell["cell_id"] for cell in told["unlike"]["cells"]] == patient.cells.index[odd.result.cells].tolist()
    for cell in told["unlike"]["cells"]:
        assert data.obs["patient"].iloc[cell["nearest"]["row"]] == cell["nearest_patient"]


def test_cells_of_nobody_and_of_no_latent(client: TestClient) -> None:
    assert "no such patient" in refusal(client.get("/api/patients/P999/concepts/3"), 404)
    assert "no such patient" in refusal(client.get("/api/patients/P999/unfamiliar"), 404)
    assert "the study has latents" in refusal(client.get("/api/patients/P003/concepts/99999"), 404)
