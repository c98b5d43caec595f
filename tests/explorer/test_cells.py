"""What the explorer answers of cells, their pictures, patches and maps."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.cells import load_squashed, read_cells
from cytosae.explorer import schemas
from support.explorer import CLOSE, decoded_map, get, opened, refusal
from support.studies import SET


def test_cells(client: TestClient, data: Any) -> None:
    found = get(client, f"cells/{SET}")
    schemas.cells.CellList.model_validate(found)
    assert found["total"] == data.n_obs
    assert [cell["cell_id"] for cell in found["cells"]] == data.obs_names[:60].tolist()
    part = get(client, f"cells/{SET}", label="blast", patient="P001", offset=1, limit=2)
    rows = np.flatnonzero((data.obs["label"] == "blast") & (data.obs["patient"] == "P001"))
    assert (part["total"], [cell["row"] for cell in part["cells"]]) == (len(rows), rows[1:3].tolist())
    assert get(client, f"cells/{SET}", label="' OR 1=1 --") == {"total": 0, "cells": []}
    assert get(client, f"cells/{SET}", label="")["total"] == data.n_obs
    assert get(client, f"cells/{SET}", offset=10**6) == {"total": data.n_obs, "cells": []}
    for query in ({"limit": 0}, {"limit": 501}, {"offset": -1}, {"label": "x" * 301}):
        assert next(iter(query)) in refusal(client.get(f"/api/cells/{SET}", params=query), 422)


def test_one_cell(client: TestClient, data: Any) -> None:
    for row in (0, 77, data.n_obs - 1):
        found = get(client, f"cells/{SET}/{row}")
        schemas.cells.CellDetail.model_validate(found)
        assert (found["cell_id"], found["label"]) == (data.obs_names[row], data.obs["label"].iloc[row])
        assert (found["width"], found["height"]) == (224, 224)
        means, counts = data.layers["mean_activation"][row].toarray()[0], data.X[row].toarray()[0]
        assert found["n_active"] == (means > 0).sum()
        order = np.argsort(-means, kind="stable")[: int((means > 0).sum())]
        shown = found["concepts"]
        assert [one["mean_activation"] for one in shown] == pytest.approx(means[order], **CLOSE)
        assert {one["latent"]: one["count"] for one in shown} == {int(s): int(counts[s]) for s in order}
        common = data.var["activation_frequency"].to_numpy() > 0.99
        assert all(one["common"] == common[one["latent"]] for one in shown)
        assert {one["common"] for one in shown} == {True, False}
    assert "cells 0 to" in refusal(client.get(f"/api/cells/{SET}/{data.n_obs}"), 404)


def test_pictures(client: TestClient, study: Path, data: Any) -> None:
    path = Path(read_cells(study / "cells.parquet")["path"][11])
    for size in (64, 112, 224, 448):
        answer = client.get(f"/api/cells/{SET}/11/image", params={"size": size})
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"].startswith("private")
        pixels = np.asarray(Image.open(io.BytesIO(answer.content)), float)
        assert pixels.shape == (size, size, 3)
        assert np.abs(pixels - load_squashed(path, size)).mean() < 6
    assert client.get(f"/api/cells/{SET}/11/image").content != client.get(f"/api/cells/{SET}/12/image").content
    tag = answer.headers["etag"]
    again = client.get(f"/api/cells/{SET}/11/image?size=448", headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/api/cells/{SET}/12/image?size=448", headers={"If-None-Match": tag}).status_code == 200
    for size in ("225", "0", "-64", "1e3", "x"):
        assert "size" in refusal(client.get(f"/api/cells/{SET}/11/image?size={size}"), 422)


def test_patches_and_maps(client: TestClient, data: Any, h: Callable[[int], np.ndarray]) -> None:
    common = data.var["activation_frequency"].to_numpy() > 0.99
    for row in (5, 160):
        found = get(client, f"cells/{SET}/{row}/patches")
        schemas.cells.Patches.model_validate(found)
        activations = h(row)[1:]
        left = np.where(common, 0, activations)
        assert len(found["patches"]) == 256
        assert found["top"] == pytest.approx(left.max(), rel=1e-4)
        for patch, of in zip(found["patches"], left, strict=True):
            order = np.argsort(-of, kind="stable")[:12]
            order = order[of[order] > 0]
            shown = [s for s, _ in patch]
            assert len(set(shown)) == len(order)
            assert of[shown] == pytest.approx(of[order], rel=1e-4, abs=1e-5)  # of two that are equal either comes first
            assert [v for _, v in patch] == pytest.approx(of[order], rel=1e-3, abs=1e-4)
        for latent in (3, 250):
            one = get(client, f"cells/{SET}/{row}/maps/{latent}")
            schemas.cells.LatentMap.model_validate(one)
            map_ = activations[:, latent].reshape(16, 16)
            assert one["top"] == pytest.approx(map_.max(), rel=1e-4)
            np.testing.assert_allclose(decoded_map(one["map"], one["top"]), map_, atol=one["top"] / 500 + 1e-6)
    assert "latents 0 to" in refusal(client.get(f"/api/cells/{SET}/5/maps/384"), 404)
    assert "cells 0 to" in refusal(client.get(f"/api/cells/{SET}/{data.n_obs}/patches"), 404)


def test_without_tokens_the_image_passes_the_backbone(client: TestClient, copied: Path) -> None:
    shutil.rmtree(copied / "tokens")
    live = opened(copied)
    for path in (f"cells/{SET}/5/patches", f"latents/{SET}/9/images/low"):
        before, now = get(client, path), get(live, path)
        assert now["top"] == pytest.approx(before["top"], rel=0.02)
    assert get(live, "study")["has"]["tokens"]
    (copied / "backbone.json").unlink()
    gone = opened(copied)
    assert get(gone, "study")["has"] | {"tokens": False, "uploads": False} == get(gone, "study")["has"]
    assert "backbone.json: missing" in refusal(gone.get(f"/api/cells/{SET}/5/patches"), 404)
    assert [cell["map"] for cell in get(gone, f"latents/{SET}/9/images/low")["cells"]] == [None] * 10
    assert all(cell["map"] for cell in get(gone, f"latents/{SET}/9/images/reference")["cells"])
    assert "No such route" in refusal(gone.post("/api/uploads"), 404)


def test_images_that_are_gone_or_broken(copied: Path) -> None:
    table = read_cells(copied / "cells.parquet")
    files = [Path(path) for path in table["path"][:5]]
    assert all(file.is_relative_to(copied) for file in files)  # a study can be moved
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes()[:300])
    files[3].write_text("<script>alert(1)</script>")
    files[4].unlink()
    files[4].mkdir()
    client = opened(copied)
    for row, reason in enumerate(("file is missing", "damaged", "", "not a JPEG", "a folder")):
        answer = client.get(f"/api/cells/{SET}/{row}/image")
        if reason:
            assert reason in refusal(answer, 404 if "missing" in reason else 500)
            assert str(copied) not in answer.text
        else:
            assert answer.status_code == 200
        assert get(client, f"cells/{SET}/{row}")["row"] == row
    good = client.get(f"/api/cells/{SET}/2/image").content
    shutil.copy(table["path"][9], files[2])
    assert client.get(f"/api/cells/{SET}/2/image").content != good  # a file that changes is read anew
