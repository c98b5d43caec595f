"""BMC, on a miniature of its published layout."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from cytosae.cli.commands import app
from support.published import ask, images_by_code, picture, table


def test_bmc_and_its_broken_file_through_the_listing(tmp_path: Path) -> None:
    source = tmp_path / "BM_cytomorphology_data"
    for name in (
        "ABE/ABE_00001.jpg",
        "MYB/0001-1000/MYB_00001.jpg",
        "MYB/5001-6000/MYB_05528.jpg",
        "OTH/OTH_00001.jpg",
    ):
        picture(source / name, edge=25)
    (source / "MYB" / "5001-6000" / "MYB_05527.jpg").write_bytes(b"\xff\xd8\xff broken")
    picture(source / "XYZ" / "0001-1000" / "XYZ_00001.jpg")
    summary = ask("prepare", "bmc", source, "-o", tmp_path / "out")
    assert images_by_code(summary) == {"ABE": 1, "MYB": 3, "OTH": 1}
    assert summary["unknown_folders"] == {"BM_cytomorphology_data/XYZ/0001-1000": 1}
    assert "bmc/MYB/5001-6000/MYB_05527.jpg" in set(table(tmp_path / "out")["cell_id"])
    target = tmp_path / "study" / "cells.parquet"
    result = CliRunner().invoke(app, ["cells", str(tmp_path / "out" / "cells.csv"), "-o", str(target), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout[result.stdout.index("{") :])["rejected"] == 1
    rejected = pd.read_csv(target.with_name("cells.rejected.csv"))
    assert rejected["path"].tolist() == [str(source / "MYB" / "5001-6000" / "MYB_05527.jpg")]
    listed = pd.read_parquet(target)
    assert Counter(listed["label"]) == {"myelocyte": 2, "abnormal_eosinophil": 1, "other_cell": 1}
    assert set(listed["code"]) == {"ABE", "MYB", "OTH"}
