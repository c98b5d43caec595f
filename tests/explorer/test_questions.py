"""Cells that look like one, regions of patches, concepts that are changed, and what concepts are typical of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from support.explorer import decoded_map, get, refusal
from support.studies import SET


def test_similar_cells_have_the_same_concepts(client: TestClient, data: Any) -> None:
    labels = data.obs["label"].astype(str).to_numpy()
    same = []
    for row in (3, 40, 90):
        found = get(client, f"cells/{SET}/{row}/similar")
        assert found["compared"] == data.n_obs
        rows = [cell["row"] for cell in found["cells"]]
        scores = [cell["score"] for cell in found["cells"]]
        assert row not in rows
        assert scores == sorted(scores, reverse=True)
        assert 0 < scores[0] <= 1
        means = data.layers["mean_activation"][row].toarray()[0]
        assert all(means[latent] > 0 for cell in found["cells"] for latent in cell["shared"])
        same.append(np.mean(labels[rows[:5]] == labels[row]))
    assert np.mean(same) > 2 * np.mean([np.mean(labels == label) for label in labels])
    assert "cells 0 to" in refusal(client.get(f"/api/cells/{SET}/{data.n_obs}/similar"), 404)


def test_a_region_says_what_its_patches_share(client: TestClient, data: Any, h: Callable[[int], np.ndarray]) -> None:
    row, patches = 12, [119, 120, 135, 136]
    found = get(client, f"cells/{SET}/{row}/region", patches=",".join(map(str, patches)))
    activation = h(row)[1:]
    common = data.var["activation_frequency"].to_numpy() > 0.99
    for one in found["concepts"]:
        column = activation[:, one["latent"]]
        assert one["share"] == np.mean(column[patches] > 0.2) >= 0.5
        np.testing.assert_allclose(one["inside"], column[patches].mean(), rtol=1e-4)
        assert not common[one["latent"]]
    leads = [one["inside"] - one["outside"] for one in found["concepts"]]
    assert leads == sorted(leads, reverse=True)
    latents = [one["latent"] for one in found["concepts"][:5]]
    first = found["elsewhere"]["cells"][0]
    means = data.layers["mean_activation"][:, latents].toarray()
    score = np.exp(np.log(np.maximum(means / means.max(axis=0), 1e-30)).mean(axis=1))
    score[row] = 0
    assert first["row"] == int(score.argmax())
    assert "patches 0 to 255" in refusal(client.get(f"/api/cells/{SET}/{row}/region?patches=256"), 422)
    refusal(client.get(f"/api/cells/{SET}/{row}/region?patches=a"), 422)


def test_a_changed_concept_moves_its_patches_and_what_is_said(
    client: TestClient, data: Any, h: Callable[[int], np.ndarray]
) -> None:
    row = 25
    means = data.layers["mean_activation"][row].toarray()[0]
    latent = int(np.where(data.var["is_concept"], means, 0).argmax())
    gone = get(client, f"cells/{SET}/{row}/changed/{latent}", factor=0)
    assert gone["active"]
    map_ = decoded_map(gone["map"], gone["top"])
    assert (map_.ravel() > 0).sum() >= 0.9 * (h(row)[1:, latent] > 0.05 * h(row)[1:, latent].max()).sum() > 0
    for said in (gone["cell"], gone["patient"]):
        for moment in ("before", "after"):
            np.testing.assert_allclose(sum(one[moment] for one in said["classes"]), 1, atol=1e-4)
    assert any(one["before"] != one["after"] for one in gone["cell"]["classes"])
    same = get(client, f"cells/{SET}/{row}/changed/{latent}", factor=1)
    assert same["top"] == 0
    assert all(one["before"] == one["after"] for said in (same["cell"], same["patient"]) for one in said["classes"])
    plain = get(client, f"cells/{SET}/{row}/similar")
    assert [c["row"] for c in same["towards"]["cells"]] == [c["row"] for c in plain["cells"]]
    silent = int(np.flatnonzero(means == 0)[0])
    assert not get(client, f"cells/{SET}/{row}/changed/{silent}", factor=0)["active"]
    refusal(client.get(f"/api/cells/{SET}/{row}/changed/{latent}?factor=9"), 422)


def test_typical_types_are_those_with_the_largest_lift(client: TestClient, data: Any) -> None:
    found = get(client, f"typical/{SET}")
    labels = data.obs["label"].astype(str).to_numpy()
    shown = data.layers["mean_activation"].toarray() > 0
    table = get(client, f"latents/{SET}")
    for latent, lift in list(zip(table["latent"], table["lift"], strict=True))[:40]:
        lifts = {}
        for name in np.unique(labels):
            inside, outside = (shown[side, latent] for side in (labels == name, labels != name))
            if len(inside) >= 5:
                lifts[name] = ((inside.sum() + 0.5) / (len(inside) + 1)) / ((outside.sum() + 0.5) / (len(outside) + 1))
        best = max(lifts, key=lambda name: lifts[name])
        np.testing.assert_allclose(lift, lifts[best], rtol=1e-3)
        assert (str(latent) in found) <= (lifts[best] > 2)
    assert {"typical_label", "lift", "beside"} <= table.keys()
    beside = [latent for latent, one in zip(table["latent"], table["beside"], strict=True) if one]
    sentences = get(client, f"descriptions/{SET}")
    told = [sentences[str(latent)] for latent in beside if str(latent) in sentences]
    assert any("background" in text or "red blood cell" in text for text in told)
    outside = [int(s) for s, text in sentences.items() if text.startswith(("empty background", "image border"))]
    assert set(outside) <= set(beside)
