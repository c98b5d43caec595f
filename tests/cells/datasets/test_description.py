"""What is known of the published data sets."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cytosae.cells.datasets import DATASETS, find
from cytosae.cli.commands import app
from cytosae.errors import CytosaeError
from support.published import ask, refused


def test_classes_are_the_published_ones_and_their_counts_add_up() -> None:
    assert list(DATASETS)[:5] == ["mll23", "acevedo", "matek19", "bmc", "hehr"]
    numbers = {"mll23": 18, "acevedo": 13, "matek19": 15, "bmc": 21, "hehr": 5, "bloodmnist": 8, "bccd": 5}
    for name, number in numbers.items():
        assert len(DATASETS[name].classes) == number, name
    for one in DATASETS.values():
        assert len({c.code for c in one.classes}) == len(one.classes) == len({c.label for c in one.classes})
        counts = [c.images for c in one.classes]
        if one.images is not None and all(count is not None for count in counts):
            assert sum(counts) == one.images, one.name
        assert one.citation
        assert one.source.startswith("https://")
        assert one.by_hand
        assert all(file.address.startswith("https://") for file in one.files)
    known = sum(c.images or 0 for c in DATASETS["matek19"].classes)
    assert DATASETS["matek19"].images == known + 70  # those of the four classes whose counts are not at hand
    # The order of the release's class lists, which its published statistics count by.
    for name in ("mll23", "matek19", "bmc"):
        codes = [c.code for c in DATASETS[name].classes]
        assert codes == sorted(codes), name


def test_groupings_of_acevedo() -> None:
    acevedo = find("acevedo")
    assert len(set(acevedo.labels(8).values())) == 8
    eleven = acevedo.labels()
    assert len(set(eleven.values()) - {None}) == 11
    assert [code for code, label in eleven.items() if label is None] == ["IG", "NEUTROPHIL"]
    assert len(set(acevedo.labels(13).values())) == 13
    assert acevedo.labels(8)["BNE"] == "neutrophil"
    with pytest.raises(CytosaeError, match="--classes 5: acevedo can be labelled with 8, 11, 13"):
        acevedo.labels(5)
    with pytest.raises(CytosaeError, match="--classes 5: bmc can be labelled with 21"):
        find("bmc").labels(5)
    assert find("bmc").labels(21)["BLA"] == "blast"


def test_list_and_info() -> None:
    listed = ask("list")
    assert list(listed) == list(DATASETS)
    assert listed["hehr"]["patients"] == 189
    info = ask("info", "bmc")
    assert info["classes"][0] == {"code": "ABE", "label": "abnormal_eosinophil", "images": None}
    assert info["licence"] == "CC BY 4.0"
    assert "MYB_05527" in info["oddities"][0]
    assert ask("info", "hehr")["licence"] is None  # not verified, so not stated
    text = CliRunner().invoke(app, ["datasets", "list"]).output
    assert all(name in text for name in DATASETS)
    assert "17,092" in CliRunner().invoke(app, ["datasets", "info", "acevedo"]).output
    assert "Did you mean mll23?" in refused("info", "mll32")
