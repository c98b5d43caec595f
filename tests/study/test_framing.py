"""One way to show the cells for a whole study: in its listing, layout, autoencoder, and for whatever comes later."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.analysis import study_framing, study_tokens
from cytosae.artefacts import read_json
from cytosae.cells import Frame, read_cells, readings
from cytosae.cells.images import load_squashed
from cytosae.concepts import check_fit, read_familiarity
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import BackboneConfig, FrameConfig, TrainConfig
from cytosae.study import RunConfig, Study
from cytosae.tokens import TokenStore
from support.blank_figures import blank_figures

TRAINING = TrainConfig(expansion=2, images=64, batch_images=8, warmup_steps=2)


@pytest.fixture(scope="module")
def made(some_cells: Path, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig, Path]:
    """A study of 48 framed cells, its settings, and the table of its cells."""
    folder = tmp_path_factory.mktemp("framed")
    table = pd.read_csv(some_cells).iloc[::2]
    table.to_csv(folder / "cells.csv", index=False)
    config = RunConfig(BackboneConfig(str(vit)), train=TRAINING, framing=FrameConfig("cell", frame_margin=0.5))
    with blank_figures():
        Study(folder / "study", config, workers=0).run(folder / "cells.csv")
    return folder / "study", config, folder / "cells.csv"


def test_the_rule_is_everywhere(made: tuple[Path, RunConfig, Path]) -> None:
    study, _, _ = made
    cells = read_cells(study / "cells.parquet")
    assert cells["file_frame"].str.startswith("cell 0.5: ").all()
    assert TokenStore(study / "tokens").layout.frame == "cell 0.5"
    assert SAE.from_pretrained(study / "sae").metadata["frame"] == "cell 0.5"
    assert study_framing(study) == FrameConfig("cell", frame_margin=0.5)
    assert read_json(study / "study.json")["settings"]["framing"]["frame"] == "cell"


def test_tokens_are_those_of_what_is_shown(made: tuple[Path, RunConfig, Path], vit: Path) -> None:
    from cytosae.backbones import load

    study, _, _ = made
    cells = read_cells(study / "cells.parquet").iloc[:4]
    pixels = [load_squashed(Path(p), 224, how) for p, how in zip(cells["path"], readings(cells), strict=True)]
    expected = load(str(vit)).tokens(np.stack(pixels)).half()
    with study_tokens(study) as source:
        (tokens,) = source.stream([np.arange(4)])
    assert (tokens.float() - expected.float()).abs().max() < 0.05
    whole = load(str(vit)).tokens(np.stack([load_squashed(Path(p), 224) for p in cells["path"]]))
    assert (tokens.float() - whole).abs().max() > 0.2


def test_again_everything_is_up_to_date(made: tuple[Path, RunConfig, Path]) -> None:
    study, config, table = made
    with blank_figures():
        stages = Study(study, config, workers=0).run(table)
    assert {name: stage["skipped"] for name, stage in stages.items()} == dict.fromkeys(stages, True)


def test_another_frame_is_another_study(made: tuple[Path, RunConfig, Path], tmp_path: Path) -> None:
    study, config, table = made
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    with blank_figures(), pytest.raises(CytosaeError, match="--restart"):
        Study(copy, replace(config, framing=FrameConfig()), workers=0).run(table)
    sae, layout = SAE.from_pretrained(study / "sae"), TokenStore(study / "tokens").layout
    check_fit(layout, sae)
    with pytest.raises(CytosaeError, match=r"shown whole.*framed by 'cell 0\.5'.*--frame"):
        check_fit(replace(layout, frame=None), sae)


def test_cells_that_are_none_of_the_training_are_said(
    made: tuple[Path, RunConfig, Path], pictures: Path, tmp_path: Path
) -> None:
    study, config, _ = made
    with blank_figures():
        stages = Study(tmp_path / "new", config, workers=0, sae=study / "sae").run(pictures)
    (said,) = stages["familiarity"]["warnings"]
    assert "100% of the cells of pictures (8 of 8) lie farther from those of" in said
    assert read_familiarity(study, SAE(8, 24)) is None  # another autoencoder


def test_layouts_without_a_frame_are_what_they_were(made: tuple[Path, RunConfig, Path]) -> None:
    layout = TokenStore(made[0] / "tokens").layout
    assert "frame" in layout.identity()
    assert "frame" not in replace(layout, frame=None).identity()
    assert Frame.parse(read_cells(made[0] / "cells.parquet")["file_frame"][0]).rule == layout.frame
