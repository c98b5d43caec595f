"""What the explorer answers of latents, against the arrays of a small study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient

from cytosae.concepts import concept_files, read_descriptions, read_maps
from cytosae.errors import CytosaeError
from cytosae.explorer import schemas
from cytosae.explorer.directions import Directions
from cytosae.explorer.measures import shortened
from cytosae.sae import SAE
from support.commands import cytosae
from support.explorer import CLOSE, decoded_map, get, opened, refusal
from support.studies import SET


def test_latents_of_a_data_set(client: TestClient, study: Path, data: Any) -> None:
    table = get(client, f"latents/{SET}")
    schemas.latents.LatentTable.model_validate(table)
    active = np.flatnonzero(data.var["activation_frequency"] > 0)
    assert table["latent"] == active.tolist()
    assert table["concept"] == data.var["is_concept"].to_numpy()[active].astype(int).tolist()
    names = (
        "activation_frequency",
        "mean_activation",
        "label_entropy",
        "n_references",
        "position_share",
        "concentration",
    )
    for name in names:
        assert table[name] == pytest.approx(data.var[name].to_numpy()[active], **CLOSE)
    concepts = np.flatnonzero(data.var["is_concept"])
    correlated = np.corrcoef(data.X[:, concepts].toarray(), rowvar=False)
    leader = dict(zip(table["latent"], table["alike"], strict=True))
    place = {int(latent): i for i, latent in enumerate(concepts)}
    folded = [(place[latent], place[shown]) for latent, shown in leader.items() if shown != latent]
    assert all(correlated[pair] >= 0.9 - 1e-4 for pair in folded)
    assert all(leader[shown] == shown for shown in leader.values())
    standing = [place[latent] for latent, shown in leader.items() if shown == latent and latent in place]
    assert np.nanmax(np.triu(correlated[np.ix_(standing, standing)], 1)) < 0.9
    latents, maps = read_maps(study / "concepts", SET)
    border = dict.fromkeys(range(data.n_vars))
    for latent, of in zip(latents, maps.astype(float), strict=True):
        ring = sum(m[0].sum() + m[-1].sum() + m[1:-1, 0].sum() + m[1:-1, -1].sum() for m in of)
        border[int(latent)] = ring / of.sum()
    assert sum(value is not None for value in border.values()) == len(latents)
    assert table["border"] == [None if border[s] is None else pytest.approx(border[s], rel=1e-4) for s in active]
    means = pd.DataFrame(data.layers["mean_activation"].toarray()).groupby(data.obs["label"].to_numpy()).mean()
    assert table["top_label"] == means.to_numpy().argmax(axis=0)[active].tolist()
    assert [g["name"] for g in get(client, "study")["datasets"][0]["labels"]] == means.index.tolist()


def test_a_study_of_before_has_no_position_shares_nor_reasons(copied: Path) -> None:
    path, _ = concept_files(copied / "concepts", SET)
    later = ("position_share", "concentration", "not_concept")
    with h5py.File(path, "r+") as file:
        for name in later:
            del file["var"][name]
        file["var"].attrs["column-order"] = [name for name in file["var"].attrs["column-order"] if name not in later]
    client = opened(copied)
    table = get(client, f"latents/{SET}")
    assert {*table["position_share"], *table["concentration"]} == {None}
    found = get(client, f"latents/{SET}/3")
    assert (found["flags"]["position"], found["not_concept"]) == (None, None)


def test_a_latent_that_is_no_concept_says_why(copied: Path) -> None:
    path, _ = concept_files(copied / "concepts", SET)
    with h5py.File(path, "r+") as file:
        reasons = [*file["var/not_concept/categories"].asstr()]
        file["var/not_concept/codes"][:3] = [reasons.index(reason) for reason in ("weak", "few cells", "scattered")]
        file["var/is_concept"][:3] = False
    client = opened(copied)
    assert [get(client, f"latents/{SET}/{latent}")["not_concept"] for latent in range(3)] == reasons


def test_silent_latents_are_not_listed(copied: Path) -> None:
    path, _ = concept_files(copied / "concepts", SET)
    with h5py.File(path, "r+") as file:
        file["var/activation_frequency"][:7] = 0
    table = get(opened(copied), f"latents/{SET}")
    assert table["latent"] == list(range(7, 384))
    assert {len(column) for column in table.values()} == {377}


def test_one_latent(client: TestClient, study: Path, data: Any) -> None:
    sae = SAE.from_pretrained(study / "sae").W_dec.detach().numpy()
    unit = sae / np.linalg.norm(sae, axis=1, keepdims=True)
    concepts = np.flatnonzero(data.var["is_concept"])
    h_mean = data.layers["mean_activation"].toarray()
    table = get(client, f"latents/{SET}")
    for latent in (0, 7, 200, data.n_vars - 1):
        found = get(client, f"latents/{SET}/{latent}")
        schemas.latents.LatentDetail.model_validate(found)
        assert (found["latent"], found["dataset"]) == (latent, SET)
        assert found["is_concept"] == bool(data.var["is_concept"].iloc[latent])
        reason = data.var["not_concept"].iloc[latent]
        assert found["not_concept"] == (None if pd.isna(reason) else reason)
        share = data.var["position_share"].iloc[latent]
        assert found["flags"]["position"] == (None if np.isnan(share) else share > 0.2)
        for name in ("activation_frequency", "mean_activation", "label_entropy", "n_references"):
            assert found["statistics"][name] == pytest.approx(data.var[name].iloc[latent], **CLOSE), name
        for column in ("label", "diagnosis"):
            groups = pd.Series(h_mean[:, latent]).groupby(data.obs[column].to_numpy())
            shown = {g["name"]: g for g in found[f"by_{column}"]}
            assert {n: g["cells"] for n, g in shown.items()} == groups.size().to_dict()
            for name, of in groups:
                assert shown[name]["mean"] == pytest.approx(of.mean(), **CLOSE)
                assert shown[name]["frequency"] == pytest.approx((of > 0).mean(), **CLOSE)
        cosines = unit[concepts] @ unit[latent]
        cosines[concepts == latent] = -2
        nearest = concepts[np.argsort(-cosines)[:10]]
        assert [one["latent"] for one in found["similar"]] == nearest.tolist()
        assert [one["cosine"] for one in found["similar"]] == pytest.approx(np.sort(cosines)[::-1][:10], rel=1e-4)
        counts = data.X.toarray().astype(float)
        correlated = [np.corrcoef(counts[:, latent], counts[:, other["latent"]])[0, 1] for other in found["together"]]
        assert [one["correlation"] for one in found["together"]] == pytest.approx(correlated, abs=1e-4)
        assert correlated == sorted(correlated, reverse=True)
        assert found["datasets"][SET]["mean_activation"] == found["statistics"]["mean_activation"]
        border = table["border"][table["latent"].index(latent)]
        assert found["statistics"]["border"] == border
        assert found["flags"]["border"] == (border > 1.5 * 60 / 256)
        assert found["flags"]["background"] is None
        assert found["quality"] is None


def test_directions_are_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytosae.explorer.directions._BLOCK", 7)
    sae = SAE(5, 40)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.W_dec *= torch.arange(1, 41)[:, None]  # lengths must not matter
    sae.save_pretrained(tmp_path)
    among = np.arange(40) % 2 == 0
    latents, cosines = Directions(tmp_path / "model.safetensors").similar(4, among, 6)
    w = sae.W_dec.detach().numpy()
    expected = (w @ w[4]) / np.linalg.norm(w, axis=1) / np.linalg.norm(w[4])
    expected[~among] = expected[4] = -2
    assert latents.tolist() == np.argsort(-expected)[:6].tolist()
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:6], rtol=1e-5)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CytosaeError, match="not the weights"):
        Directions(tmp_path / "model.safetensors").similar(0, among)


@pytest.mark.parametrize("kind", ["reference", "spread", "random", "middle", "low"])
def test_images_of_a_latent(
    client: TestClient, study: Path, data: Any, h: Callable[[int], np.ndarray], kind: str
) -> None:
    latent = int(np.flatnonzero(data.var["is_concept"])[9])
    found = get(client, f"latents/{SET}/{latent}/images/{kind}")
    schemas.latents.LatentImages.model_validate(found)
    rows, values = (data.varm[f"{kind}_{what}"][latent] for what in ("cells", "values"))
    rows, values = rows[rows >= 0], values[rows >= 0]
    assert [cell["row"] for cell in found["cells"]] == rows.tolist()
    assert [cell["value"] for cell in found["cells"]] == pytest.approx(values, **CLOSE)
    maps = [h(row)[1:, latent].reshape(16, 16) for row in rows]
    assert found["top"] == pytest.approx(max(m.max() for m in maps), rel=1e-3)
    for cell, row, map_ in zip(found["cells"], rows, maps, strict=True):
        about = data.obs.iloc[row]
        known = {"cell_id": data.obs_names[row], **{c: about[c] for c in ("label", "patient", "diagnosis")}}
        assert {key: cell[key] for key in known} == known
        np.testing.assert_allclose(decoded_map(cell["map"], found["top"]), map_, atol=found["top"] / 400)


def test_images_that_there_are_none_of(client: TestClient, data: Any) -> None:
    assert "there are reference" in refusal(client.get(f"/api/latents/{SET}/3/images/best"), 404)
    assert "latents 0 to 383" in refusal(client.get(f"/api/latents/{SET}/384"), 404)
    assert "latents 0 to 383" in refusal(client.get(f"/api/latents/{SET}/384/images/reference"), 404)
    assert "there are synthetic" in refusal(client.get("/api/latents/pbc"), 404)
    assert "there are synthetic" in refusal(client.get("/api/cells/pbc/3"), 404)
    for number in ("-1", "x", "1.5", "99999999999999999999", "NaN"):
        assert "latent" in refusal(client.get(f"/api/latents/{SET}/{number}"), 422)
        assert "row" in refusal(client.get(f"/api/cells/{SET}/{number}/image"), 422)


def test_short_numbers() -> None:
    values = np.array([0, np.nan, np.inf, -1.23456789, 1.23456789e-12, 98765432.1, 1])
    assert shortened(values) == [0, None, None, -1.23457, pytest.approx(1.23457e-12), pytest.approx(98765400), 1]
    assert [schemas.values.short(v) for v in values] == [0, None, None, -1.23457, 1.23457e-12, 98765400, 1]


def test_a_concept_that_was_described_says_what_it_shows(copied: Path) -> None:
    cytosae("measure", copied)
    cytosae("describe", copied)
    client = opened(copied)
    sentences = get(client, f"descriptions/{SET}")
    table = read_descriptions(copied).set_index("latent")["description"]
    assert sentences == {str(latent): text for latent, text in table.items()}
    latent = int(table.index[(table != "nothing known").to_numpy()][0])
    detail = get(client, f"latents/{SET}/{latent}")
    assert detail["description"] == table[latent]
    passes = [fact["passes"] for fact in detail["facts"]]
    assert passes[0]
    assert passes == sorted(passes, reverse=True)
