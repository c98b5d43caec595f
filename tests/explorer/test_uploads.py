"""Uploads: kept in memory, described as the cells of the study, refused and forgotten."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.cells import read_cells
from cytosae.explorer import schemas
from cytosae.explorer.routes import uploads
from support.explorer import decoded_map, get, jpeg_of, opened, refusal
from support.studies import SET


def test_uploads(client: TestClient, study: Path, monkeypatch: pytest.MonkeyPatch, h: Callable[[int], Any]) -> None:
    def to_disk(_: object) -> None:
        raise AssertionError("an upload went to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", to_disk)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in study.rglob("*") if "annotations" not in path.name)
    path = Path(read_cells(study / "cells.parquet")["path"][42])
    script = "<img src=x onerror=alert(1)>.jpg"
    files = [("files", ("../../etc/" + path.name, path.read_bytes())), ("files", (script, jpeg_of(kind="PNG")))]
    files.append(("files", ("large.bmp", jpeg_of(size=(900, 900), kind="BMP"))))  # more than a form keeps in memory
    answer = client.post("/api/uploads", files=files)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    schemas.cells.Uploaded.model_validate(found)
    assert [(cell["index"], cell["name"]) for cell in found["cells"]] == [
        (0, path.name),
        (1, script),
        (2, "large.bmp"),
    ]
    assert (found["cells"][1]["width"], found["cells"][1]["height"]) == (50, 40)
    assert found["cells"][0]["notes"] == []
    for strange in found["cells"][1:]:  # noise is no cell of the study
        assert "farther from the cells of the study than 99% of these" in strange["notes"][0]
    known = get(client, f"cells/{SET}/42")  # the same image: the same concepts as in the study
    mine, theirs = ({c["latent"]: c for c in cell["concepts"]} for cell in (found["cells"][0], known))
    assert found["cells"][0]["n_active"] == pytest.approx(known["n_active"], abs=3)
    for latent in [c["latent"] for c in known["concepts"][:50]]:
        assert mine[latent]["mean_activation"] == pytest.approx(theirs[latent]["mean_activation"], rel=0.03, abs=3e-3)
        assert mine[latent]["count"] == pytest.approx(theirs[latent]["count"], abs=6)
        assert mine[latent]["common"] == theirs[latent]["common"]
    name = found["id"]
    latent = known["concepts"][0]["latent"]
    one = get(client, f"uploads/{name}/0/maps/{latent}")
    np.testing.assert_allclose(decoded_map(one["map"], one["top"]), h(42)[1:, latent].reshape(16, 16), atol=0.06)
    patches = get(client, f"uploads/{name}/0/patches")
    assert patches["top"] == pytest.approx(get(client, f"cells/{SET}/42/patches")["top"], rel=0.03)
    image = client.get(f"/api/uploads/{name}/1/image?size=112")
    assert Image.open(io.BytesIO(image.content)).size == (112, 112)
    for where in (f"{name}/3/image", "other/0/image", f"{name}/3/patches", f"other/0/maps/{latent}"):
        assert "dropped" in refusal(client.get(f"/api/uploads/{where}"), 404)
    assert "latents 0 to" in refusal(client.get(f"/api/uploads/{name}/0/maps/384"), 404)
    after = sorted((str(path), path.stat().st_mtime_ns) for path in study.rglob("*") if "annotations" not in path.name)
    assert before == after


def test_uploads_that_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(*files: tuple[str, bytes]) -> Any:
        return client.post("/api/uploads", files=[("files", file) for file in files])

    for data in (b"<script>alert(1)</script>", b"", b"GIF89a" + b"\0" * 40, jpeg_of()[:200], b"%PDF-1.4"):
        assert "cell.png" in refusal(sent(("cell.png", data)), 415)
    assert "20 files" in refusal(sent(*[(f"{i}.jpg", jpeg_of()) for i in range(21)]), 413)
    assert "No file" in refusal(client.post("/api/uploads", files=[("other", ("a.jpg", jpeg_of()))]), 422)
    assert "form-data" in refusal(client.post("/api/uploads", json={"files": []}), 415)
    assert "form-data" in refusal(client.post("/api/uploads"), 415)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        headers = {"Content-Type": kind}
        assert "Not a form" in refusal(client.post("/api/uploads", content=b"--y\r\nzzz", headers=headers), 400)
    wide = jpeg_of(size=(8000, 7000), kind="PNG")
    assert "megapixels" in refusal(sent(("wide.png", wide)), 413)
    large = client.post("/api/uploads", headers={"Content-Length": str(uploads.BODY + 1)}, content=b"")
    assert "larger than" in refusal(large, 413)
    monkeypatch.setattr(uploads, "FILE_BYTES", 1000)
    assert "a.bmp: The file is larger" in refusal(sent(("a.bmp", jpeg_of(kind="BMP"))), 413)
    none = opened(Path(str(client.app.state.study)), uploads=False)
    assert "No such route" in refusal(none.post("/api/uploads", files=[("files", ("a.jpg", jpeg_of()))]), 404)


def test_each_file_of_an_upload_is_answered_for_itself(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "FILE_BYTES", 5000)
    wide = jpeg_of(size=(90, 80), kind="PNG")
    sent = [("a.pdf", b"%PDF-1.4"), ("b.png", wide), ("c.bmp", jpeg_of(kind="BMP")), ("d.png", jpeg_of(kind="PNG"))]
    answer = client.post("/api/uploads", files=[("files", file) for file in sent])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [(cell["index"], cell["name"]) for cell in found["cells"]] == [(0, "b.png"), (1, "d.png")]
    first, second = found["refused"]
    assert (first["name"], second["name"]) == ("a.pdf", "c.bmp")
    assert "image" in first["reason"]
    assert "larger than" in second["reason"]
    assert client.get(f"/api/uploads/{found['id']}/1/image").status_code == 200


def test_uploads_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_CELLS", 5)
    kept = uploads.Uploads()
    cells: Any = [object(), object()]
    names = [kept.add(cells) for _ in range(3)]
    assert len(set(names)) == 3
    assert len(kept) == 4  # the first made room
    assert kept.cell(names[2], 1) is cells[1]
    with pytest.raises(Exception, match="dropped"):
        kept.cell(names[0], 0)
    monkeypatch.setattr(uploads, "SECONDS", 0.05)
    name = kept.add(cells)
    for _ in range(3000):
        time.sleep(0.02)
        if name not in kept._uploads:
            break
    assert name not in kept._uploads
    assert names[2] in kept._uploads
