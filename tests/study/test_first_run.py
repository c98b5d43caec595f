"""What somebody meets who gives a folder of images and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cytosae.backbones import load
from cytosae.explorer.reader import StudyReader
from cytosae.learned import why_not_learned
from cytosae.settings import PRESETS, TrainConfig
from cytosae.study import forecast as module
from cytosae.study.forecast import LONG, described, forecast, training_seconds
from cytosae.tokens import store_layout
from support.commands import cytosae

SHORT = ("--images", "8", "--batch-images", "4", "--workers", "0")


def settings(study: Path) -> dict[str, Any]:
    return dict(json.loads((study / "study.json").read_text())["settings"]["train"])


def test_a_new_study_has_the_recommended_settings(pictures: Path, vit: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    said = cytosae("run", pictures, "--study", study, "--backbone", vit, *SHORT).stderr
    recorded, recommended = settings(study), PRESETS["recommended"]
    assert recorded["objective"] == recommended.objective == "batchtopk"
    assert recorded["revival"] == recommended.dead_latent_loss
    assert (recorded["expansion"], recorded["images"]) == (recommended.expansion, 8)
    assert "run: 8 cells, 2 labels, no patients; backbone" in said
    # What is remembered stays, whatever the defaults of a new study are.
    again = cytosae("run", pictures, "--study", study)
    assert "sae: up to date" in again.stderr
    assert settings(study) == recorded


def test_a_study_with_the_papers_settings_keeps_them(pictures: Path, vit: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    first = ("--preset", "paper", "--expansion", "2", *SHORT)
    said = cytosae("run", pictures, "--study", study, "--backbone", vit, *first).stderr
    # Two steps are not enough for anything: half of the latents are active, as at the start.
    figures = json.loads((study / "sae" / "manifest.json").read_text())["summary"]
    why = why_not_learned(figures)
    assert why is not None
    assert "latents are active on a token" in why
    assert f"sae: this autoencoder has not learned: {why}." in said
    assert f"has not learned:</b> {why}." in (study / "report" / "index.html").read_text()
    assert StudyReader(study).why_not_learned == why
    assert "sae: up to date" in cytosae("run", pictures, "--study", study).stderr
    assert settings(study)["objective"] == "release"


@pytest.mark.parametrize(
    ("variance", "l0", "why"),
    [
        (0.91, 32.0, None),
        (0.3, 600.0, None),
        (0.13, 32.0, "it explains little of the tokens (explained variance 0.13)"),
        (-0.1, 32.0, "its reconstructions are worse than the mean token (explained variance -0.10)"),
        (0.9, 768.0, "768 of 1,536 latents are active on a token"),
    ],
)
def test_what_shows_that_a_training_has_not_learned(variance: float, l0: float, why: str | None) -> None:
    assert why_not_learned({"explained_variance": variance, "l0": l0, "n_latents": 1536}) == why


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An image takes 0.5 s to embed, a dense step on four images 3 s, any other 0.1 s."""
    steps: list[str] = []

    def seconds(work: Callable[[], Any], device: Any) -> float:
        work()
        return 2.0

    def step_seconds(config: TrainConfig, x: Any, l0: float | None = None) -> float:
        steps.append("dense" if l0 is None else f"{l0:g}")
        assert x.shape == (4 * 65, 48)
        return 3.0 if l0 is None else 0.1

    monkeypatch.setattr(module, "seconds", seconds)
    monkeypatch.setattr(module, "step_seconds", step_seconds)
    return steps


def test_the_time_of_a_run_is_said_before_it_begins(measured: list[str], vit: Path) -> None:
    backbone = load(str(vit))
    layout = store_layout(backbone.info)

    def said_of(to_embed: int, config: TrainConfig | None) -> str | None:
        return forecast(to_embed, lambda: backbone, layout, backbone.device, config)

    recommended = PRESETS["recommended"].scaled_to(400, 65, 48)
    # 1,000 steps on 16 images, four times those of the measurement: 400 s; 400 images of 0.5 s: 200 s
    assert said_of(400, recommended) == (
        "about 10 min on this machine (tokens of 400 images 3 min, training on 16,000 images 7 min), and some more for the "
        "report"
    )
    assert measured == ["32"]
    assert said_of(0, recommended) == (
        "about 7 min on this machine (training on 16,000 images 7 min), and some more for the report"
    )
    # The warm-up of the paper's is dense: 500 of 15,625 steps on 64 images.
    paper = TrainConfig()
    assert training_seconds(paper, 65, 48, backbone.device) == pytest.approx(16 * (500 * 3.0 + 15_125 * 0.1))
    said = said_of(0, paper)
    assert said is not None
    assert "13.4 h on this machine" in said
    assert said.endswith("--images sets the length of the training")
    assert said_of(LONG - 9, TrainConfig(images=8)) is None
    assert said_of(LONG + 1, None) is not None


def test_what_was_understood() -> None:
    cells = pd.DataFrame({"label": ["a", "b", None], "patient": ["p", "p", "p"]})
    assert described(cells, "vit").startswith("3 cells, 2 labels, 1 patient; backbone ")
    assert "small" in described(cells.assign(patient=None), "tiny")
    assert "no patients" in described(cells.assign(patient=None), "tiny")


def test_a_training_that_is_due_loads_no_backbone(
    pictures: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokens are there: the backbone may be large, or gone."""
    study = tmp_path / "study"
    cytosae("run", pictures, "--study", study, "--backbone", vit, *SHORT)
    shutil.rmtree(study / "sae")

    def load_backbone(*_: Any) -> Any:
        pytest.fail("the backbone was loaded")

    monkeypatch.setattr("cytosae.study.study.load_backbone", load_backbone)
    monkeypatch.setattr(module, "LONG", 1)
    said = cytosae("run", pictures, "--study", study).stderr
    assert "run: about " in said
    assert "tokens of" not in said
