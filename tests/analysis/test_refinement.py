"""A study's dictionary is refined through the command; the study stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.analysis.refinement_halves import _row
from cytosae.artefacts import read_json, sha256_file
from cytosae.concepts import read_concepts
from cytosae.sae import SAE
from cytosae.teaching import marks_table, write_marks
from support.commands import ask, refused
from support.studies import SET


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with verdicts and a taught concept."""
    study = Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("refined") / "study"))
    said = study.parent / "said.csv"
    said.write_text(
        f"dataset,latent,rater,verdict\n{SET},1,Ann,meaningful\n{SET},2,Ann,meaningful\n{SET},3,Ann,artefact\n"
    )
    cells = read_concepts(study / "concepts", SET, matrices=False).obs
    rows = [("middle", cell, patch, "this") for cell in cells.index[:30:2] for patch in (119, 120)]
    rows += [("middle", cell, patch, "not") for cell in cells.index[:30:2] for patch in (0, 15)]
    write_marks(study.parent / "marks.csv", marks_table(rows))
    ask("teach", study, "--marks", study.parent / "marks.csv")
    ask("annotations", "import", study, said)
    ask("annotations", "apply", study)
    return study


def test_it_says_first_and_then_makes_a_new_autoencoder(study: Path, tmp_path: Path) -> None:
    before = {
        path: sha256_file(path) for path in sorted(study.rglob("*")) if path.is_file() and "sqlite" not in path.name
    }
    latent = int(read_concepts(study / "concepts", SET, matrices=False).var["activation_frequency"].argmax())
    command = ["refine", study, "-o", tmp_path / "new", "--merge", "5,6", "--split", latent, "--refine-images", "160"]
    said = ask(*command)
    assert not said["applied"]
    assert said["asked"]["meaningful"] == [1, 2]
    assert said["asked"]["artefacts"] == [3]
    assert (said["asked"]["merge"], said["asked"]["split"]) == ([[5, 6]], [latent])
    assert (tmp_path / "new" / f"split-{latent}.png").is_file()
    assert not (tmp_path / "new" / "model.safetensors").exists()
    done = ask(*command, "--yes")
    old, new = SAE.from_pretrained(study / "sae"), SAE.from_pretrained(tmp_path / "new")
    assert new.metadata["refined"]["parent"] == done["parent"] == sha256_file(study / "sae" / "model.safetensors")
    assert new.metadata["refined"]["asked"] == said["asked"]
    moved = 1 - (old.W_dec * new.W_dec).sum(dim=1).detach().numpy()
    anew = done["anew"]
    assert {3, 6} <= set(anew)
    assert done["taught"]["middle"] in anew
    others = np.setdiff1d(np.arange(old.n_latents), [*anew, 5, latent])
    assert moved[[1, 2]].max() < np.quantile(moved[others], 0.95)
    assert np.mean(moved[anew]) > 10 * np.median(moved[others])
    assert set(done["dictionaries"]) == {"before", "trained further alone", "refined"}
    areas = done["concepts"]["middle"]
    assert areas["latents"]["refined"] == done["taught"]["middle"]
    assert 0 <= areas["taught, beside the dictionary"]["low"] <= areas["taught, beside the dictionary"]["high"] <= 1
    assert done["patients"]["before"]["low"] <= done["patients"]["before"]["value"]
    assert read_json(tmp_path / "new" / "refinement.json")["parent"] == done["parent"]
    table = pd.read_csv(tmp_path / "new" / "comparison.csv")
    assert {"explained_variance", "l0", "AUROC of middle", "weighted F1"} <= set(table["measure"])
    after = {path: sha256_file(path) for path in before}
    assert after == before


def test_what_cannot_be_asked_is_refused(study: Path, drawn_study: Path, tmp_path: Path) -> None:
    assert "nothing to do" in refused("refine", drawn_study, "-o", tmp_path / "a")
    assert "give two different latents" in refused("refine", study, "-o", tmp_path / "a", "--merge", "4")
    assert "no latent has this" in refused("refine", study, "-o", tmp_path / "a", "--split", "Auer rod")
    assert "is the parent's" in refused("refine", study, "-o", study / "sae")
    assert "missing" in refused("refine", tmp_path, "-o", tmp_path / "a")


def test_a_removed_concept_is_not_taught_to_the_dictionary(study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    assert list(ask("refine", copy)["asked"]["taught"]) == ["middle"]
    ask("teach", copy, "--remove", "middle", "--no-update")
    assert ask("refine", copy)["asked"]["taught"] == {}


def test_halves_of_cells_without_a_label_are_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    cells = pd.DataFrame({"path": [str(tmp_path / "a.png")] * 2, "label": pd.array(["blast", None], dtype="string")})
    viewer: Any = SimpleNamespace(source=SimpleNamespace(cells=cells), grid=(2, 2))
    row = _row(viewer, 5, 0, np.arange(2), np.array([[1, 0, 0, 2], [0, 0, 0, 1]], np.float32))
    assert row.labels == ["blast", None]
