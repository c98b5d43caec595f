"""No command removes, replaces or cuts a file that it did not write."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cytosae.artefacts import (
    CONFIG,
    LEDGER,
    MANIFEST,
    WEIGHTS,
    WORK_FILES,
    FileRecord,
    Manifest,
    claim,
    own_files,
    remove_outdated,
)
from cytosae.cells.datasets.folders import whole_folder
from cytosae.cli.commands import app
from cytosae.concepts import file_name, file_names
from cytosae.errors import CytosaeError
from cytosae.locks import LOCK
from cytosae.sae import read_metrics
from cytosae.sae.checkpoint import CHECKPOINT
from cytosae.sae.tracking import METRICS, JsonLines
from support.blank_figures import blank_figures
from support.commands import invoke
from support.folders import made_once
from support.studies import edit_manifest

FOREIGN = (
    *("notes.txt", "x.h5ad", "my.maps.safetensors", "parts/x", f"{WORK_FILES}/mine.txt", "shard-99999.safetensors"),
    *("shard-99999.json", ".note.partial", ".model.safetensors.partial", "report/extra.png", "figures/extra.png"),
    *("data/mine.json", "images/mine.png", "before/a"),
)
SMALL = ("--preset", "paper", "--expansion", "1", "--images", "16", "--batch-images", "4")

BOXES = ("--mpp", "0.1", "--box-format", "coco", "--boxes")

Run = Callable[[Path, Path], list[str]]
"""Arguments of a command, from the study's folder and the folder where its output goes."""


def with_encoding(study: Path, out: Path) -> list[str]:
    return ["encode", f"{study}/cells.parquet", "--tokens", f"{study}/tokens", "--sae", f"{study}/sae", "-o", f"{out}"]


COMMANDS: dict[str, tuple[Run, str, tuple[str, ...]]] = {
    "run": (
        lambda s, o: ["run", f"{s.parent}/cells.csv", "--study", f"{o}", "--backbone", f"{s.parent}/backbone", *SMALL],
        "study",
        ("cells.parquet", "cells.rejected.csv", "backbone.json", "tokens/cells.parquet", "sae/config.json"),
    ),
    "cells": (
        lambda s, o: ["cells", f"{s.parent}/cells.csv", "-o", f"{o}/cells.parquet"],
        "out",
        ("cells.parquet", "cells.rejected.csv"),
    ),
    "cells of a cohort": (
        lambda s, o: ["cells", "synthetic:patients=2,cells=1,seed=0", "-o", f"{o}/cells.parquet"],
        "out",
        ("cells.parquet", "cohort.csv"),
    ),
    "embed": (
        lambda s, o: [
            "embed",
            f"{s}/cells.parquet",
            "--backbone",
            f"{s.parent}/backbone",
            "--cells-per-shard",
            "8",
            "-o",
            f"{o}",
        ],
        "out",
        ("shard-00001.safetensors", "shard-00000.json", "cells.parquet", MANIFEST, LEDGER),
    ),
    "tokens import": (
        lambda s, o: ["tokens", "import", f"{s.parent}/tokens.npy", "--cells", f"{s}/cells.parquet", "-o", f"{o}"],
        "out",
        ("shard-00000.safetensors", "cells.parquet", MANIFEST),
    ),
    "train": (
        lambda s, o: ["train", f"{s}/tokens", *SMALL, "-o", f"{o}"],
        "out",
        (WEIGHTS, CONFIG, CHECKPOINT, METRICS, MANIFEST),
    ),
    "encode": (with_encoding, "out", ("A.h5ad", "B.maps.safetensors", MANIFEST)),
    "evaluate": (
        lambda s, o: ["evaluate", f"{s}", "--draws", "20", "--changed-cells", "10"],
        "study/quality",
        ("figures.csv", "density.svg"),
    ),
    "report": (
        lambda s, o: ["report", f"{s}"],
        "study/report",
        (
            "index.html",
            "figures/thresholds.png",
            "figures/training.svg",
            "figures/overview-1.png",
            "figures/diseases.svg",
        ),
    ),
    "barcodes": (
        lambda s, o: ["barcodes", f"{s}/concepts", "-o", f"{o}/b.h5ad", "--figures", f"{o}"],
        "out",
        ("b.h5ad", "diseases.png", "correlation.svg"),
    ),
    "classify": (
        lambda s, o: ["classify", f"{s}/cohort/barcodes.h5ad", "-o", f"{o}"],
        "out",
        ("classification.json", "predictions.csv", "methods.png", "models.safetensors"),
    ),
    "compare": (
        lambda s, o: ["compare", f"{s}/cohort/barcodes.h5ad", "one", "two", "-o", f"{o}"],
        "out",
        ("latents.csv", "scatter.png"),
    ),
    "patient": (lambda s, o: ["patient", f"{s}", "p1", "--healthy", "two", "-o", f"{o}/p.html"], "out", ("p.html",)),
    "statistics": (lambda s, o: ["statistics", f"{s}/concepts", "-o", f"{o}/l.csv"], "out", ("l.csv",)),
    "statistics as Parquet": (
        lambda s, o: ["statistics", f"{s}/concepts", "-o", f"{o}/l.parquet"],
        "out",
        ("l.parquet",),
    ),
    "counts": (lambda s, o: ["counts", f"{s}/concepts", "-o", f"{o}/c"], "out", ("c.png", "c.svg")),
    "panel": (
        lambda s, o: ["panel", f"{s}/concepts", "--clusters", "2", "--per-cluster", "1", "-o", f"{o}/p.json"],
        "out",
        ("p.json",),
    ),
    "concept": (lambda s, o: ["concept", f"{s}", "1", "-o", f"{o}/l"], "out", ("l.png", "l.svg")),
    "attribute": (lambda s, o: ["attribute", f"{s}", "c1", "-o", f"{o}/a"], "out", ("a.png", "a.svg")),
    "export": (lambda s, o: ["export", f"{s}/sae", "-o", f"{o}"], "out", ("cfg.json", "sae_weights.safetensors")),
    "push": (
        lambda s, o: ["push", f"{s}/sae", "me/mine", "--licence", "mit", "--dry-run"],
        "study/sae",
        ("README.md",),
    ),
    "annotations export": (
        lambda s, o: ["annotations", "export", f"{s}", "-o", f"{o}/a.json"],
        "out",
        ("a.json",),
    ),
    "annotations export as CSV": (
        lambda s, o: ["annotations", "export", f"{s}", "-o", f"{o}/a.csv"],
        "out",
        ("a.csv",),
    ),
    "annotations summary": (
        lambda s, o: ["annotations", "summary", f"{s}", "-o", f"{o}/s.json"],
        "out",
        ("s.json",),
    ),
    "init": (lambda s, o: ["init", f"{s.parent}/cells.csv", "-o", f"{o}"], "out", ("cells.csv", "settings.yaml")),
    "measure": (
        lambda s, o: ["measure", f"{s}/cells.parquet", "-o", f"{o}"],
        "out",
        ("measurements.parquet", "places.parquet", MANIFEST),
    ),
    "describe": (
        lambda s, o: ["describe", f"{s}"],
        "study/descriptions",
        ("descriptions.parquet", "facts.parquet"),
    ),
    "fields": (
        lambda s, o: ["fields", f"{s.parent}/cells.csv", *BOXES, f"{s.parent}/boxes.json", "-o", f"{o}"],
        "out",
        ("cells.csv", "rejected.csv", "fields.parquet", MANIFEST),
    ),
    "outline": (lambda s, o: ["outline", f"{s.parent}/fields", "-o", f"{o}"], "out", ("c0.geojson",)),
    "laboratories": (
        lambda s, o: ["laboratories", f"{s}", "--permutations", "5", "-o", f"{o}"],
        "out",
        ("laboratories.csv", "laboratories.json"),
    ),
    "transfer": (
        lambda s, o: ["transfer", f"{s}", "--permutations", "5", "-o", f"{o}"],
        "out",
        ("transfer.csv", "transfer.json"),
    ),
    "restain": (
        lambda s, o: ["restain", f"{s.parent}/many.csv", "-o", f"{o}"],
        "out",
        ("restained.csv", "stains.json"),
    ),
    "stain-response": (
        lambda s, o: ["stain-response", f"{s}", "--cells", "20"],
        "study/stain_response",
        ("stain_response.csv", "stain_response.json"),
    ),
    "label": (
        lambda s, o: ["label", f"{s.parent}/cells.csv", "--from", f"{s}", "-o", f"{o}"],
        "out",
        ("labels.csv", "labels.json", "cells.parquet"),
    ),
    "predict": (
        lambda s, o: ["predict", f"{s}", f"{s.parent}/cells.csv", "-o", f"{o}"],
        "out",
        ("predictions.csv", "prediction.json"),
    ),
    "refine": (
        lambda s, o: [
            "refine",
            f"{s}",
            "--merge",
            "1,2",
            "--refine-images",
            "16",
            "--no-control",
            "--yes",
            "-o",
            f"{o}",
        ],
        "out",
        (WEIGHTS, CONFIG),
    ),
    "sweep": (
        lambda s, o: ["sweep", f"{s.parent}/sweep.yaml", "--study", f"{s}", "-o", f"{o}"],
        "out",
        ("sweep.csv", "sweep.html", "figures/counts-0.png"),
    ),
}


class Killed(BaseException):
    """In place of a signal that cannot be caught."""


def digests(folder: Path, names: tuple[str, ...] = FOREIGN) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module", autouse=True)
def not_drawn() -> Iterator[None]:
    """What figures show is tested elsewhere."""
    with blank_figures():
        yield


@pytest.fixture(scope="module")
def made(vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of twenty cells of ten patients in two data sets, and what the commands take beside it."""

    def make(folder: Path) -> None:
        shutil.copytree(vit, folder / "backbone")
        rng, lines = np.random.default_rng(0), ["cell_id,path,dataset,label,patient,diagnosis"]
        for i in range(20):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
            lines.append(f"c{i},{i}.png,{'AB'[i // 10]},{'xy'[i % 2]},p{i // 2},{('one', 'two')[i // 2 % 2]}")
        (folder / "bad.png").write_text("no image")
        (folder / "cells.csv").write_text("\n".join([*lines, "bad,bad.png,A,x,p1,two"]) + "\n")
        (folder / "many.csv").write_text(
            "cell_id,path,dataset\n" + "".join(f"{i},{i % 16}.png,{'AB'[i // 20]}\n" for i in range(40))
        )
        boxes = {
            "images": [{"id": 0, "file_name": "0.png", "width": 64, "height": 64}],
            "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [8, 8, 40, 40]}],
            "categories": [{"id": 1, "name": "cell"}],
        }
        (folder / "boxes.json").write_text(json.dumps(boxes))
        np.save(folder / "tokens.npy", rng.normal(size=(20, 5, 16)).astype(np.float32))
        sweep = {"base": {"images": 16, "batch_images": 4}, "vary": {"expansion": [1]}, "seeds": [0]}
        (folder / "sweep.yaml").write_text(json.dumps(sweep))
        invoke("run", f"{folder}/cells.csv", "--study", f"{folder}/study", "--backbone", f"{folder}/backbone", *SMALL)
        invoke(
            "panel", f"{folder}/study/concepts", "--clusters", "2", "--per-cluster", "1", "-o", f"{folder}/panel.json"
        )
        invoke("annotations", "import", f"{folder}/study", f"{folder}/panel.json")
        invoke("measure", f"{folder}/study")
        invoke("fields", f"{folder}/cells.csv", *BOXES, f"{folder}/boxes.json", "-o", f"{folder}/fields")
        invoke("classify", f"{folder}/study/cohort/barcodes.h5ad", "-o", f"{folder}/study/cohort/classification")

    return made_once(tmp_path_factory, "made", make)


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "made")


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow) if name == "sweep" else name for name in COMMANDS]
)
def test_foreign_files_are_there_afterwards(command: str, copied: Path) -> None:
    arguments, where, outputs = COMMANDS[command]
    out = copied / where
    for name in FOREIGN:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"mine: {name}")
    before = digests(out)
    for _ in range(1 if command in ("evaluate", "init") else 2):  # repeating it works too
        invoke(*arguments(copied / "study", out))
    assert digests(out) == before
    notes = {name for name in outputs if name.startswith("shard") and name.endswith(".json")}
    assert not [name for name in outputs if name not in notes and not (out / name).exists()]


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command, (_, _, names) in COMMANDS.items() for name in names]
)
def test_a_foreign_file_where_an_output_goes_is_refused(command: str, name: str, copied: Path) -> None:
    arguments, where, _ = COMMANDS[command]
    out = copied / where
    if where.startswith("study") and where != "study/sae":  # as if the stage had never run
        shutil.rmtree(out, ignore_errors=True)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine, and not to be lost")
    before = files_below(out)
    with pytest.raises(CytosaeError) as caught:
        CliRunner().invoke(app, arguments(copied / "study", out), catch_exceptions=False)
    assert name.rpartition("/")[2] in str(caught.value)
    assert (out / name).read_text() == "mine, and not to be lost"
    if where == "out":
        assert files_below(out) == before


def files_below(folder: Path) -> list[Path]:
    """All files but locks, which stay when they are free."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)


def test_a_killed_stage_knows_its_files_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, out = copied / "study", copied / "out"

    def killed(*_: object) -> None:
        raise Killed

    for module in ("cytosae.concepts.encoding.write_maps", "cytosae.concepts.encoding.remove_outdated"):
        monkeypatch.setattr(module, killed)
        with pytest.raises(Killed):
            invoke(*with_encoding(study, out))
        monkeypatch.undo()
        assert (out / "A.h5ad").is_file()
    invoke(*with_encoding(study, out))
    assert not (out / WORK_FILES).exists()
    assert {*own_files(out, "concepts")} == {f"{name}.{end}" for name in "AB" for end in ("h5ad", "maps.safetensors")}


@pytest.mark.slow
def test_a_study_of_an_earlier_version_is_run_again(copied: Path) -> None:
    study = copied / "study"
    for ledger in study.rglob(LEDGER):
        ledger.unlink()
    for manifest in study.rglob(MANIFEST):  # everything is due
        due = {"complete": False} if manifest.parent.name == "tokens" else {"parameters": {"asked": "otherwise"}}
        edit_manifest(manifest, lambda about, due=due: about.update(due))
    (study / "concepts" / "parts" / ("0" * 16)).mkdir(parents=True)
    (study / "concepts" / "parts" / ("0" * 16) / "part-00000000.safetensors").write_bytes(b"of a run that was killed")
    for command in ("run", "report", "evaluate"):
        invoke(*COMMANDS[command][0](study, study))
    assert (study / "report" / LEDGER).is_file()


def test_what_is_of_no_use_any_more_goes_unless_it_was_changed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    with pytest.raises(CytosaeError, match="a: exists already"):
        claim(tmp_path, "concepts", ["a"])
    assert not (tmp_path / LEDGER).exists()
    records = {name: FileRecord.from_file(tmp_path / name) for name in "ab"}
    Manifest("concepts", {}, {}, records).save(tmp_path)
    (tmp_path / "b").write_text("edited")
    claim(tmp_path, "concepts", ["a", "d"])
    remove_outdated(tmp_path, "concepts", ["d"])
    assert {path.name for path in tmp_path.iterdir()} == {"b", "c", LEDGER, MANIFEST}
    assert (tmp_path / "b").read_text() == "edited"
    with pytest.raises(CytosaeError, match="holds what `cytosae encode` wrote"):
        claim(tmp_path, "sae", ["x"])


def test_an_imported_autoencoder_and_its_export(copied: Path) -> None:
    invoke("export", f"{copied}/study/sae", "-o", f"{copied}/lens")
    (copied / "in").mkdir()
    (copied / "in" / CONFIG).write_text("mine")
    command = ["import", f"{copied}/lens", "--format", "saelens", "-o", f"{copied}/in"]
    with pytest.raises(CytosaeError, match=r"config.json: exists already"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert (copied / "in" / CONFIG).read_text() == "mine"
    (copied / "in" / CONFIG).unlink()
    invoke(*command)
    (copied / "in" / CONFIG).unlink()  # as if it had been killed between the two files
    invoke(*command)


def test_a_folder_made_of_an_archive_keeps_what_others_put_there(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "made"
    archive.write_text("1")
    (tmp_path / ".made.partial").mkdir()
    (tmp_path / ".made.partial" / "mine").write_text("mine")
    for _ in range(2):
        with whole_folder(folder, archive) as partial:
            (partial / "x.png").write_text("x")
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(CytosaeError, match=r"mine\.txt"), whole_folder(folder, archive):
        pass
    assert (folder / "mine.txt").read_text() == "mine"
    assert (tmp_path / ".made.partial" / "mine").read_text() == "mine"


def test_metrics_are_written_anew_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = JsonLines(tmp_path, 0)
    for step in (1, 2, 3):
        first.log(step, {"loss": 0.5})
    first.close()
    before = (tmp_path / METRICS).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Killed):
        JsonLines(tmp_path, 2)
    monkeypatch.undo()
    assert (tmp_path / METRICS).read_bytes() == before
    JsonLines(tmp_path, 2).close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_names_are_apart_on_every_disk() -> None:
    names = file_names(["PBC", "pbc", "Pbc", "ä", "a\u0308", "con", "NUL.x", "x" * 300, "x" * 299, "a/b", "a-b"])
    assert names["PBC"] == "PBC"
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert len(name) < 130
        assert name.isascii()
        assert name.partition(".")[0].lower() not in {"con", "nul"}
    assert file_name("p1") == "p1"
    assert len({file_name(name) for name in ("a/b", "a-b", "a b", "x" * 300, "x" * 299)}) == 5
