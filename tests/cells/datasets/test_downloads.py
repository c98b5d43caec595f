"""Downloads: gone on with, checked, and never without a word."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cytosae.artefacts import PARTIAL
from cytosae.cells.datasets import DATASETS, RemoteFile
from cytosae.cli.commands import app
from support.published import RNG, ask, bccd, images_by_code, mll23, refused, zipped


class Server(ThreadingHTTPServer):
    """Serves `content` by path, and notes what was asked; can break off, and can go on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.break_after: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        data = self.server.content.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(data) and wanted:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if self.server.break_after is None else self.server.break_after
        self.wfile.write(data[start:end])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield one
        one.shutdown()


def served(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], **changes))


def remote(server: Server, name: str, data: bytes, checksum: str | None = "") -> RemoteFile:
    server.content[f"/{name}"] = data
    if checksum == "":
        checksum = "md5:" + hashlib.md5(data).hexdigest()
    return RemoteFile(name, f"{server.address}/{name}", checksum)


def test_fetch_then_prepare(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(bccd(tmp_path / "in"), tmp_path / "x.zip").read_bytes()
    served(monkeypatch, "bccd", files=(remote(server, "BCCD_Dataset-1.0.zip", data),))
    got = ask("fetch", "bccd", "-o", tmp_path / "got")
    assert got["files"] == [str(tmp_path / "got" / "BCCD_Dataset-1.0.zip")]
    assert (tmp_path / "got" / "BCCD_Dataset-1.0.zip").read_bytes() == data
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["BCCD_Dataset-1.0.zip"]
    ask("fetch", "bccd", "-o", tmp_path / "got")
    assert len(server.asked) == 1  # it is there, with the checksum
    (tmp_path / "got" / "BCCD_Dataset-1.0.zip").write_bytes(b"of somebody else, or damaged")
    assert "has another checksum" in refused("fetch", "bccd", "-o", tmp_path / "got")
    (tmp_path / "got" / "BCCD_Dataset-1.0.zip").unlink()
    ask("fetch", "bccd", "-o", tmp_path / "got")
    assert (tmp_path / "got" / "BCCD_Dataset-1.0.zip").read_bytes() == data
    for folder in ("got", "out"):  # also beside the archive
        assert ask("prepare", "bccd", tmp_path / "got", "-o", tmp_path / folder)["cells"] == 6
    result = CliRunner().invoke(app, ["datasets", "fetch", "bccd", "-o", str(tmp_path / "got")])
    assert "cytosae datasets prepare bccd" in result.output


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = RNG.bytes(3_000_000)
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", data),))
    server.break_after = 2_000_000
    message = refused("fetch", "bccd", "-o", tmp_path)
    assert "could not be downloaded" in message
    assert "What has arrived is kept" in message
    assert not (tmp_path / "a.zip").exists()
    there = (tmp_path / f".a.zip{PARTIAL}").stat().st_size
    assert there >= 1 << 20
    server.break_after = None
    ask("fetch", "bccd", "-o", tmp_path)
    assert server.asked[-1] == ("/a.zip", f"bytes={there}-")
    assert (tmp_path / "a.zip").read_bytes() == data
    # A part that is whole already, and one of something longer.
    for part in (data, data + b"more"):
        (tmp_path / "a.zip").unlink()
        (tmp_path / f".a.zip{PARTIAL}").write_bytes(part)
        ask("fetch", "bccd", "-o", tmp_path)
        assert (tmp_path / "a.zip").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_without_a_checksum_nothing_is_spliced(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", b"new content", None),))
    (tmp_path / f".a.zip{PARTIAL}").write_bytes(b"old")
    result = CliRunner().invoke(app, ["datasets", "fetch", "bccd", "-o", str(tmp_path)])
    assert (tmp_path / "a.zip").read_bytes() == b"new content"
    assert server.asked == [("/a.zip", None)]
    assert "no checksum is published for a.zip" in result.output


def test_another_checksum_is_an_error(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", b"abc", "md5:" + "0" * 32),))
    message = refused("fetch", "bccd", "-o", tmp_path)
    assert "a.zip: what was downloaded has another checksum than the published md5:000" in message
    assert not list(tmp_path.iterdir())
    served(monkeypatch, "bccd", files=(RemoteFile("b.zip", f"{server.address}/nothing", "md5:0"),))
    assert "404" in refused("fetch", "bccd", "-o", tmp_path)


def test_a_zenodo_record_says_its_files_and_checksums(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = {name: zipped(mll23(tmp_path / "in") / name, tmp_path / f"{name}.zip", tmp_path / "in").read_bytes()
                for name in ("basophil", "myeloblast")}  # fmt: skip
    files = []
    for name, data in archives.items():
        path = f"/api/records/1/files/{name}.zip/content"
        server.content[path] = data
        checksum = f"md5:{hashlib.md5(data).hexdigest()}"
        links = {"self": server.address + path}
        files.append({"key": f"{name}.zip", "size": len(data), "checksum": checksum, "links": links})
    server.content["/api/records/1"] = json.dumps({"id": 1, "files": files}).encode()
    served(monkeypatch, "mll23", record=f"{server.address}/api/records/1")
    got = ask("fetch", "mll23", "-o", tmp_path / "got", "--only", "baso*")
    assert [Path(path).name for path in got["files"]] == ["basophil.zip"]
    ask("fetch", "mll23", "-o", tmp_path / "got")
    assert images_by_code(ask("prepare", "mll23", tmp_path / "got", "-o", tmp_path / "out")) == {
        "basophil": 2,
        "myeloblast": 2,
    }
    assert "no file is named 'x*'. There are: basophil.zip, myeloblast.zip" in refused(
        "fetch", "mll23", "-o", tmp_path, "--only", "x*"
    )
    for name in ("../evil", ".bashrc"):
        files[0]["key"] = name
        server.content["/api/records/1"] = json.dumps({"files": files}).encode()
        assert "refused as the name of a file" in refused("fetch", "mll23", "-o", tmp_path / "got")
    server.content["/api/records/1"] = b"<html>"
    assert "did not list its files" in refused("fetch", "mll23", "-o", tmp_path / "got")


def test_offline_nothing_is_downloaded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, "bccd", files=(remote(server, "a.zip", b"abc"),))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused("fetch", "bccd", "-o", tmp_path / "got")
    assert "nothing is downloaded while HF_HUB_OFFLINE is set" in message
    assert "Download ZIP" in message
    assert not server.asked
    assert not (tmp_path / "got").exists()


def test_without_an_address_it_says_what_to_do_with_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cytosae", "datasets", "fetch", "hehr", "-o", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "https://www.cancerimagingarchive.net/collection/aml-cytomorphology_mll_helmholtz/" in done.stderr
    assert "cytosae datasets prepare hehr" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()
