"""A study keeps what cost work: vanished cells stop it, settings are remembered, trained work is never replaced unasked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from cytosae import artefacts
from cytosae.artefacts import LEDGER, MANIFEST, Manifest
from cytosae.cells import read_cells
from cytosae.cli.commands import app
from cytosae.errors import CytosaeError
from cytosae.locks import HOLDER, LOCK, locked
from cytosae.remembered import FILE, read_settings
from cytosae.sae import train
from cytosae.sae.tracking import METRICS
from cytosae.settings import BackboneConfig, EncodeConfig, StoreConfig, TrainConfig
from cytosae.tokens import TokenStore
from support.blank_figures import blank_figures
from support.commands import cytosae, figures
from support.studies import edit_manifest

OPTIONS = (
    *("--expansion", "2", "--images", "32", "--batch-images", "4", "--warmup-steps", "2", "--l1", "1e-4"),
    *("--cells-per-shard", "4", "--threshold", "0.1", "--workers", "0", "--preset", "paper"),
)


@pytest.fixture(scope="module", autouse=True)
def not_drawn() -> Iterator[None]:
    """What figures show is tested elsewhere."""
    with blank_figures():
        yield


@pytest.fixture(scope="module")
def finished(vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of 16 small images in two folders, of four patients, and a study of them."""
    tmp_path = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    rows = []
    for folder in "ab":
        (tmp_path / "images" / folder).mkdir(parents=True)
        for number in range(8):
            path = tmp_path / "images" / folder / f"{number}.png"
            Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
            rows.append(
                {
                    "path": f"images/{folder}/{number}.png",
                    "label": folder,
                    "patient": f"{folder}{number % 2}",
                    "dataset": "drawn",
                }
            )
    named = pd.DataFrame(rows, columns=["path", "label", "patient", "dataset"])
    named.to_csv(tmp_path / "cells.csv", index=False)
    words = ["run", str(tmp_path / "cells.csv"), "--study", str(tmp_path / "S"), "--backbone", str(vit), *OPTIONS]
    result = CliRunner().invoke(app, words)
    assert result.exception is None, result.output
    return tmp_path


@pytest.fixture
def table(finished: Path, tmp_path: Path) -> Path:
    """A copy of the table, its images and its study."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "cells.csv"


@pytest.fixture
def run(table: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the study of the table again in this process, with the options given."""

    def again(*options: str, source: Path = table) -> dict[str, Any]:
        words = ["run", str(source), "--study", str(tmp_path / "S"), "--json", *options]
        result = CliRunner().invoke(app, words)
        if isinstance(result.exception, CytosaeError):
            raise result.exception
        assert result.exception is None, result.output
        return dict(json.loads(result.stdout)["stages"])

    return again


def weights(study: Path) -> bytes:
    return (study / "sae" / "model.safetensors").read_bytes()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that says something: no locks, no lists of own files."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != LEDGER
    }


def skipped(stages: dict[str, Any]) -> bool:
    return all(stage["skipped"] for stage in stages.values())


def test_a_folder_that_has_vanished_stops_the_run_and_nothing_changes(
    run: Callable[..., Any], table: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path / "S")
    (tmp_path / "images" / "b").rename(tmp_path / "images" / "elsewhere")
    with pytest.raises(CytosaeError, match=r"8 of the 16 cells .* are gone \(first: .*b/0.png: file is missing.*drop"):
        run()
    assert contents(tmp_path / "S") == before
    (tmp_path / "images" / "elsewhere").rename(tmp_path / "images" / "b")
    assert skipped(run())


def test_another_source_over_a_finished_study_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    before = contents(tmp_path / "S")
    with pytest.raises(CytosaeError, match=r"16 of the 16 cells .* not listed any more"):
        run(source=tmp_path / "images" / "a")
    assert contents(tmp_path / "S") == before


def test_cells_are_not_drawn_into_a_study_of_other_cells(run: Callable[..., Any], tmp_path: Path) -> None:
    before = contents(tmp_path / "S")
    with pytest.raises(CytosaeError, match=r"cells that were not drawn.*Nothing was changed.*--study"):
        run(source=Path("synthetic:patients=2,cells=1,seed=0"))
    assert contents(tmp_path / "S") == before


def test_going_on_without_vanished_cells_needs_two_words(run: Callable[..., Any], table: Path, tmp_path: Path) -> None:
    """One for the cells, one for the autoencoder that was trained on them; its study is kept whole."""
    study, before = tmp_path / "S", contents(tmp_path / "S")
    (study / "annotations.sqlite").write_bytes(b"judged")
    shutil.rmtree(tmp_path / "images" / "b")
    with pytest.raises(CytosaeError, match=r"would replace .changed: split, tokens; cells 8 removed.*--sae.*--restart"):
        run("--drop-missing")
    assert contents(study) == {**before, "annotations.sqlite": b"judged"}
    stages = run("--drop-missing", "--restart")
    assert stages["cells"]["cells"] == 8
    (former,) = (study / "former").iterdir()
    kept = contents(former)
    for name, content in before.items():
        if name.startswith(("sae/", "concepts/", "cohort/", "report/")):
            assert kept[name] == content, name
    assert kept["annotations.sqlite"] == b"judged"
    assert not (study / "annotations.sqlite").exists()
    assert Manifest.load(former / "sae").outputs["model.safetensors"].sha256.startswith(former.name)  # type: ignore[union-attr]
    assert len(read_cells(former / "cells.parquet")) == 16
    assert read_cells(former / "cells.parquet")["path"][0].endswith("/images/a/0.png")
    assert "/former/" not in read_cells(former / "cells.parquet")["path"][0]
    assert skipped(run())


def test_an_autoencoder_can_be_kept_for_other_cells(run: Callable[..., Any], table: Path, tmp_path: Path) -> None:
    before = weights(tmp_path / "S")
    shutil.rmtree(tmp_path / "images" / "b")
    stages = run("--drop-missing", "--sae", str(tmp_path / "S" / "sae"))
    assert weights(tmp_path / "S") == before
    assert stages["concepts"]["datasets"]
    assert skipped(run())  # that it was given is remembered too


def test_options_that_are_left_out_stay_as_they_were(run: Callable[..., Any], vit: Path, tmp_path: Path) -> None:
    assert skipped(run())
    known = read_settings(tmp_path / "S")
    assert known.configs[TrainConfig]["images"] == 32
    assert known.configs[BackboneConfig]["backbone"] == str(vit)
    (tmp_path / "S" / FILE).unlink()  # as a study that was made before they were kept
    older = read_settings(tmp_path / "S")
    assert older.store is True
    for config in (TrainConfig, BackboneConfig, EncodeConfig, StoreConfig):
        assert older.configs[config].items() <= known.configs[config].items()
    assert skipped(run())
    assert (tmp_path / "S" / FILE).is_file()


def test_whether_tokens_are_kept_is_remembered(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match=r"would replace .changed: tokens"):
        run("--no-store")
    assert read_settings(tmp_path / "S").store is True


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--l1", "2e-4"), "l1 0.0001 -> 0.0002"),
        (("--images", "16"), "more than the 4 that are asked for"),
        pytest.param(("--objective", "batchtopk"), "objective release -> batchtopk", marks=pytest.mark.slow),
        (("--layer", "1"), "changed: tokens"),
        pytest.param(("--holdout", "0.5"), "holdout", marks=pytest.mark.slow),
    ],
)
def test_trained_work_is_not_replaced_unasked(
    options: tuple[str, ...], reason: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    before = contents(tmp_path / "S")
    with pytest.raises(CytosaeError, match=r"holds an autoencoder \(\w{12}; 32 images.*--restart") as refused:
        run(*options)
    assert reason in str(refused.value)
    assert f"former/{artefacts.sha256_file(tmp_path / 'S/sae/model.safetensors')[:12]}" in str(refused.value)
    assert contents(tmp_path / "S") == before
    assert skipped(run())  # a refused option is not remembered
    run(*options, "--restart")
    (former,) = (tmp_path / "S" / "former").iterdir()
    assert weights(former) == before["sae/model.safetensors"]
    assert skipped(run())


def test_one_cell_more_does_not_train_anew_unasked(run: Callable[..., Any], table: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "images" / "a" / "0.png", tmp_path / "images" / "a" / "new.png")
    with table.open("a") as file:
        file.write("images/a/new.png,a,a0,drawn\n")
    before = contents(tmp_path / "S")
    with pytest.raises(CytosaeError, match=r"changed: split, tokens; cells 1 added"):
        run()
    assert contents(tmp_path / "S") == before


def test_weights_that_were_changed_by_hand_are_not_replaced(run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "S" / "sae" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CytosaeError, match="was changed after the training"):
        run()


def test_more_images_go_on_and_keep_an_annotated_autoencoder(run: Callable[..., Any], tmp_path: Path) -> None:
    study, before = tmp_path / "S", weights(tmp_path / "S")
    run("--images", "48")
    assert not (study / "former").exists()
    (study / "annotations.sqlite").write_bytes(b"judged")
    judged = weights(study)
    assert judged != before
    run("--images", "64")
    (former,) = (study / "former").iterdir()
    assert weights(former) == judged
    assert (former / "annotations.sqlite").read_bytes() == b"judged"
    assert Manifest.load(study / "sae").summary["images"] == 64  # type: ignore[union-attr]


def test_a_run_killed_while_it_puts_aside_goes_on(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cytosae.study.replacing as module

    before, moved, transfer = contents(tmp_path / "S"), [], module.transfer

    def killed(source: Path, target: Path, **options: Any) -> None:
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(source)
        transfer(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "transfer", killed)
        with pytest.raises(BaseException, match=""):
            run("--l1", "2e-4", "--restart")
    assert weights(tmp_path / "S") == before["sae/model.safetensors"]
    run("--l1", "2e-4", "--restart")
    (former,) = (tmp_path / "S" / "former").iterdir()
    assert {name for name in before if name.startswith(("sae", "concepts", "cohort", "report"))} <= set(
        contents(former)
    )


def test_a_former_study_can_be_looked_at(run: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from cytosae.explorer.reader import StudyReader

    run("--l1", "2e-4", "--restart")
    (former,) = (tmp_path / "S" / "former").iterdir()
    opened = StudyReader(former)
    assert list(opened.datasets)
    opened.close()


def test_a_stage_of_other_mathematics_is_not_up_to_date(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(artefacts.VERSIONS)
    was, now = before["concepts"], before["concepts"] + 1
    monkeypatch.setitem(artefacts.VERSIONS, "concepts", now)
    stages = run()
    assert stages["concepts"]["why"] == f"made by version {was} of this stage, which is at version {now} now"
    assert stages["sae"]["skipped"]
    assert skipped(run())
    monkeypatch.setitem(artefacts.VERSIONS, "sae", before["sae"] + 1)
    with pytest.raises(CytosaeError, match=f"made by version {before['sae']} of this stage"):
        run()
    monkeypatch.setitem(artefacts.VERSIONS, "sae", before["sae"])
    monkeypatch.setitem(artefacts.VERSIONS, "tokens", before["tokens"] + 1)
    stages = run()  # the same bytes come out, so that the training stays
    assert stages["tokens"]["shards_made"] == 4
    assert stages["sae"]["skipped"]
    assert skipped(run())


def test_a_setting_that_a_later_version_adds_changes_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    edit_manifest(tmp_path / "S" / "sae" / MANIFEST, lambda manifest: manifest["parameters"].pop("dead_every"))
    edit_manifest(tmp_path / "S" / "concepts" / MANIFEST, lambda manifest: manifest["parameters"].pop("concept_cells"))
    assert skipped(run())


@pytest.mark.parametrize("name", [LOCK, HOLDER])
def test_a_file_of_somebody_else_under_the_name_of_a_lock_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(CytosaeError, match=f"{name}: exists already"), locked(tmp_path):
        pass
    assert (tmp_path / name).read_text() == "mine"


def test_a_damaged_note_of_the_backbone_is_named(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "S" / "backbone.json").write_text('{"request": null, "info": null}')
    with pytest.raises(CytosaeError, match=r"backbone\.json: exists already.*or is damaged"):
        run()


def test_a_study_that_was_moved_tells_where_it_is_now(table: Path, tmp_path: Path) -> None:
    (tmp_path / "S").rename(tmp_path / "moved")
    stages = figures(cytosae("run", table, "--study", tmp_path / "moved", "--json"))["stages"]
    assert skipped(stages)
    assert stages["report"]["page"] == str(tmp_path / "moved" / "report" / "index.html")
    assert stages["cohort"]["barcodes"] == str(tmp_path / "moved" / "cohort" / "barcodes.h5ad")


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(CytosaeError, match=r"^/proc/none: cannot be made"):
        artefacts.make_folder(Path("/proc/none"))


def test_a_log_that_was_damaged_is_named_and_makes_nothing_due(
    run: Callable[..., Any], table: Path, tmp_path: Path
) -> None:
    log = tmp_path / "S" / "sae" / METRICS
    log.write_text(log.read_text()[:-40])
    assert f"{log} is missing or was changed" in cytosae("run", table, "--study", tmp_path / "S").stderr
    assert skipped(run())


@pytest.mark.parametrize("stage", ["tokens", "sae", "concepts", "report"])
def test_a_manifest_that_was_damaged_is_named(run: Callable[..., Any], tmp_path: Path, stage: str) -> None:
    path = tmp_path / "S" / stage / MANIFEST
    good = path.read_text()
    for spoiled in (good.replace("0.1.0", "0.1.1"), good.replace('"stage"', '"stagg"')):
        assert spoiled != good
        path.write_text(spoiled)
        with pytest.raises(CytosaeError, match=rf"{stage}/{MANIFEST}: damaged"):
            run()
        assert path.read_text() == spoiled


def test_the_training_command_keeps_trained_work_too(run: Callable[..., Any], tmp_path: Path) -> None:
    store, folder = TokenStore(tmp_path / "S" / "tokens"), tmp_path / "sae"
    config = TrainConfig(expansion=1, images=16, batch_images=4)
    train(store, folder, config)
    before = contents(folder)
    with pytest.raises(CytosaeError, match=r"seed 0 -> 1.*--restart"):
        train(store, folder, replace(config, seed=1))
    assert contents(folder) == before
    train(store, folder, replace(config, seed=1), restart=True)
    (former,) = (folder / "former").iterdir()
    assert contents(former) == before


def test_a_second_process_is_told_who_works_here(run: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "S"
    code = (
        "import sys, time; from pathlib import Path; from cytosae.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(study)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = contents(study)
        with pytest.raises(CytosaeError, match=rf"in use by process {holder.pid} on .* since 20.*Wait"):
            run()
        assert contents(study) == before
    finally:
        holder.kill()
        holder.wait()
    assert (study / HOLDER).is_file()  # it was killed
    assert skipped(run())
    assert not (study / HOLDER).exists()


def test_a_note_of_a_dead_process_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / HOLDER).write_text(json.dumps({"host": "elsewhere", "process": 1, "since": "long ago"}))
    with locked(tmp_path), pytest.raises(CytosaeError, match=f"process {os.getpid()} on"), locked(tmp_path):
        pass
