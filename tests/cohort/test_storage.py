"""Classifications of earlier versions are read."""

from __future__ import annotations

import json
from pathlib import Path

from cytosae.cohort import methods_figure, read_methods


def test_a_classification_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    rows = [{"contender": "barcodes", "value": 0.5}]
    (tmp_path / "classification.json").write_text(json.dumps({"contenders": rows}))
    (tmp_path / "contenders.png").touch()
    assert read_methods(tmp_path) == {"barcodes": rows[0]}
    assert methods_figure(tmp_path).name == "contenders.png"
    (tmp_path / "classification.json").write_text(json.dumps({"methods": [{"method": "barcodes", "value": 0.6}]}))
    (tmp_path / "methods.png").touch()
    assert read_methods(tmp_path)["barcodes"]["value"] == 0.6
    assert methods_figure(tmp_path).name == "methods.png"
