"""The page without a server: the same answers, whole or not there."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytosae.errors import CytosaeError
from cytosae.explorer import cohorts, export, exporting
from cytosae.explorer.app import BUNDLE
from cytosae.settings import CompareConfig
from support.explorer import get, opened
from support.studies import SET


def test_static_export(
    study: Path, exported_study: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "CompareConfig", lambda **given: CompareConfig(permutations=50, bootstrap=20, **given))
    client = opened(study)
    folder, figures = exported_study
    assert sorted(path.name for path in folder.parent.iterdir()) == ["page"]
    page = (folder / "index.html").read_text()
    assert '<head>\n<meta name="cytosae-static" content="true">' in page
    assert "default-src 'none'" in page
    assert "frame-ancestors" not in page
    assert sorted(path.name for path in (folder / "assets").iterdir()) == sorted(
        path.name for path in (BUNDLE / "assets").iterdir()
    )
    files = [path.relative_to(folder / "data") for path in (folder / "data").rglob("*") if path.is_file()]
    assert figures["files"] == len(files)
    assert figures["missing"] == 0
    about = json.loads((folder / "data" / "study.json").read_text())
    live = get(client, "study")
    assert about["static"]
    assert not about["has"]["uploads"]
    of_the_server = {"static", "exported", "has", "annotations"}
    assert {k: v for k, v in about.items() if k not in of_the_server} == {
        k: v for k, v in live.items() if k not in of_the_server
    }
    kinds: Counter[str] = Counter()
    for path in sorted(files):
        kind = re.sub(r"\d+", "0", path.as_posix())
        kinds[kind] += 1
        if path.name == "study.json" or kinds[kind] > 6:  # six of each kind
            continue
        answer = client.get("/api/" + path.with_suffix("").as_posix())
        assert answer.status_code == 200, path
        assert (folder / "data" / path).read_bytes() == answer.content, path
    table = get(client, f"latents/{SET}")
    first = np.array(table["latent"])[np.argsort(-np.array(table["interest"]), kind="stable")[:3]]
    pages = about["exported"][SET]
    assert set(first.tolist()) <= set(pages)
    names = {path.as_posix() for path in files}
    for latent in pages:
        assert f"latents/{SET}/{latent}.json" in names
        for kind in ("reference", "random"):
            for cell in json.loads((folder / "data" / f"latents/{SET}/{latent}/images/{kind}.json").read_text())[
                "cells"
            ]:
                of = f"cells/{SET}/{cell['row']}"
                assert {f"{of}.json", f"{of}/image.jpg", f"{of}/patches.json", f"{of}/maps/{latent}.json"} <= names
    assert {"names.json", "annotations.json", "patients.json", "patients/P000.json"} <= names
    assert "compare/healthy/rest.json" in names
    assert "compare/NPM1/healthy.json" in names
    unusual = [row["latent"] for row in get(client, "patients/P000")["against"]["concepts"]]
    assert set(unusual) <= set(pages)
    listed = [f"patients/P000/concepts/{latent}" for latent in unusual[: exporting.UNUSUAL]]
    assert {"classifier.json", "patients/P000/unfamiliar.json", *(f"{name}.json" for name in listed)} <= names
    for name in listed:
        for cell in get(client, name)["cells"][: exporting.CARRIERS]:
            assert f"cells/{SET}/{cell['row']}/image.jpg" in names


def test_an_export_is_whole_or_not_there(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def little(self: Any) -> dict[str, Any]:
        self._write_file("study", b"{}")
        return {"files": self.files}

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    folder = tmp_path / "page"
    with pytest.raises(CytosaeError, match="build it in frontend"):
        export(study, folder, bundle=bundle)
    (bundle / "index.html").write_text("<html><head></head></html>")
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("x")
    for other in (foreign, study, study / "report", bundle / "index.html"):
        with pytest.raises(CytosaeError, match="--export"):
            export(study, other, bundle=bundle)
    assert (foreign / "thesis.txt").read_text() == "x"

    async def fails(self: Any) -> dict[str, Any]:
        self._write_file("study", b"{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting._Export, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        export(study, folder, bundle=bundle)
    assert not folder.exists()
    monkeypatch.setattr(exporting._Export, "write", little)
    (tmp_path / ".page.cytosae-partial").mkdir()  # of a run that was killed
    folder.mkdir()
    assert export(study, folder, bundle=bundle) == {"folder": str(folder), "files": 1}
    monkeypatch.setattr(exporting._Export, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        export(study, folder, bundle=bundle)
    assert (folder / "data" / "study.json").read_text() == "{}"  # the earlier one
    monkeypatch.setattr(exporting._Export, "write", little)
    assert export(study, folder, bundle=bundle)["files"] == 1
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".page")]


def test_an_export_goes_where_a_link_leads(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_written", lambda _, data, *__: {"files": len(list(data.parent.iterdir()))})
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        export(study, tmp_path / "link", concepts=1)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "index.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if "cytosae" in path.name) == []


def test_an_export_makes_nothing_in_the_study(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def little(self: Any) -> dict[str, Any]:
        assert await self._json("names") == {}
        return {}

    monkeypatch.setattr(exporting._Export, "write", little)
    for file in copied.glob("annotations.sqlite*"):
        file.unlink()
    before = sorted(copied.rglob("*"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "index.html").write_text("<html><head></head></html>")
    export(copied, tmp_path / "page", bundle=bundle)
    assert sorted(copied.rglob("*")) == before
