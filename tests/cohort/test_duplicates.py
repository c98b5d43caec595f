"""Cells under two patients: the index finds what comparing all with all finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cohort import duplicates
from cytosae.cohort.duplicates import NEAREST, SAME, correlations, fingerprints, near_pairs, shared_cells


def all_with_all(grey: np.ndarray, patients: np.ndarray) -> set[tuple[int, int]]:
    """Every pair of two patients that is the same in one of the eight positions, by numpy's correlation."""
    flat = grey.reshape(len(grey), -1).astype(float)
    found = np.full((len(grey), len(grey)), -1.0)
    for mirrored in (grey, grey[:, :, ::-1]):
        for k in range(4):
            turned = np.rot90(mirrored, k, (1, 2)).reshape(len(grey), -1).astype(float)
            found = np.maximum(found, np.corrcoef(flat, turned)[: len(grey), len(grey) :])
    found[patients[:, None] == patients] = -1
    return {(int(a), int(b)) for a, b in np.argwhere(np.triu(found, 1) >= SAME)}


@pytest.fixture(scope="module")
def planted(real_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], np.ndarray]:
    """Paths of 200 real cells and 40 that were turned, mirrored, resized or compressed, and their patients."""
    folder = tmp_path_factory.mktemp("planted")
    cells = pd.read_csv(real_cells / "cells.csv")
    paths = [str(real_cells / path) for path in cells["path"].iloc[:: len(cells) // 200][:200]]
    copies = []
    for number, source in enumerate(paths[::5]):
        with Image.open(source) as image:
            changed = image.convert("RGB")
        if number % 4 == 0:
            changed = changed.transpose([Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE][number // 4 % 2])
        elif number % 4 == 1:
            changed = changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((150, 150))
        elif number % 4 == 2:
            changed = changed.resize((170, 170))
        copies.append(str(folder / f"{number}.{'jpg' if number % 4 == 3 else 'png'}"))
        changed.save(copies[-1], **({"quality": 30} if number % 4 == 3 else {}))
    patients = np.r_[np.random.default_rng(0).integers(0, 9, len(paths)), np.full(len(copies), 9)]
    return [*paths, *copies], patients


@pytest.mark.parametrize("box", [16, 1024])
def test_real_cells_and_their_copies_as_by_comparing_all(
    planted: tuple[list[str], np.ndarray], box: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, patients = planted
    monkeypatch.setattr(duplicates, "_BOX", box)
    grey = np.stack([duplicates._small(path) for path in paths])  # type: ignore[misc]
    expected = all_with_all(grey, patients)
    assert len(expected) >= 40
    names = [f"{number}" for number in range(len(paths))]
    found = shared_cells(patients.astype(str).tolist(), paths, names, names)
    assert {(int(a), int(b)) for a, b in zip(found["cell"], found["other_cell"], strict=True)} == expected
    assert found["correlation"].is_monotonic_decreasing


def test_fingerprints_know_no_position_and_never_lie_farther_apart_than_images() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 765, (6, 32, 32)).astype(np.uint16)
    for mirrored in (grey, grey[:, :, ::-1]):
        for k in range(4):
            np.testing.assert_allclose(fingerprints(np.rot90(mirrored, k, (1, 2))), fingerprints(grey), atol=1e-5)
    units = duplicates.unit_vectors(grey).reshape(6, -1)
    for a in range(6):
        apart = np.linalg.norm(units - units[a], axis=1)
        assert (np.linalg.norm(fingerprints(grey) - fingerprints(grey)[a], axis=1) <= apart + 1e-5).all()


def test_correlation_of_pairs_is_numpys_in_the_best_position() -> None:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 765, (4, 32, 32)).astype(np.uint16)
    grey[1] = np.rot90(grey[0])
    grey[3] = 7
    found = correlations(grey, np.array([[0, 1], [0, 2], [0, 3]]))
    assert found[0] == pytest.approx(1, abs=1e-5)
    best = max(
        np.corrcoef(grey[0].ravel(), np.rot90(m, k).ravel())[0, 1]
        for m in (grey[2], grey[2][:, ::-1])
        for k in range(4)
    )
    assert found[1] == pytest.approx(best, abs=1e-5)
    assert found[2] == 0


def test_a_crowd_of_alike_cells_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    prints = (np.ones((600, 64)) / 8 + rng.normal(size=(600, 64)) / 100).astype(np.float32)
    patients = np.arange(600) % 7
    for box in (1024, 64):
        monkeypatch.setattr(duplicates, "_BOX", box)
        pairs = near_pairs(prints, patients)
        assert 600 * NEAREST / 2 <= len(pairs) <= 600 * NEAREST
        assert (patients[pairs[:, 0]] != patients[pairs[:, 1]]).all()
        apart = np.linalg.norm(prints[:, None] - prints, axis=2)
        apart[patients[:, None] == patients] = np.inf
        expected = {(min(a, b), max(a, b)) for a in range(600) for b in np.argsort(apart[a])[: NEAREST - 1].tolist()}
        assert expected <= {(int(a), int(b)) for a, b in pairs}


def test_cells_of_two_patients_are_found_turned_resized_and_compressed(real_cells: Path, tmp_path: Path) -> None:
    """Among 300 real cells: four are given to a second patient as they are, turned, small, and as a poor JPEG."""
    cells = pd.read_csv(real_cells / "cells.csv")
    paths = [str(real_cells / path) for path in cells[cells["dataset"] == "pbc"]["path"].iloc[:2400:8]]
    copies = []
    for name, change in {
        "same.jpg": lambda image: image,
        "turned.png": lambda image: image.transpose(Image.Transpose.ROTATE_90),
        "small.png": lambda image: image.resize((150, 150)),
        "poor.jpg": lambda image: image,
    }.items():
        source = paths[len(copies) * 50]
        if name == "same.jpg":
            (tmp_path / name).write_bytes(Path(source).read_bytes())
        else:
            with Image.open(source) as image:
                change(image.convert("RGB")).save(tmp_path / name, **({"quality": 30} if name == "poor.jpg" else {}))
        copies.append(str(tmp_path / name))
    everything = [*paths, *copies]
    rng = np.random.default_rng(0)
    patients = [*[f"P{i}" for i in rng.integers(0, 12, len(paths))], *["other"] * 4]
    hashes = [str(Path(p).stat().st_size) + p if i < 300 else p for i, p in enumerate(everything)]
    hashes[300] = hashes[0]
    found = shared_cells(patients, everything, hashes, [f"c{i}" for i in range(304)])
    pairs = {frozenset((a, b)) for a, b in zip(found["cell"], found["other_cell"], strict=True)}
    assert pairs == {frozenset((f"c{50 * i}", f"c{300 + i}")) for i in range(4)}
    assert found["correlation"].min() > 0.98
