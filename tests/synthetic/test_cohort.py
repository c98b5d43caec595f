"""Synthetic cohorts: resumed to the same bytes, groups that differ as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytosae.errors import CytosaeError
from cytosae.synthetic import (
    CELL_TYPES,
    DIAGNOSES,
    TABLE_COLUMNS,
    TRAIT_RATES,
    CohortSpec,
    disease_concepts,
    draw_patient,
    has_concept,
    read_concept_masks,
    render_cell,
    write_cohort,
)
from cytosae.synthetic.profiles import PROFILES
from support.folders import contents

SMALL = CohortSpec(patients=5, cells=4, seed=11)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write_cohort(SMALL, folder)


def test_cohort_table_and_files(cohort: tuple[Path, pd.DataFrame]) -> None:
    folder, table = cohort
    assert tuple(table.columns) == TABLE_COLUMNS
    assert table["cell_id"].is_unique
    assert set(table["diagnosis"]) == set(DIAGNOSES)
    assert table["patient"].nunique() == SMALL.patients
    assert table["label"].isin(CELL_TYPES).all()
    assert table.groupby("patient")["diagnosis"].nunique().eq(1).all()
    for row in table.itertuples():
        with Image.open(folder / row.path) as image:
            assert image.format == "JPEG"
            assert image.size == (224, 224)
        masks = read_concept_masks(folder / row.concepts)
        grey = np.asarray(Image.open(folder / row.mask))
        assert set(np.unique(grey)) <= {0, 128, 255}
        np.testing.assert_array_equal(grey == 255, has_concept(masks, "nucleus"))
        np.testing.assert_array_equal(grey == 128, has_concept(masks, "cytoplasm"))


def test_concept_file_keeps_every_bit(cohort: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    from cytosae.synthetic import cohort as module

    folder, table = cohort
    seen: list[NDArray[np.uint32]] = []

    def kept(*args: object, **kwargs: object) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        image, masks = render_cell(*args, **kwargs)  # type: ignore[arg-type]
        seen.append(masks)
        return image, masks

    (folder / table["concepts"][0]).unlink()
    monkeypatch.setattr(module, "render_cell", kept)
    write_cohort(SMALL, folder)
    assert len(seen) == 1  # only the cell that was not whole is rendered again
    np.testing.assert_array_equal(read_concept_masks(folder / table["concepts"][0]), seen[0])


def test_interrupted_cohort_is_resumed_to_the_same_bytes(cohort: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise Stop

    with pytest.raises(Stop):
        write_cohort(SMALL, tmp_path, progress=stop)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert len(made) == 7
    calls: list[tuple[int, int]] = []
    table = write_cohort(SMALL, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    assert calls == [(done, len(table)) for done in range(1, len(table) + 1)]
    pd.testing.assert_frame_equal(table, cohort[1])
    assert contents(tmp_path) == contents(cohort[0])


def test_folder_of_another_cohort_is_refused(cohort: tuple[Path, pd.DataFrame]) -> None:
    with pytest.raises(CytosaeError, match="holds another synthetic cohort"):
        write_cohort(CohortSpec(patients=5, cells=4, seed=12), cohort[0])


def test_broken_concept_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(CytosaeError, match=r"a\.png"):
        read_concept_masks(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    with pytest.raises(CytosaeError, match="found mode L"):
        read_concept_masks(tmp_path / "b.png")


def test_patients_vary_and_do_not_depend_on_their_number() -> None:
    drawn = [draw_patient(CohortSpec(patients=60), index) for index in range(60)]
    sizes = [patient.n_cells for patient in drawn]
    assert len(set(sizes)) > 10
    assert 30 < np.mean(sizes) < 50
    alone = draw_patient(CohortSpec(patients=8), 7)
    np.testing.assert_array_equal(alone.fractions, drawn[7].fractions)
    table = pd.crosstab([p.diagnosis for p in drawn], [p.laboratory.name for p in drawn])
    assert table.shape == (5, 3)
    assert (table == 4).all().all()  # laboratory tells nothing of diagnosis


def test_groups_overlap_but_differ_as_documented() -> None:
    """Share of cells that carry a concept, from the drawn rates of many patients."""
    carriers = {
        "eosinophilic_granules": {"eosinophil": None},
        "dense_chromatin": {"segmented_neutrophil": None, "band_neutrophil": None, "lymphocyte": None},
        "nuclear_lobes": {"segmented_neutrophil": None, "eosinophil": "nuclear_lobes", "promyelocyte": "nuclear_lobes"},
        "basophilic_granules": {"basophil": None, "eosinophil": "basophilic_granules"},
        "nuclear_indentation": {
            "band_neutrophil": None,
            "monocyte": "nuclear_indentation",
            "blast": "nuclear_indentation",
        },
    }
    spec = CohortSpec(patients=600)
    patients = [draw_patient(spec, index) for index in range(spec.patients)]

    def share(patient: object, concept: str) -> float:
        ways = carriers.get(concept) or {kind: concept for kind, rates in TRAIT_RATES.items() if concept in rates}
        shares, rates = patient.fractions, patient.rates  # type: ignore[attr-defined]
        return float(
            sum(
                shares[CELL_TYPES.index(kind)] * (1.0 if trait is None else rates[kind][trait])
                for kind, trait in ways.items()
            )
        )

    assert set(disease_concepts) == set(DIAGNOSES) == set(PROFILES)
    for diagnosis, concepts in disease_concepts.items():
        for concept in concepts:
            per_group = {
                name: np.array([share(p, concept) for p in patients if p.diagnosis == name]) for name in DIAGNOSES
            }
            others = np.concatenate([values for name, values in per_group.items() if name != diagnosis])
            own = per_group[diagnosis]
            assert own.mean() > 1.3 * others.mean(), (diagnosis, concept)
            if concept != "faggot":  # the only one that other groups never show
                assert own.min() < others.max(), (diagnosis, concept)


def test_specification_is_parsed() -> None:
    assert CohortSpec.parse("patients=6, cells=3,seed=9") == CohortSpec(6, 3, 9)
    assert CohortSpec.parse("") == CohortSpec()
    assert CohortSpec.parse("shift=0.5,laboratories=4") == CohortSpec(laboratories=4, shift=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient=6", "unknown key 'patient'"),
        ("6", "unknown key '6'"),
        ("patients=six", "expected a whole number"),
        ("patients", "expected a whole number"),
        ("cells=2.5", "expected a whole number"),
        ("shift=much", "expected a number"),
        ("shift=nan", "from 0 to 2"),
        ("patients=0", "from 1 to"),
        ("seed=-1", "from 0 to"),
        ("laboratories=9", "from 1 to 4"),
        ("seed=1,seed=2", "given twice"),
    ],
)
def test_wrong_specification(text: str, message: str) -> None:
    with pytest.raises(CytosaeError, match=message):
        CohortSpec.parse(text)
