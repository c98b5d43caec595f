"""Paths that stand for URLs: written whole, noticed when changed, refused with credentials."""

from __future__ import annotations

import contextlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")
pytest.importorskip("s3fs", reason="needs s3fs, of the extra s3")

import fsspec

from cytosae.artefacts import make_folder, read_json, whole_file, write_json
from cytosae.cells import list_cells
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath, below, paths, ranges, resolve_path
from support.object_store import machine


def test_a_log_is_sent_with_the_next_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(resolve_path("memory://bucket/run"))
    fs = fsspec.filesystem("memory")
    with (folder / "metrics.jsonl").open("a") as log:
        log.write("1\n")
        log.flush()
        assert not fs.exists("/bucket/run/metrics.jsonl")
        write_json(folder / "config.json", {})
        assert fs.cat("/bucket/run/metrics.jsonl") == b"1\n"
    assert fs.ls("/bucket/run", detail=False) == ["/bucket/run/config.json", "/bucket/run/metrics.jsonl"]
    state = dict(fs.store)
    machine(tmp_path / "other", monkeypatch)
    fs.store.update(state)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write("2\n")
    write_json(folder / "config.json", {})
    assert fs.cat("/bucket/run/metrics.jsonl") == b"1\n2\n"


def test_what_fails_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    path, fs = resolve_path("memory://bucket/a.json"), fsspec.filesystem("memory")
    write_json(path, 1)
    with contextlib.suppress(ZeroDivisionError), whole_file(path) as partial:
        partial.write_text("half")
        _ = 1 / 0
    assert fs.cat("/bucket/a.json") == b"1\n"
    monkeypatch.setattr(type(fs), "put_file", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("gone")))
    with pytest.raises(
        CytosaeError, match=r"memory://bucket/a\.json: cannot be written, 4 tries failed.*gone.*run the same"
    ):
        write_json(path, 2)
    assert read_json(path) == 1
    assert [one.name for one in resolve_path("memory://bucket").iterdir()] == ["a.json"]


def test_what_was_changed_or_removed_elsewhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fs = resolve_path("memory://bucket/a.json"), fsspec.filesystem("memory")
    write_json(path, "ours")
    for content, expected in ((b'"theirs"', "theirs"), (b'"other!"', "other!")):
        state = dict(fs.store)
        machine(tmp_path / "cache", monkeypatch)  # a later process on the same machine
        fs.store.update(state)
        assert read_json(path) != expected
        paths._settled.clear()
        fs.pipe("/bucket/a.json", content)
        assert read_json(path) == expected
    machine(tmp_path / "cache", monkeypatch)
    assert not path.is_file()
    assert not Path(str(path)).exists()


def test_one_range_that_comes_short_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe({"/b/one": bytes(range(100)), "/b/two": bytes(range(100, 200))})
    asked: list[list[int]] = []
    plain = type(fs).cat_ranges

    def short(self: Any, names: list[str], starts: list[int], stops: list[int]) -> list[bytes]:
        asked.append(starts)
        answers = plain(self, names, starts, stops)
        return [answers[0], answers[1][:3]] if len(asked) == 1 else answers

    monkeypatch.setattr(type(fs), "cat_ranges", short)
    assert ranges([("memory://b/one", 3, 9), ("memory://b/two", 10, 20)]) == [
        bytes(range(3, 9)),
        bytes(range(110, 120)),
    ]
    assert asked == [[3, 10], [10]]


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("images", "/data/a b", "synthetic:patients=1", "a::b", "s3:/x", "://x"):
        assert resolve_path(name) == Path(name)
        assert not isinstance(resolve_path(name), StoredPath)
    assert resolve_path("file:///data/x") == Path("/data/x")
    study = resolve_path("s3://bucket/my study/")
    assert isinstance(study, StoredPath)
    assert study.url == f"{study}" == "s3://bucket/my study"
    assert (study / "sae").url == "s3://bucket/my study/sae"
    assert f"{(study / 'sae').relative_to(study)}" == "sae"
    sent = pickle.dumps(study / "sae")
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "another machine's"))
    assert pickle.loads(sent).url == "s3://bucket/my study/sae"
    study = resolve_path("s3://bucket/my study")
    assert below(study, "images/a.png") == "s3://bucket/my study/images/a.png"
    assert below(study, "/data/a.png") == "/data/a.png"
    assert below(study, "gs://other/a.png") == below(Path("/x"), "gs://other/a.png") == "gs://other/a.png"
    assert below(Path("/x"), "../y/a.png") == "/y/a.png"
    for name in ("s3://", "s3://bucket/../other"):
        with pytest.raises(CytosaeError, match="not the address"):
            resolve_path(name)


@pytest.mark.parametrize(
    "name", ["s3://AKIA:sekret@bucket/study", "https://host/cells.csv?X-Amz-Signature=sekret", "s3://b/x?token=sekret"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(name: str, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="credentials") as caught:
        resolve_path(name)
    assert "sekret" not in str(caught.value)
    (tmp_path / "cells.csv").write_text(f"path\n{name}\n")
    with pytest.raises(CytosaeError, match="credentials") as caught:
        list_cells(tmp_path / "cells.csv")
    assert "sekret" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    registered = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
    monkeypatch.delitem(registered, "s3", raising=False)
    with pytest.raises(CytosaeError, match=r"pip install 'cytosae\[s3\]'"):
        resolve_path("s3://bucket/study").is_dir()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(CytosaeError, match="pip install gcsfs"):
        resolve_path("gs://bucket/study").is_dir()
    with pytest.raises(CytosaeError, match="nonsense:// is not known"):
        resolve_path("nonsense://bucket/study").is_dir()
