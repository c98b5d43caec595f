"""How far cells lie from those of a study: planted shifts are found, and false alarms are as many as is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cytosae.concepts import familiarity as f
from cytosae.errors import CytosaeError

FREQUENCY = np.random.default_rng(9).uniform(0.02, 0.4, 60)


def _cells(n: int, patients: int, seed: int, shift: float = 0.0, more: float = 1.0) -> tuple[np.ndarray, sp.csr_matrix]:
    """Cells of patients who differ a little, and what they show."""
    rng = np.random.default_rng(seed)
    own = rng.normal(scale=0.3, size=(patients, 12))[np.arange(n) * patients // n]
    shows = rng.random((n, 60)) < np.clip(FREQUENCY * more, 0, 1)
    return own + rng.normal(size=(n, 12)) + shift, sp.csr_matrix(shows.astype(np.int32))


def _known(seed: int = 0) -> f.Familiarity:
    found = f.fit_familiarity(*_cells(1200, 40, seed), np.arange(1200) * 40 // 1200, seed)
    assert found is not None
    return found


def test_false_alarms_are_as_many_as_is_said() -> None:
    cells, patients = [], []
    for seed in range(10):
        known = _known(seed)
        beyond = known.far(*_cells(3000, 100, 100 + seed)).reshape(100, 30).mean(axis=1)
        cells.append(beyond.mean())
        patients.append((beyond > known.most).mean())
        assert known.rate <= 0.1
    assert np.mean(cells) == pytest.approx(f.ALARMS, abs=0.006)
    assert np.mean(patients) < 0.1


def test_a_shift_of_tokens_or_of_concepts_is_found_and_said() -> None:
    known = _known()
    for change in ({"shift": 1.5}, {"more": 3.0}):
        far = int(known.far(*_cells(300, 10, 5, **change)).sum())
        assert far > 150, change
        sentence = known.sentence(far, 300, "the cells of new")
        assert sentence is not None
        assert "the cells of new" in sentence
        assert "false alarms" in sentence
    assert known.sentence(3, 300, "the cells of new") is None
    assert known.sentence(0, 0, "nobody") is None


def test_distances_are_those_of_the_formula() -> None:
    known = _known()
    cells, counts = _cells(5, 5, 3)
    tokens, concepts = known.distances(cells, counts).T
    for row in range(5):
        z = (cells[row] - known.mean) / known.deviation
        shows = counts[row].toarray()[0] > 0
        assert tokens[row] == pytest.approx(np.sqrt((z**2).mean()))
        expected = -np.log(np.where(shows, known.frequency, 1 - known.frequency)).sum()
        assert concepts[row] == pytest.approx(expected)


def test_taught_latents_do_not_count() -> None:
    known = _known()
    cells, counts = _cells(20, 5, 3)
    more = sp.csr_matrix(sp.hstack([counts, np.ones((20, 2))]))
    assert (known.distances(cells, more) == known.distances(cells, counts)).all()


def test_few_cells_and_cells_of_nobody() -> None:
    assert f.fit_familiarity(*_cells(39, 3, 0), np.arange(39)) is None
    known = f.fit_familiarity(*_cells(400, 400, 0), np.full(400, -1))
    assert known is not None
    assert known.groups == 7  # blocks of thirty of half of them
    one = f.fit_familiarity(*_cells(400, 1, 0), np.zeros(400, int))
    assert one is not None
    assert np.isfinite(one.limits).all()


def test_it_is_kept_and_damage_is_named(tmp_path: Path) -> None:
    known = _known()
    (tmp_path / f.STAGE).mkdir()
    f._write(tmp_path / f.STAGE, known)
    again = f.read_familiarity(tmp_path)
    assert again is not None
    assert again.limits == known.limits
    assert (again.frequency == known.frequency).all()
    path = tmp_path / f.STAGE / f.FILE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CytosaeError, match="damaged"):
        f.read_familiarity(tmp_path)
    path.unlink()
    assert f.read_familiarity(tmp_path) is None
