"""Annotations from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cytosae.concepts import draw_panel, read_concepts
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import open_database
from cytosae.tokens import TokenStore
from support.annotations import client_of, put, up_to_date, write_comparison


def test_annotations_from_the_command_line(
    study: tuple[Path, TokenStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cytosae.cli.commands import app

    folder, store = study

    def run(*arguments: object, code: int = 0) -> Any:
        done = CliRunner().invoke(app, ["annotations", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    with pytest.raises(CytosaeError, match="no annotations yet"):
        run("summary", folder)
    assert not (folder / "annotations.sqlite").exists()
    draw_panel(folder / "concepts", tmp_path / "panel.json", clusters=3, per_cluster=2)
    (made,) = run("import", folder, tmp_path / "panel.json", "--title", "Panel of Anna", "--json")["worklists"]
    assert made == {"worklist": 1, "title": "Panel of Anna", "items": 12, "new": True}
    (made,) = run("import", folder, tmp_path / "panel.json", "--title", "Panel of Anna", "--json")["worklists"]
    assert made["new"] is False
    write_comparison(tmp_path / "compared")
    lists = run("import", folder, tmp_path / "compared", "--dataset", "blood", "--json")["worklists"]
    assert [one["items"] for one in lists] == [4, 2]
    with pytest.raises(CytosaeError, match="blood, bone marrow"):
        run("import", folder, tmp_path / "compared")

    with closing(open_database(folder)) as database:
        client = client_of(database)
        item = client.get("/api/worklists/1").json()["items"][0]
        place = {"worklist": 1, "dataset": item["dataset"], "latent": item["latent"]}
        put(client, **place, verdict="meaningful", name="Auer rods")
        put(client, **place, rater="Ben", verdict="meaningful")
    assert "12 items, was there already" in run("import", folder, tmp_path / "panel.json", "--title", "Panel of Anna")
    run("export", folder, "-o", tmp_path / "all.json")
    with closing(open_database(folder)) as database:
        put(client_of(database), **place, version=1, verdict="artefact", name="smear")
    assert run("import", folder, tmp_path / "all.json", "--json", code=1)["unchanged"] == 1
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    with pytest.raises(CytosaeError, match="no annotations yet"):
        run("apply", folder, "--annotations", elsewhere)
    taken = run("import", folder, tmp_path / "all.json", "--annotations", elsewhere, "--json")
    assert (taken["worklists"], taken["added"], taken["conflicts"]) == (3, 2, [])

    summary = run("summary", folder, "--json", "-o", tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text()) == {"format": "cytosae-summary", **summary}
    first = summary["worklists"][0]
    assert (first["title"], first["meaningful"]) == ("Panel of Anna", {"x": 0, "y": 1, "first_ten": {"x": 0, "y": 1}})
    shown = run("summary", folder, "--worklist", 1, "--annotations", elsewhere)
    assert "1 Panel of Anna | meaningful" in shown
    assert "1 of 1" in shown
    with pytest.raises(CytosaeError, match="no worklist 9"):
        run("summary", folder, "--worklist", 9)
    with pytest.raises(CytosaeError, match="no worklist 99999999999999999999999"):
        run("summary", folder, "--worklist", 99999999999999999999999)

    assert run("apply", folder, "--annotations", elsewhere, "--json") == {"named": 1, "verdicts": 1, "files": 2}
    var = read_concepts(folder / "concepts", item["dataset"]).var
    assert var["annotation"].dropna().to_dict() == {str(item["latent"]): "Auer rods"}
    assert up_to_date(folder, store) == []


def test_annotations_are_read_without_loading_the_server() -> None:
    heavy = "[name for name in ('torch', 'uvicorn', 'pandas', 'sklearn') if name in sys.modules]"
    code = f"import sys, cytosae.explorer.annotations, cytosae.cli.annotations; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
