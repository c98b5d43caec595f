"""A whole study on real images: end to end, skipped, redone, killed and stopped anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from cytosae.artefacts import PARTIAL, WORK_FILES
from cytosae.concepts import read_concepts, read_datasets
from cytosae.sae import read_metrics
from cytosae.tokens.store import read_manifest
from support.blank_figures import blank_figures
from support.commands import assert_user_error, cytosae, cytosae_process, figures
from support.folders import made_once

SETTINGS = [
    *(
        "--expansion",
        "8",
        "--images",
        "800",
        "--batch-images",
        "16",
        "--warmup-steps",
        "20",
        "--learning-rate",
        "2e-3",
    ),
    *("--l1", "2e-4", "--cells-per-shard", "8", "--batch-size", "8", "--evaluate-every", "50"),
    *("--checkpoint-seconds", "0.2", "--workers", "2", "--preset", "paper"),
]


def run_arguments(cells: Path, study: Path, vit: Path, *more: str) -> list[str]:
    return [
        "run",
        str(cells),
        "--study",
        str(study),
        "--backbone",
        str(vit),
        *SETTINGS,
        "--no-describe",
        "--json",
        *more,
    ]


@pytest.fixture(scope="module", autouse=True)
def not_drawn() -> Iterator[None]:
    """What figures show is tested elsewhere."""
    with blank_figures():
        yield


@pytest.fixture(scope="module")
def study(some_cells: Path, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An undisturbed run on 96 real cells by a process of its own, and its figures."""

    def make(folder: Path) -> None:
        (folder / "figures.json").write_text(
            cytosae_process(*run_arguments(some_cells, folder / "on demand", vit)).stdout
        )

    folder = made_once(tmp_path_factory, "undisturbed", make)
    return folder / "on demand", json.loads((folder / "figures.json").read_text())


def same_results(a: Path, b: Path, stages: tuple[str, ...] = ("tokens", "sae", "concepts")) -> None:
    """Byte-identical tokens, weights, optimiser, counts and maps."""
    for stage, pattern in (
        ("tokens", "shard-*.safetensors"),
        ("sae", "*.safetensors"),
        ("sae", "config.json"),
        ("concepts", "*.h5ad"),
        ("concepts", "*.maps.safetensors"),
    ):
        if stage not in stages:
            continue
        mine, theirs = ({p.name: p.read_bytes() for p in (x / stage).glob(pattern)} for x in (a, b))
        assert mine.keys() == theirs.keys()
        assert mine
        assert [name for name in mine if mine[name] != theirs[name]] == []


def test_run_fills_the_study(study: tuple[Path, dict[str, Any]]) -> None:
    folder, done = study
    stages = done["stages"]
    assert stages["cells"]["cells"] == 96
    assert stages["tokens"]["shards"] == stages["tokens"]["shards_made"] == 12
    assert stages["sae"]["steps"] == 50
    assert 0 < stages["sae"]["explained_variance"] <= 1
    datasets = stages["concepts"]["datasets"]
    assert {name: d["cells"] for name, d in datasets.items()} == {
        "pbc": 72,
        "bccd_crops": 8,
        "segwbc_cellavision": 8,
        "segwbc_tecom": 8,
    }
    page = Path(done["report"]).read_text(encoding="utf-8")
    assert len(page) == pytest.approx(stages["report"]["bytes"], rel=0.01)
    assert set(stages["report"]["concepts_shown"]) == set(datasets)
    data = read_concepts(folder / "concepts", "pbc")
    assert data.shape == (72, 8 * 48)
    assert data.obs["label"].nunique() == 8
    assert read_datasets(folder / "concepts")["pbc"]["concepts"] == data.var["is_concept"].sum() > 0


def test_run_again_skips_every_stage(study: tuple[Path, dict[str, Any]], some_cells: Path, vit: Path) -> None:
    folder, first = study
    again = figures(cytosae(*run_arguments(some_cells, folder, vit)))
    assert all(stage["skipped"] for stage in again["stages"].values()), again
    assert again["stages"]["sae"]["explained_variance"] == first["stages"]["sae"]["explained_variance"]


def copied(study: tuple[Path, dict[str, Any]], to: Path) -> Path:
    return Path(shutil.copytree(study[0], to, copy_function=shutil.copy2))


def test_one_replaced_image_redoes_what_depends_on_it_and_says_why(
    study: tuple[Path, dict[str, Any]], some_cells: Path, vit: Path, tmp_path: Path
) -> None:
    folder = copied(study, tmp_path / "study")
    table = pd.read_csv(some_cells)
    replaced = tmp_path / "replaced.jpg"
    shutil.copy(table["path"][60], replaced)
    table.loc[20, "path"] = str(replaced)
    table.to_csv(tmp_path / "cells.csv", index=False)
    done = cytosae(*run_arguments(tmp_path / "cells.csv", folder, vit, "--restart"))
    stages, cell = figures(done)["stages"], table["cell_id"][20]
    assert stages["cells"]["why"] == stages["tokens"]["why"] == f"cells 1 changed (first: {cell})"
    assert stages["cells"]["inspected"] == 1
    assert stages["tokens"]["shards_made"] == 1  # row 20 is in the third shard of eight
    assert "shard-00002.safetensors is made anew, the images of its cells changed" in done.stderr
    assert stages["sae"]["why"] == "not made yet"
    assert f"sae: replaced (changed: tokens; cells 1 changed (first: {cell}))" in done.stderr
    (former,) = (folder / "former").iterdir()
    same_results(study[0], former, stages=("sae", "concepts"))


@pytest.mark.parametrize(
    ("options", "redone"),
    [
        (["--threshold", "0.5"], ["concepts", "familiarity", "report"]),
        pytest.param(
            ["--l1", "1e-3", "--restart"], ["sae", "concepts", "familiarity", "report"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["--layer", "1", "--restart"],
            ["tokens", "sae", "concepts", "familiarity", "report"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_changed_setting_redoes_what_depends_on_it(
    options: list[str],
    redone: list[str],
    study: tuple[Path, dict[str, Any]],
    some_cells: Path,
    vit: Path,
    tmp_path: Path,
) -> None:
    folder = copied(study, tmp_path / "study")
    stages = figures(cytosae(*run_arguments(some_cells, folder, vit, *options)))["stages"]
    assert [name for name, stage in stages.items() if not stage["skipped"]] == redone


def test_relabelled_cells_redo_no_training(
    study: tuple[Path, dict[str, Any]], some_cells: Path, vit: Path, tmp_path: Path
) -> None:
    folder = copied(study, tmp_path / "study")
    pd.read_csv(some_cells).assign(label="all one").to_csv(tmp_path / "cells.csv", index=False)
    stages = figures(cytosae(*run_arguments(tmp_path / "cells.csv", folder, vit)))["stages"]
    assert [n for n, s in stages.items() if not s["skipped"]] == ["cells", "tokens", "concepts", "report"]
    assert stages["tokens"]["shards_made"] == 0
    assert np.nanmax(np.abs(read_concepts(folder / "concepts", "pbc").var["label_entropy"])) < 1e-6


def test_without_a_store_the_result_is_the_same(
    study: tuple[Path, dict[str, Any]], some_cells: Path, vit: Path, tmp_path: Path
) -> None:
    fewer = ("--images", "160")
    cytosae(*run_arguments(some_cells, tmp_path / "live", vit, "--no-store", *fewer))
    training = [word for word in SETTINGS[:12] if word not in {"--images", "800"}]
    cytosae("train", study[0] / "tokens", "-o", tmp_path / "stored" / "sae", *training, *fewer)
    sources = ["--sae", tmp_path / "stored" / "sae", "--tokens", study[0] / "tokens"]
    cytosae("encode", study[0] / "cells.parquet", *sources, "-o", tmp_path / "stored" / "concepts")
    assert not (tmp_path / "live" / "tokens").exists()
    # Images pass the backbone in other batches, which may round the last bit differently.
    a, b = (load_file(tmp_path / kind / "sae" / "model.safetensors") for kind in ("live", "stored"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)
    counts = [read_concepts(tmp_path / kind / "concepts", "pbc").X.sum() for kind in ("live", "stored")]
    assert counts[0] == pytest.approx(counts[1], rel=1e-2)


def test_stages_as_commands_of_their_own(
    study: tuple[Path, dict[str, Any]], some_cells: Path, vit: Path, tmp_path: Path
) -> None:
    """cells, embed, train, encode, report give what run gives."""
    folder = tmp_path / "by hand"
    chosen = dict(zip(SETTINGS[::2], SETTINGS[1::2], strict=True))

    def options(*names: str) -> list[str]:
        return [word for name in names for word in (f"--{name}", chosen[f"--{name}"])]

    cytosae("cells", some_cells, "-o", folder / "cells.parquet")
    backbone = ["--backbone", vit]
    store = options("cells-per-shard", "batch-size", "workers")
    embedded = figures(cytosae("embed", folder / "cells.parquet", "-o", folder / "tokens", *backbone, *store, "--json"))
    assert embedded["bytes"] == 96 * 65 * 48 * 2
    training = options("expansion", "images", "batch-images", "warmup-steps", "learning-rate", "l1", "evaluate-every")
    cytosae("train", folder / "tokens", "-o", folder / "sae", *training)
    sources = ["--sae", folder / "sae", "--tokens", folder / "tokens"]
    cytosae("encode", folder / "cells.parquet", *sources, "-o", folder / "concepts")
    shown = figures(cytosae("report", folder, "--json"))
    assert shown["concepts_shown"]["pbc"] > 0
    same_results(study[0], folder)
    # without the tokens at hand they are made again, by the backbone that the autoencoder names
    live = figures(
        cytosae("encode", folder / "cells.parquet", "--sae", folder / "sae", "-o", tmp_path / "live", "--json")
    )
    for dataset, expected in read_datasets(study[0] / "concepts").items():
        assert live["datasets"][dataset]["concepts"] == pytest.approx(expected["concepts"], abs=3)
    other = cytosae(
        "encode",
        folder / "cells.parquet",
        "--sae",
        folder / "sae",
        *backbone,
        "--layer",
        1,
        "-o",
        tmp_path / "x",
        check=False,
    )
    assert_user_error(other, "layer 1 of 3", "layer 2 of 3")


def shards(folder: Path) -> int:
    found = read_manifest(folder / "tokens") if (folder / "tokens" / "manifest.json").is_file() else None
    noted = {path.stem for path in (folder / "tokens").glob("shard-*.json")}
    return len(noted | {shard.file.split(".")[0] for shard in found[1]}) if found else 0


def step_of(folder: Path) -> int:
    lines = read_metrics(folder / "sae")
    return int(lines[-1]["step"]) if lines else 0


def parts(folder: Path) -> int:
    return len(list((folder / "concepts" / WORK_FILES).glob("*/part-*")))


KILLS: list[tuple[str, Callable[[Path], bool]]] = [
    ("before the first shard", lambda f: (f / "tokens" / "manifest.json").is_file()),
    ("while a shard is written", lambda f: shards(f) >= 1),
    ("in the middle of the shards", lambda f: shards(f) >= 5),
    ("near the last shard", lambda f: shards(f) >= 11),
    ("when training begins", lambda f: (f / "sae" / "checkpoint.safetensors").is_file()),
    ("early in training", lambda f: step_of(f) >= 10),
    ("in the middle of training", lambda f: step_of(f) >= 20),
    ("late in training", lambda f: step_of(f) >= 40),
    ("early in encoding", lambda f: parts(f) >= 1),
    ("late in encoding", lambda f: any((f / "concepts").glob("*.h5ad"))),
]


@pytest.mark.slow  # one such kill at a random point is tried in test_endurance.py
def test_killed_at_any_point_it_ends_in_the_same_bytes(
    study: tuple[Path, dict[str, Any]],
    some_cells: Path,
    vit: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "study"
    arguments = run_arguments(some_cells, folder, vit)
    reached: list[str] = []
    for name, ready in KILLS:
        process = start(arguments)
        while process.poll() is None and not ready(folder):
            time.sleep(0.001)
        assert process.poll() is None, f"it ended before it could be killed {name}"
        assert not (folder / "concepts" / "manifest.json").exists(), f"too late to be killed {name}"
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        reached.append(name)
        _, left = psutil.wait_procs(helpers, timeout=120)
        assert left == [], f"decoding processes outlived the run that was killed {name}"
        if "encoding" in name:
            assert (folder / "sae" / "manifest.json").is_file()
    assert len(reached) == len(KILLS)
    cytosae_process(*arguments)
    same_results(study[0], folder)
    assert not list(folder.rglob(f"*{PARTIAL}"))


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cytosae", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


@pytest.mark.parametrize(
    ("signum", "chosen"),
    [(signal.SIGTERM, (2,)), pytest.param(signal.SIGINT, (0, 1, 2, 3), marks=pytest.mark.slow)],
)
def test_signals_in_training_leave_a_checkpoint_that_goes_on_to_the_same_end(
    signum: signal.Signals, chosen: tuple[int, ...], study: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """In the first seconds, into a folder that did not exist, and in the middle."""
    folder = tmp_path / "new" / "sae"
    training = SETTINGS[:12]
    arguments = [
        "train",
        str(study[0] / "tokens"),
        "-o",
        str(folder),
        *training,
        "--evaluate-every",
        "50",
        "--device",
        "cpu",
    ]
    moments: list[Callable[[], bool]] = [
        lambda: folder.exists(),
        lambda: time.monotonic() - began > 1.0,  # torch is still being imported
        lambda: step_of(folder.parent) >= 10,
        lambda: step_of(folder.parent) >= 30,
    ]
    last = -1
    for moment in (moments[index] for index in chosen):
        began = time.monotonic()
        process = start(arguments)
        while process.poll() is None and not moment():
            time.sleep(0.001)
        process.send_signal(signum)
        _, messages = process.communicate(timeout=300)
        assert process.returncode == 128 + signum, messages
        assert "Traceback" not in messages
        assert "goes on from there" in messages
        from cytosae.sae.checkpoint import read_identity

        _, reached, _ = read_identity(folder / "checkpoint.safetensors")
        assert reached >= max(last, 0)
        last = reached
    assert 0 < last < 50
    cytosae_process(*arguments)
    for name in ("model.safetensors", "checkpoint.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (study[0] / "sae" / name).read_bytes(), name
    logged = [line["step"] for line in read_metrics(folder) if "loss" in line]
    assert logged == list(range(10, 51, 10))


@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signals_while_embedding_keep_the_finished_shards(
    signum: signal.Signals, study: tuple[Path, dict[str, Any]], vit: Path, tmp_path: Path
) -> None:
    arguments = ["embed", str(study[0] / "cells.parquet"), "-o", str(tmp_path / "tokens"), "--backbone", str(vit)]
    arguments += ["--cells-per-shard", "8", "--batch-size", "8", "--workers", "2", "--json"]
    process = start(arguments)
    while process.poll() is None and shards(tmp_path) < 3:
        time.sleep(0.001)
    process.send_signal(signum)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 128 + signum
    assert "Traceback" not in messages
    kept = shards(tmp_path)
    assert 3 <= kept < 12
    assert figures(cytosae(*arguments))["shards_made"] == 12 - kept
    same_results(study[0], tmp_path, ("tokens",))


def test_training_without_a_store(study: tuple[Path, dict[str, Any]], vit: Path, tmp_path: Path) -> None:
    small = ["--expansion", "2", "--images", "32", "--batch-images", "16", "--init-images", "16", "--backbone", vit]
    told = figures(cytosae("train", study[0] / "cells.parquet", "-o", tmp_path / "sae", "--no-store", *small, "--json"))
    assert (told["steps"], told["n_latents"]) == (2, 96)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sae"]


def test_machine_readable_and_human_answers(some_cells: Path, tmp_path: Path) -> None:
    done = cytosae("cells", some_cells, "-o", tmp_path / "c.parquet", "--json")
    assert json.loads(done.stdout)["cells"] == 96
    assert len(done.stdout.splitlines()) == 1
    assert "up to date" in cytosae("cells", some_cells, "-o", tmp_path / "c.parquet").stderr


def test_doctor(some_cells: Path, vit: Path, tmp_path: Path) -> None:
    told = figures(cytosae("doctor", some_cells, "--backbone", vit, "--study", tmp_path / "new", "--json"))
    assert told["cells"] == 96
    assert told["store_gb"] == pytest.approx(96 * 65 * 48 * 2 / 1e9, abs=0.01)
    assert told["store_fits"] is True
    assert told["packages"]["torch"] == version("torch")  # torch.__version__ may name a build as well
    assert told["dtype"] in {"float32", "bfloat16"}
    assert told["hub_offline"] is True
    assert not (tmp_path / "new").exists()


def test_errors_reach_the_user_as_one_message(
    some_cells: Path, vit: Path, study: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    assert_user_error(cytosae("cells", empty, check=False), "empty.csv", "empty")
    cells = study[0] / "cells.parquet"
    for options, words in (
        (["--backbone", "dinoblom-b"], ["unknown backbone", "did you mean dinobloom-b"]),
        (["--backbone", vit, "--layer", 7], ["--layer 7", "3 blocks"]),
        (["--backbone", "owner/model"], ["owner/model", "HF_HUB_OFFLINE"]),
        (["--backbone", vit, "--dtype", "int8"], ["--dtype int8"]),
        (["--backbone", vit, "--cells-per-shard", 0], ["--cells-per-shard 0", "at least 1"]),
    ):
        assert_user_error(cytosae("embed", cells, "-o", tmp_path / "t", *options, check=False), *words)
        assert not (tmp_path / "t").exists()
    assert_user_error(cytosae("train", tmp_path / "absent", "-o", tmp_path / "s", check=False), "no token store")
    assert_user_error(cytosae("encode", cells, "--sae", tmp_path / "absent", check=False), "no such folder")
    assert_user_error(cytosae("report", tmp_path, check=False), "not finished")
    (tmp_path / "file").write_text("")
    assert_user_error(
        cytosae("cells", some_cells, "-o", tmp_path / "file" / "c.parquet", check=False), "cannot be written"
    )


def test_every_command_has_help_and_json() -> None:
    listed = cytosae("--help").stdout
    for command in ("cells", "embed", "train", "encode", "report", "run", "doctor"):
        assert command in listed
        told = cytosae(command, "--help", COLUMNS="200").stdout
        assert "--json" in told
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cytosae", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    for heavy in ("torch", "transformers", "pandas", "numpy", "anndata", "matplotlib"):
        assert f"| {heavy}\n" not in imported.replace("  ", " ").replace("  ", " ")
        assert not any(line.split("|")[-1].strip() == heavy for line in imported.splitlines())


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, cytosae; assert 'torch' not in sys.modules; cytosae.concepts.encode; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["train", "cells", "--l1", "inf"], "--l1 inf: must be a finite number"),
        (["train", "cells", "--learning-rate", "nan"], "--learning-rate nan: must be a finite number"),
        (["classify", "b.h5ad", "--seed", str(2**32)], f"--seed {2**32}: must be at most {2**32 - 1}"),
        (["compare", "b.h5ad", "APL", "--seed", str(2**63)], f"--seed {2**63}: must be at most {2**63 - 1}"),
    ],
)
def test_numbers_without_a_meaning_are_refused(options: list[str], words: str) -> None:
    assert_user_error(cytosae(*options, check=False), words)
