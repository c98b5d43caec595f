"""`cytosae measure`: resumable, with provenance, joined to the concepts of a study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.artefacts import Manifest
from cytosae.cells import read_cells
from cytosae.concepts import read_concepts
from cytosae.morphometry import LOOKS, measure_cells, read_measurements, read_places, stage
from cytosae.segmentation import MEASUREMENTS
from cytosae.synthetic import random_cells, segmentation
from support.commands import assert_user_error, cytosae, figures
from support.studies import SET


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """A listing of six drawn cells, two of them with a mask and three with a scale."""
    images, masks = random_cells(6, seed=2)
    rows = []
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        row: dict[str, object] = {"path": f"{number}.png", "mpp": 0.1 if number < 3 else None}
        if number in (2, 3):
            Image.fromarray(np.asarray(segmentation(mask))).save(tmp_path / f"mask-{number}.png")
            row["mask"] = f"mask-{number}.png"
        rows.append(row)
    pd.DataFrame(rows).to_csv(tmp_path / "cells.csv", index=False)
    cytosae("cells", tmp_path / "cells.csv", "-o", tmp_path / "cells.parquet")
    return tmp_path / "cells.parquet"


def test_measurements_have_a_row_per_cell_and_are_made_once(listing: Path, tmp_path: Path) -> None:
    said = figures(cytosae("measure", listing, "-o", tmp_path / "m", "--json"))
    assert said["cells"] == 6
    assert said["segmented"] == {"colour": 4, "mask": 2}
    assert said["with_scale"] == 3
    table = read_measurements(tmp_path / "m")
    assert [*table.columns] == [*(m.name for m in MEASUREMENTS), "segmented_by", "segmentation_flags"]
    assert table.index.tolist() == read_cells(listing)["cell_id"].tolist()
    assert table["cell_area_um2"].notna().sum() == 3
    places, looks = read_places(tmp_path / "m", [*table.index, "nobody"])
    assert places.shape == (7, 64, 64)
    assert looks.shape == (7, len(LOOKS), 16, 16)
    assert looks[:6].any(axis=(1, 2, 3)).all()
    assert not looks[6].any()
    before = (tmp_path / "m" / "measurements.parquet").stat().st_mtime_ns
    assert "up to date" in cytosae("measure", listing, "-o", tmp_path / "m").stderr
    assert (tmp_path / "m" / "measurements.parquet").stat().st_mtime_ns == before
    manifest = Manifest.load(tmp_path / "m")
    assert manifest is not None
    assert {*manifest.inputs} == {"cells", "masks", "mpp"}
    assert not (tmp_path / "m" / "cytosae-pieces").exists()


def test_an_interrupted_run_resumes_at_the_next_range(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_RANGE", 2)
    cells, measured = read_cells(listing), []
    real = stage.find_cell

    def dies(*given: object, **named: object) -> object:
        measured.append(1)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return real(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "find_cell", dies)
    with pytest.raises(KeyboardInterrupt):
        measure_cells(cells, tmp_path / "m")
    assert Manifest.load(tmp_path / "m") is None
    measure_cells(cells, tmp_path / "m")
    assert len(measured) == 4 + 4  # the first range was kept
    monkeypatch.setattr(stage, "find_cell", real)
    measure_cells(cells, tmp_path / "whole")
    pd.testing.assert_frame_equal(read_measurements(tmp_path / "m"), read_measurements(tmp_path / "whole"))


def test_another_mask_or_scale_makes_them_stale(listing: Path, tmp_path: Path) -> None:
    cells = read_cells(listing)
    measure_cells(cells, tmp_path / "m")
    Image.fromarray(np.zeros((224, 224), np.uint8)).save(tmp_path / "mask-2.png")
    assert measure_cells(cells, tmp_path / "m")["flags"].get("no nucleus", 0) >= 1
    cells["mpp"] = 0.2
    assert measure_cells(cells, tmp_path / "m")["with_scale"] >= 3


def test_mistakes_are_named(listing: Path, tmp_path: Path) -> None:
    cells = pd.read_parquet(listing)
    pd.read_csv(tmp_path / "cells.csv").assign(mpp=-1).to_csv(tmp_path / "wrong.csv", index=False)
    cytosae("cells", tmp_path / "wrong.csv", "-o", tmp_path / "wrong.parquet")
    done = cytosae("measure", tmp_path / "wrong.parquet", "-o", tmp_path / "w", check=False)
    assert_user_error(done, "mpp", "above 0")
    assert not (tmp_path / "w").exists()
    Path(str(read_cells(listing)["path"].iloc[0])).write_bytes(b"no image")
    done = cytosae("measure", listing, "-o", tmp_path / "w", check=False)
    assert_user_error(done, "0.png", "list them again")
    assert len(cells) == 6


def test_the_concepts_of_a_study_get_the_measurements(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    before = json.loads((study / "concepts" / "manifest.json").read_text(encoding="utf-8"))
    said = figures(cytosae("measure", study, "--json"))
    data = read_concepts(study / "concepts", SET)
    assert said["joined"] == data.n_obs
    assert data.obs["nuclear_fraction"].between(0, 1).mean() > 0.8
    assert {"segmented_by", "segmentation_flags"} <= {*data.obs.columns}
    assert "cell_area_um2" not in data.obs  # nobody knows the scale
    after = json.loads((study / "concepts" / "manifest.json").read_text(encoding="utf-8"))
    assert before["inputs"] == after["inputs"]
    assert figures(cytosae("measure", study, "--json"))["files"] == 0
    done = cytosae("run", "synthetic:patients=20,cells=9,seed=4", "--study", study, check=False)
    assert "cohort: up to date" in done.stderr or done.returncode == 0
