"""Settings in a YAML file: what is written is read back, and slips are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cytosae.errors import CytosaeError
from cytosae.settings import PRESETS, BackboneConfig, EncodeConfig, TrainConfig
from cytosae.settings.yaml_files import read_settings_file, settings_text
from support.commands import assert_user_error, cytosae

KINDS = (BackboneConfig, TrainConfig, EncodeConfig)


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    settings = (BackboneConfig("x", -3, weights=Path("w.pth")), PRESETS["paper"], EncodeConfig(threshold=0.3))
    preset, found = read_settings_file(written(tmp_path, settings_text(settings, active=True)), KINDS)
    assert preset is None
    assert tuple(kind(**found[kind]) for kind in KINDS) == settings


def test_a_file_of_comments_says_nothing(tmp_path: Path) -> None:
    text = settings_text([TrainConfig()], active=False)
    assert read_settings_file(written(tmp_path, text), KINDS) == (None, {kind: {} for kind in KINDS})
    some = text.replace("#expansion:", "expansion:")
    assert read_settings_file(written(tmp_path, some), KINDS)[1][TrainConfig] == {"expansion": 64}


def test_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    _, found = read_settings_file(written(tmp_path, "l1: 8e-5\nlearning-rate: 1\npreset: paper\n"), KINDS)
    assert found[TrainConfig] == {"l1": 8e-5, "learning_rate": 1.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("expansoin: 8", "expansoin is no setting"),
        ("expansion: wide", "expansion: 'wide' is not int"),
        ("expansion: true", "expansion: True is not int"),
        ("l1: much", "l1: 'much' is not float"),
        ("- expansion", "holds no settings but list"),
        ("a: [", "cannot be read as settings"),
    ],
)
def test_slips_are_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match=words.replace("[", r"\[")):
        read_settings_file(written(tmp_path, text), KINDS)


def test_a_run_takes_its_settings_from_the_file(pictures: Path, vit: Path, tmp_path: Path) -> None:
    project, study = tmp_path / "project", tmp_path / "study"
    cytosae("init", pictures, "-o", project)
    file = project / "settings.yaml"
    assert yaml.safe_load(file.read_text()) is None
    assert (project / "cells.csv").read_text(encoding="utf-8-sig").startswith("path,")
    assert_user_error(cytosae("init", pictures, "-o", project, check=False), "exists already")
    file.write_text(f"backbone: {vit}\nexpansion: 2\nimages: 8\nbatch-images: 2\n")
    given = ("run", project / "cells.csv", "--study", study, "--settings", file, "--workers", 0)
    cytosae(*given, "--batch-images", "4")
    train = json.loads((study / "study.json").read_text())["settings"]["train"]
    assert (train["expansion"], train["images"], train["batch_images"]) == (2, 8, 4)  # an option goes before the file
    assert train["objective"] == PRESETS["recommended"].objective
    used = yaml.safe_load((study / "study.yaml").read_text())
    assert (used["expansion"], used["batch-images"], used["backbone"]) == (2, 4, str(vit))
    assert (study / "study.yaml").read_text().startswith("# Settings of the last run")
    again = cytosae("run", project / "cells.csv", "--study", study, "--settings", study / "study.yaml")
    assert "sae: up to date" in again.stderr


def test_a_file_of_somebody_else_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("mine: 1\n")
    assert_user_error(cytosae("run", pictures, "--study", tmp_path, check=False), "study.yaml")
    assert (tmp_path / "study.yaml").read_text() == "mine: 1\n"
