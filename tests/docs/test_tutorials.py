"""The notebook of every tutorial, run from top to bottom on small data, each by itself; and what the site shows of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import notebooks
from support.paths import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
LEAVES = {
    "own-images": ["study/report/index.html", "project/cells.csv", "labelled/report/index.html"],
    "disease": ["drawn/cohort/classification", "drawn/cohort/compare-CBFB_MYH11-NPM1", "patient-P000.html"],
    "laboratories": ["stains/laboratories/laboratories.csv", "stains/transfer/transfer.csv", "stains/stain_response"],
    "teach": ["panel.json", "drawn/taught/taught.safetensors"],
    "dinobloom": ["dinobloom/report/index.html"],
    "backbone": ["my-backbone/config.json", "random/quality/quality.json", "drawn/quality/quality.json"],
}
PAGE = """# Two blocks

Before.

```sh
echo "$PWD/one"; echo two >&2
```

Between.

```python
print("patients=60,cells=40")
```

```console
$ false
```
"""


@pytest.mark.slow  # each trains once or twice
@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    book = notebooks.notebook((TUTORIALS / f"{name}.md").read_text(encoding="utf-8"))
    notebooks.write_images(tmp_path / "run")
    notebooks.execute(book, tmp_path / "run")
    assert [path for path in LEAVES[name] if not (tmp_path / "run" / path).exists()] == []


def test_every_tutorial_is_tried() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.md")} == set(LEAVES)
    assert sorted(name for names in notebooks.READERS for name in names) == sorted(LEAVES)


def test_a_page_and_its_notebook_show_what_each_block_printed(tmp_path: Path) -> None:
    book = notebooks.notebook(PAGE)
    assert notebooks.with_outputs(PAGE, book) == PAGE
    notebooks.execute(book, tmp_path)
    printed = ["".join(cell["outputs"][0]["text"]) for cell in notebooks.code(book)]
    assert printed == ["one\ntwo", "patients=20,cells=8"]
    page = notebooks.with_outputs(PAGE, book)
    assert page.index("    one\n    two\n") < page.index("Between.") < page.index("    patients=20,cells=8\n")
    assert page.count("Output on small data") == 2
    assert "".join(book["cells"][1]["source"]) == notebooks.NOTE


def test_a_block_that_fails_ends_the_run(tmp_path: Path) -> None:
    book = notebooks.notebook("```sh\necho before\nfalse\necho after\n```\n\n```sh\ntouch next\n```\n")
    with pytest.raises(RuntimeError, match=r"exit code 1:\nbefore\n$"):
        notebooks.execute(book, tmp_path)
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("real", [True, False])
def test_images_are_real_ones_where_they_are_known(real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOSAE_DATA", str(tmp_path / "data"))
    if real:
        folder = tmp_path / "data" / "data" / "cells"
        (folder / "pbc").mkdir(parents=True)
        (folder / "pbc" / "a.jpg").write_bytes(b"pixels")
        (folder / "cells.csv").write_text("path,dataset,label\npbc/a.jpg,pbc,monocyte\nother/b.jpg,other,\n")
    notebooks.write_images(tmp_path / "run")
    images = sorted(path.name for path in (tmp_path / "run" / "images").iterdir())
    table = (tmp_path / "run" / "cells.csv").read_text().splitlines()
    assert len(table) == len(images) + 1
    if real:
        assert images == ["0.jpg"]
        assert table == ["path,label", "images/0.jpg,monocyte"]
    else:
        assert len(images) > notebooks.CELLS // 2
        assert table[0] == "path,label,patient,diagnosis"
