"""Shared fixtures: the real cells and published statistics where they lie, a small ViT, small cell images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported, so before anything that may do so

from cytosae.analysis import classify
from cytosae.settings import ClassifyConfig, CompareConfig
from cytosae.study import Study
from cytosae.tokens import TokenStore, store_layout

pytest.register_assert_rewrite("support")  # before anything of it is imported

from support.folders import made_once  # noqa: E402
from support.paths import SHARED  # noqa: E402
from support.planted import PlantedBackbone, numbered_cells, tiny_info  # noqa: E402
from support.studies import DRAWN, drawn_config  # noqa: E402

# As many threads as the environment says, so that the tests can be tried with one and with many; otherwise two.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: many tests wait for a process, a browser or a server."""
    return (os.cpu_count() or 1) + 1


MISSING = {
    "browser": ("no chromium",),
    "postgresql": ("no PostgreSQL", "PostgreSQL does not run"),
    "nginx": ("no nginx",),
    "npm": ("no npm", "page is not built"),
}
"""What tests may need of the machine, and how their reasons to skip begin."""


def _left_out(reporter: pytest.TerminalReporter) -> dict[str, list[str]]:
    """Tests that were skipped for want of each of these."""
    found: dict[str, list[str]] = {}
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for what, words in MISSING.items():
            if any(word in reason for word in words):
                found.setdefault(what, []).append(report.nodeid)
    return found


def _required() -> list[str]:
    """What has to be there, by ``CYTOSAE_REQUIRE=browser,postgresql``: tests that skip for want of it are failures."""
    return [what.strip() for what in os.environ.get("CYTOSAE_REQUIRE", "").split(",") if what.strip()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this machine lacks, and how many tests that cost."""
    for what, tests in _left_out(terminalreporter).items():
        required = what in _required()
        line = f"no {what} here: {len(tests)} tests were skipped" + (
            ", and CYTOSAE_REQUIRE asks for it" if required else ""
        )
        terminalreporter.write_line(line, red=required, yellow=not required)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped for want of what has to be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not session.exitstatus and {*_left_out(reporter)} & {*_required()}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def real_cells() -> Path:
    """Folder of the 8,961 real single-cell images."""
    folder = SHARED / "data" / "cells"
    if not (folder / "cells.csv").is_file():
        pytest.skip(f"no real cells at {folder}; set CYTOSAE_DATA to the folder that holds data/ and golden/")
    return folder


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Published statistics of the released CytoSAE on MLL23."""
    path = SHARED / "golden" / "mll23_release_statistics.npz"
    if not path.is_file():
        pytest.skip(f"no published statistics at {path}; set CYTOSAE_DATA")
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small DINOv2 with random weights, as transformers saves it; 65 tokens an image."""
    from transformers import Dinov2Config, Dinov2Model

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=224, patch_size=28)
        Dinov2Model(config).save_pretrained(folder)

    return made_once(tmp_path_factory, "vit", make)


@pytest.fixture(scope="session")
def some_cells(real_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 96 real cells of eight classes and three data sets."""
    cells = pd.read_csv(real_cells / "cells.csv")
    pbc = cells[cells["dataset"] == "pbc"].groupby("label").head(9)
    others = cells[cells["dataset"] != "pbc"].groupby("dataset").head(8)
    chosen = pd.concat([pbc, others]).assign(cell_id=lambda t: t["path"])
    chosen["path"] = [str(real_cells / path) for path in chosen["path"]]
    chosen["mask"] = [str(real_cells / m) if isinstance(m, str) else None for m in chosen["mask"]]
    folder = made_once(tmp_path_factory, "some", lambda to: chosen.to_csv(to / "some.csv", index=False))
    return folder / "some.csv"


@pytest.fixture(scope="session")
def drawn_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of `DRAWN`; copy it before anything is written into it."""
    return (
        made_once(tmp_path_factory, "drawn", lambda to: Study(to / "study", drawn_config()).run(Path(DRAWN))) / "study"
    )


@pytest.fixture(scope="session")
def classified_study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its patients classified; nobody writes into it."""

    def make(to: Path) -> None:
        folder = Path(shutil.copytree(drawn_study, to / "study"))
        config = ClassifyConfig(repeats=1, splits=3, step=1, permutations=19, bootstrap=100)
        classify(folder / "cohort" / "barcodes.h5ad", folder / "cohort" / "classification", config)

    return made_once(tmp_path_factory, "classified", make) / "study"


@pytest.fixture(scope="session")
def exported_study(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The page of that study without a server, small and with quick comparisons, and what the export said of it."""
    from cytosae.explorer import cohorts, exporting

    def make(to: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                cohorts, "CompareConfig", lambda **given: CompareConfig(permutations=50, bootstrap=20, **given)
            )
            patch.setattr(exporting, "MAPS", 2)
            patch.setattr(exporting, "COMPARED", 1)
            said = exporting.export(classified_study, to / "out" / "page", concepts=3)
        (to / "said.json").write_text(json.dumps(said, default=str), encoding="utf-8")

    folder = made_once(tmp_path_factory, "exported", make)
    return folder / "out" / "page", json.loads((folder / "said.json").read_text(encoding="utf-8"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two class folders with four small images each."""
    rng = np.random.default_rng(0)
    for label in ("blast", "monocyte"):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for index in range(4):
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "pictures"


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., TokenStore]:
    """Writes a token store that holds given tokens ``(n_cells, n_tokens, d_model)``, through the real writer."""
    from cytosae.settings import StoreConfig
    from cytosae.tokens import embed

    def make(tokens: torch.Tensor, name: str = "store", **columns: Any) -> TokenStore:
        folder = tmp_path / name
        table = numbered_cells(folder / "images", len(tokens), **columns)
        grid = (2, (tokens.shape[1] - 1) // 2)
        info = tiny_info(tokens.shape[2], grid, fingerprint=columns.pop("fingerprint", "f"))
        layout = store_layout(info, StoreConfig(cells_per_shard=16, batch_size=8))
        embed(table, PlantedBackbone(tokens, info), folder / "tokens", layout, workers=0)  # type: ignore[arg-type]
        return TokenStore(folder / "tokens")

    return make
