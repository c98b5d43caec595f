"""A run measures every cell and describes every concept: recorded, resumed, skipped where up to date, or left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cytosae.concepts import has_descriptions, read_concepts, read_descriptions
from cytosae.concepts.description import describing
from cytosae.study import Study
from support.studies import DRAWN, SET, drawn_config


@pytest.fixture
def study(drawn_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_study, tmp_path / "study", copy_function=shutil.copy2))


def described(study: Path) -> pd.Series:
    return read_concepts(study / "concepts", SET, matrices=False).var["description"].dropna()


def written(study: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for part in ("concepts", "cohort/barcodes.h5ad", "morphometry", "descriptions", "report")
        for path in [study / part, *(study / part).rglob("*")]
        if path.is_file()
    }


def test_a_run_leaves_measurements_and_words_and_a_second_one_skips_them(study: Path) -> None:
    assert has_descriptions(study)
    assert len(described(study)) == len(read_descriptions(study)) > 50
    assert read_concepts(study / "concepts", SET).obs["nuclear_fraction"].notna().mean() > 0.9
    before = written(study)
    stages = Study(study, drawn_config()).run(Path(DRAWN))
    assert all(stage["skipped"] for stage in stages.values()), {n: s["why"] for n, s in stages.items()}
    assert {"morphometry", "descriptions"} <= stages.keys()
    assert written(study) == before


def test_words_that_were_interrupted_are_made_by_the_next_run(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(study / "descriptions")

    def dies(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(describing, "locate", dies)
    with pytest.raises(KeyboardInterrupt):
        Study(study, drawn_config()).run(Path(DRAWN))
    assert not has_descriptions(study)
    monkeypatch.undo()
    stages = Study(study, drawn_config()).run(Path(DRAWN))
    assert [name for name, stage in stages.items() if not stage["skipped"]] == ["descriptions"]
    assert stages["descriptions"]["why"] == "not made yet"


def test_concepts_that_were_encoded_otherwise_are_described_again_with_the_same_settings(study: Path) -> None:
    manifest = json.loads((study / "descriptions" / "manifest.json").read_text(encoding="utf-8"))
    from cytosae.concepts import describe_concepts
    from cytosae.settings import DescribeConfig, EncodeConfig

    describe_concepts(study, DescribeConfig(least_excess=0.9))
    config = drawn_config()
    changed = type(config)(**{**vars(config), "encode": EncodeConfig(threshold=0.5)})
    stages = Study(study, changed).run(Path(DRAWN))
    assert stages["morphometry"]["skipped"]
    assert "encoded" in stages["descriptions"]["why"]
    after = json.loads((study / "descriptions" / "manifest.json").read_text(encoding="utf-8"))
    assert after["parameters"]["least_excess"] == 0.9 != manifest["parameters"]["least_excess"]
    assert len(described(study)) == len(read_descriptions(study))


def test_words_can_be_left_out(study: Path) -> None:
    shutil.rmtree(study / "descriptions")
    shutil.rmtree(study / "morphometry")
    stages = Study(study, drawn_config(), describe=False).run(Path(DRAWN))
    assert not {"morphometry", "descriptions"} & stages.keys()
    assert not (study / "morphometry").exists()
    assert json.loads((study / "study.json").read_text(encoding="utf-8"))["describe"] is False
