"""Settings: one name in code and on the command line, one on disk, and how one becomes the other."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cytosae.cli.options import with_settings
from cytosae.errors import CytosaeError
from cytosae.sae import recorded
from cytosae.settings import PRESETS, BackboneConfig, StoreConfig, TrainConfig, from_stored, stored_names, to_stored
from cytosae.sweeps.spec import read_spec

RENAMED = {"dead_latent_loss": "revival", "matryoshka_levels": "nested", "archetypes": "points"}
CHANGED = TrainConfig(dead_latent_loss="auxk", matryoshka_levels=4, archetypes=9, objective="archetypal")


def test_names_on_disk_are_those_of_earlier_versions() -> None:
    names = stored_names(TrainConfig)
    assert {name: stored for name, stored in names.items() if name != stored} == RENAMED
    stored = to_stored(CHANGED)
    assert [stored[name] for name in RENAMED.values()] == ["auxk", 4, 9]
    assert not RENAMED.keys() & stored.keys()
    used = recorded(CHANGED)
    assert used.items() <= stored.items()
    assert set(RENAMED.values()) <= used.keys()


@pytest.mark.parametrize(
    "config",
    [CHANGED, StoreConfig(batch_size=3), BackboneConfig(), BackboneConfig("dinobloom-b", weights=Path("a/b.pth"))],
)
def test_what_is_stored_is_json_and_read_back_equal(config: object) -> None:
    stored = json.loads(json.dumps(to_stored(config)))
    assert type(config)(**from_stored(type(config), stored)) == config
    assert from_stored(type(config), {"of another version": 1}) == {"of another version": 1}


def test_earlier_options_are_hidden_and_still_understood() -> None:
    app = typer.Typer()

    @app.command()
    @with_settings
    def show(training: TrainConfig) -> None:
        print(json.dumps(asdict(training)))

    def run(*arguments: str) -> tuple[TrainConfig, str]:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        return TrainConfig(**json.loads(result.stdout)), result.stderr

    earlier, note = run("--revival", "auxk", "--nested", "4", "--points", "9", "--objective", "archetypal")
    assert earlier == CHANGED
    assert note.count("\n") == 3
    assert "--revival is now called --dead-latent-loss" in note
    options = [f"--{name.replace('_', '-')}={getattr(CHANGED, name)}" for name in (*RENAMED, "objective")]
    assert run(*options) == (CHANGED, "")
    changed = run("--preset", "recommended", "--revival", "none")[0]
    assert changed == replace(PRESETS["recommended"], dead_latent_loss="none")
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "--dead-latent-loss" in shown
    assert not any(f"--{name} " in shown for name in RENAMED.values())


def test_files_of_sweeps_take_both_names(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    specs = []
    for loss, levels in (("revival", "nested"), ("dead_latent_loss", "matryoshka_levels")):
        path.write_text(f"base: {{{loss}: none}}\nvary: {{{levels}: [2]}}\ngrid: {{{loss}: [auxk], {levels}: [3]}}\n")
        specs.append(read_spec(path))
    assert specs[0] == specs[1]
    assert specs[0].base == TrainConfig(dead_latent_loss="none")
    # The names of settings are those of folders that are there.
    assert [setting.name for setting in specs[0].settings] == ["base", "nested=2", "revival=auxk, nested=3"]
    assert specs[0].settings[2].config == replace(TrainConfig(), dead_latent_loss="auxk", matryoshka_levels=3)
    path.write_text("base: {nested: 2, matryoshka_levels: 3}")
    with pytest.raises(CytosaeError, match="matryoshka_levels and its earlier name nested are both there"):
        read_spec(path)


def test_a_command_keeps_its_own_option_of_the_name_of_a_setting() -> None:
    app = typer.Typer()

    @app.command()
    @with_settings
    def show(training: TrainConfig, seeds: int = 3) -> None:
        print(json.dumps({"own": seeds, "setting": training.seeds, "k": training.k}))

    result = CliRunner().invoke(app, ["--seeds", "5", "--k", "7"], catch_exceptions=False)
    assert json.loads(result.stdout) == {"own": 5, "setting": 1, "k": 7}
