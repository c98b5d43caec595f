"""Weights of Zenodo: gone on with and checked, or not downloaded."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cytosae.backbones import fetch, listed, load
from cytosae.backbones.zenodo import zenodo_path
from cytosae.errors import CytosaeError
from support.backbones import DEPTH, WIDTH, reference, zenodo
from support.model_hosts import Hub, Zenodo


@pytest.fixture
def zenodo_site(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: Callable[[dict[str, bytes]], Hub]
) -> Iterator[Zenodo]:
    """Zenodo with a small DinoBloom-B; the cache is empty."""
    body = zenodo(reference().state_dict(), tmp_path / "published").read_bytes()
    server = Zenodo({"DinoBloom-B.pth": body}, {"DinoBloom-B.pth": f"md5:{hashlib.md5(body).hexdigest()}"})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("cytosae.backbones.zenodo.SITE", server.site)
    monkeypatch.setattr("cytosae.backbones.loading.SHAPES", {"dinobloom-b": (WIDTH, DEPTH)})
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "os-cache" / project)
    yield server
    server.shutdown()
    server.server_close()


def test_zenodo_is_gone_on_with_and_checked(zenodo_site: Zenodo, tmp_path: Path) -> None:
    published = load(str(tmp_path / "published.pth")).info.fingerprint
    body = zenodo_site.files["DinoBloom-B.pth"]
    zenodo_site.breaks = 2
    for _ in range(2):
        with pytest.raises(
            CytosaeError, match=r"DinoBloom-B\.pth.*: could not be downloaded.*has arrived is kept.*by hand"
        ):
            fetch("dinobloom-b", source="zenodo")
    assert not zenodo_path("dinobloom-b").exists()
    found = fetch("dinobloom-b", source="zenodo")
    third = len(body) // 3
    first, *resumed = zenodo_site.ranges
    assert first is None
    starts = [int(str(asked).removeprefix("bytes=").removesuffix("-")) for asked in resumed]
    assert [start // 2**16 for start in starts] == [third // 2**16, (starts[0] + third) // 2**16]
    assert (found["fingerprint"], found["sha256"]) == (published, hashlib.sha256(body).hexdigest())
    assert [path.name for path in zenodo_path("dinobloom-b").parent.iterdir()] == ["DinoBloom-B.pth"]
    fetch("dinobloom-b", source="zenodo")
    assert len(zenodo_site.ranges) == 3  # it is there already
    backbone = load("dinobloom-b")  # and is found by its name, though no hub answers
    assert (backbone.info.fingerprint, backbone.info.source) == (published, "zenodo:10908163/DinoBloom-B.pth")
    (row,) = [row for row in listed() if row["name"] == "dinobloom-b"]
    assert row["cached"]
    target = tmp_path / "new" / "weights.pth"
    assert fetch("dinobloom-b", source="zenodo", output=target)["file"] == str(target)
    assert target.read_bytes() == body


def test_zenodo_gives_another_file_or_none(
    zenodo_site: Zenodo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zenodo_site.checksums["DinoBloom-B.pth"] = "md5:" + "0" * 32
    with pytest.raises(CytosaeError, match=r"another checksum than the published.*was removed"):
        fetch("dinobloom-b", source="zenodo")
    assert not list(zenodo_path("dinobloom-b").parent.iterdir())  # nothing half or wrong is left behind
    monkeypatch.setattr("cytosae.backbones.zenodo.SITE", "http://127.0.0.1:9")
    with pytest.raises(CytosaeError, match=r"did not list its files.*nothing was downloaded.*by hand"):
        fetch("dinobloom-b", source="zenodo")


@pytest.mark.parametrize(
    "record", [b"<html>busy</html>", b'{"files": {}}', b'{"files": []}', b'{"files": [{"key": 3}]}']
)
def test_a_record_without_a_checksum_downloads_nothing(record: bytes, zenodo_site: Zenodo) -> None:
    zenodo_site.record = record
    with pytest.raises(CytosaeError, match=r"http.*nothing was downloaded.*by hand"):
        fetch("dinobloom-b", source="zenodo")
    assert zenodo_site.ranges == []
    zenodo_site.record = None
    zenodo_site.checksums["DinoBloom-B.pth"] = "none"
    with pytest.raises(CytosaeError, match=r"no checksum for it that can be compared \(none\)"):
        fetch("dinobloom-b", source="zenodo")
    assert zenodo_site.ranges == []
