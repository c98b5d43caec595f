"""Worklists that are made of a panel and of a comparison."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from cytosae.concepts import draw_panel
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import everything, from_comparison, open_database
from cytosae.tokens import TokenStore
from support.annotations import client_of, write_comparison


def test_a_panel_becomes_a_worklist(study: tuple[Path, TokenStore], tmp_path: Path) -> None:
    folder, _ = study
    path = tmp_path / "panel.json"
    draw_panel(folder / "concepts", path, clusters=3, per_cluster=2, seed=7)
    panel = json.loads(path.read_text())
    with closing(open_database(folder)) as database:
        client = client_of(database)
        answer = client.post("/api/worklists/import", json=panel, params={"blind_raters": True})
        assert answer.status_code == 201
        made = answer.json()
        assert (made["title"], made["blind_raters"], made["blind_labels"]) == ("Panel, seed 7", True, False)
        assert made["questions"] == panel["questions"]
        order = [(item["dataset"], item["latent"]) for item in made["items"]]
        assert order == [(item["dataset"], item["latent"]) for item in panel["items"]]
        assert "cluster" not in answer.text
        again = client.post("/api/worklists/import", json=panel, params={"blind_raters": True}).json()
        assert again["id"] == made["id"]
        other = client.post("/api/worklists/import", json=panel, params={"title": "Open"}).json()
        assert other["id"] != made["id"]
        clusters = [item.about["cluster"] for item in everything(database).worklists[0].items]
        assert clusters == [item["cluster"] for item in panel["items"]]
        wrong = client.post("/api/worklists/import", json={**panel, "inputs": {"sae": "e" * 64}})
        assert wrong.status_code == 422
        assert "another autoencoder" in wrong.json()["detail"]
        unknown = [{**panel["items"][0], "dataset": "urine"}]
        assert client.post("/api/worklists/import", json={**panel, "items": unknown}).status_code == 404


def test_a_comparison_becomes_a_worklist_for_each_group(tmp_path: Path) -> None:
    first, second = from_comparison(write_comparison(tmp_path / "both"), "pbc")
    assert [latent for _, latent, _ in first.items] == [2, 5, 7, 0]
    assert [latent for _, latent, _ in second.items] == [1, 4]
    assert first.items[1] == ("pbc", 5, {"rank": 1})
    assert (first.disease, second.disease) == ("CBFB_MYH11", "PML_RARA")
    assert first.questions[-1] == "Is it specific for CBFB_MYH11?"
    (only,) = from_comparison(write_comparison(tmp_path / "rest", "rest"), "pbc")
    assert only.disease == "CBFB_MYH11"
    with pytest.raises(CytosaeError, match="cytosae compare"):
        from_comparison(tmp_path, "pbc")
