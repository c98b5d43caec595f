"""What somebody meets who gives a folder of images and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import typer

from cytosae.backbones import load
from cytosae.cli.commands import app
from cytosae.explorer.reader import StudyReader
from cytosae.learned import why_not_learned
from cytosae.sae.cost import Span
from cytosae.settings import PRESETS, TrainConfig
from cytosae.study import forecast as module
from cytosae.study.forecast import LONG, between, described, forecast, training_span
from cytosae.tokens import store_layout
from support.commands import assert_user_error, cytosae

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


def test_quick_is_a_preset_for_a_first_look(pictures: Path, vit: Path, tmp_path: Path) -> None:
    study, quick = tmp_path / "study", PRESETS["quick"]
    cytosae("run", pictures, "--study", study, "--backbone", vit, "--quick", *SHORT)
    recorded = settings(study)
    assert (recorded["expansion"], recorded["objective"]) == (quick.expansion, "batchtopk")
    assert quick == replace(PRESETS["recommended"], expansion=4, images=4_000, learning_rate=1.4e-3)
    both = cytosae("run", pictures, "--study", study, "--quick", "--preset", "paper", check=False)
    assert_user_error(both, "--quick and --preset paper: give one of the two")


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
    """Four images take 2 to 4 s to embed, a dense step on four images 2 to 3 s, any other 0.06 to 0.1 s."""
    steps: list[str] = []

    def span(work: Callable[[], Any], device: Any) -> Span:
        work()
        return Span(2.0, 4.0)

    def step_span(config: TrainConfig, x: Any, l0: float | None = None) -> Span:
        images = len(x) // 65
        steps.append(f"{'dense' if l0 is None else f'{l0:g}'} on {images}")
        assert x.shape == (images * 65, 48)
        return Span(2.0, 3.0) if l0 is None else Span(0.06, 0.1)

    monkeypatch.setattr(module, "span", span)
    monkeypatch.setattr(module, "step_span", step_span)
    return steps


def test_the_time_of_a_run_is_said_before_it_begins(measured: list[str], vit: Path) -> None:
    backbone = load(str(vit))
    layout = store_layout(backbone.info)

    def said_of(to_embed: int, config: TrainConfig | None, done: int = 0) -> str | None:
        return forecast(to_embed, lambda: backbone, layout, backbone.device, config, done)

    recommended = PRESETS["recommended"].scaled_to(400, 65)
    # 400 images, four in 2 to 4 s: 200 to 400 s, and a quarter more at most. 1,000 steps: 60 to 125 s.
    assert said_of(400, recommended) == (
        "4 to 10 min on this machine (tokens of 400 images 3 to 8 min, training on 16,000 images 60 s to 2 min), longer if "
        "it does other work too, and some more for the report; --images sets the length of the training"
    )
    assert measured == ["32 on 4", "32 on 16"]  # a batch has a share that does not grow with its images
    # What is done is not done again; seeds are trainings.
    rest = training_span(recommended, 65, 48, backbone.device, done=900)
    assert rest.high == pytest.approx(100 * 0.1)
    three = training_span(replace(recommended, seeds=3), 65, 48, backbone.device)
    assert three.high == pytest.approx(3 * 1000 * 0.1)
    assert "on 1,600 further images" in str(said_of(LONG, recommended, 900))
    # The warm-up of the paper's is dense: 500 of 15,625 steps on 64 images, too long for a whole batch to be measured.
    measured.clear()
    paper = TrainConfig()
    taken = training_span(paper, 65, 48, backbone.device)
    assert taken.high == pytest.approx(16 * 500 * 3.0 + 15_125 * 0.1)
    assert taken.low == pytest.approx(16 * 500 * 2.0 + 15_125 * 0.06)
    assert measured == ["dense on 4", "150 on 4", "150 on 64"]
    said = said_of(0, paper)
    assert said is not None
    assert said.endswith("--images sets the length of the training")
    assert said_of(LONG - 9, TrainConfig(images=8)) is None
    assert said_of(LONG + 1, None) is not None
    with_words = forecast(
        LONG, lambda: backbone, layout, backbone.device, None, measuring=lambda: module.Span(10.0, 20.0)
    )
    assert "measuring the cells 10 to 25 s" in str(with_words)


def test_the_time_to_measure_cells_is_that_of_a_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def span(work: Any, device: Any) -> Span:
        work()
        return Span(1.0, 2.0)

    monkeypatch.setattr(module, "span", span)
    monkeypatch.setattr(module, "measure_rows", lambda cells, tick: measured.extend(cells.index))
    cells = pd.DataFrame({"path": ["a"] * 1000})
    taken = module.measuring_span(cells, 2)
    assert measured == [0, 250, 500, 750]
    assert (taken.low, taken.high) == (250.0, 250.0)  # 2 s for 4 cells, in two processes


def test_a_time_is_a_range() -> None:
    assert between(Span(3500, 7200)) == "58 min to 2.0 h"
    assert between(Span(100, 110)) == "2 min"


def test_other_programs_do_not_lengthen_the_lower_bound() -> None:
    """Waiting, as for a processor that another program has, is time by the clock alone."""
    from cytosae.sae.cost import span

    def work() -> None:
        time.sleep(0.05)

    taken = span(work, torch.device("cpu"))
    assert taken.high >= 0.05
    assert taken.low < 0.03


def test_whole_batches_and_automatic_settings_are_said(pictures: Path, vit: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    said = cytosae("run", pictures, "--study", study, "--backbone", vit, "--images", "10", "--batch-images", "4").stderr
    assert "--images 10: rounded up to 12, whole batches of 4 images" in said
    named = set(re.findall(r"as `cytosae ([a-z-]+)` does", said))
    assert {"embed", "train", "encode", "report"} <= named <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    again = cytosae("run", pictures, "--study", study).stderr
    assert "learning_rate automatic" in again
    assert "rounded" not in again


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
    assert "on this machine (training on" in said
    assert "tokens of" not in said


def test_a_mask_that_is_missing_is_named_before_the_long_work(pictures: Path, tmp_path: Path) -> None:
    table, image = tmp_path / "cells.csv", next(path for path in pictures.rglob("*.*") if path.is_file())
    table.write_text(f"path,mask\n{image},nowhere.png\n")
    done = cytosae("run", table, "--study", tmp_path / "S", check=False)
    assert_user_error(done, "nowhere.png: the mask cannot be read: No such file", "--no-describe")
    assert not (tmp_path / "S" / "tokens").exists()
