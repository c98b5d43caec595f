"""Archives: unpacked whole, and never outside of their folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.published import acevedo, ask, mll23, refused, zipped


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    acevedo(tmp_path / "in")
    inner = zipped(tmp_path / "in", tmp_path / "outer" / "PBC_dataset_normal_DIB.zip")
    archive = zipped(inner.parent, tmp_path / "got" / "download.zip")
    for source, output in ((archive, tmp_path / "out"), (archive.parent, archive.parent)):
        for _ in range(2):
            summary = ask("prepare", "acevedo", source, "-o", output)
            assert summary["cells"] == 14
            assert [one["name"] for one in summary["archives"]] == ["download.zip"]
            assert summary["left_out"] == {}
            assert summary["notes"] == []
            assert sorted(path.name for path in (output / "unpacked").iterdir()) == [
                "PBC_dataset_normal_DIB",
                "download",
            ]


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_tar_archives(tmp_path: Path, ending: str) -> None:
    folder = mll23(tmp_path / "in")
    archive = tmp_path / f"mll23.{ending}"
    with tarfile.open(archive, "w:" + {"tar": "", "tar.gz": "gz", "tgz": "gz", "tar.xz": "xz"}[ending]) as opened:
        opened.add(folder, "MLL23")
    assert ask("prepare", "mll23", archive, "-o", tmp_path / "out")["cells"] == 8
    assert (tmp_path / "out" / "unpacked" / "mll23" / "MLL23" / "basophil").is_dir()
    if ending == "tar.gz":
        archive.write_bytes(archive.read_bytes()[:-200])
        assert "cannot be unpacked" in refused("prepare", "mll23", archive, "-o", tmp_path / "cut")
        assert not list((tmp_path / "cut" / "unpacked").iterdir())


@pytest.mark.parametrize(
    "name", ["../evil.TIF", "{}/evil.TIF", "basophil/../../evil.TIF", "..\\evil.TIF", "C:/evil.TIF"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_outside_of_the_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    name = name.format(tmp_path)
    archive = tmp_path / "in" / f"x.{kind}"
    archive.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("basophil/basophil_0001.TIF", b"x")
            opened.writestr(name, b"x")
    else:
        with tarfile.open(archive, "w") as opened:
            for one in ("basophil/basophil_0001.TIF", name):
                info = tarfile.TarInfo(one)
                info.size = 1
                opened.addfile(info, io.BytesIO(b"x"))
    before = set(tmp_path.rglob("*"))
    assert "lies outside" in refused("prepare", "mll23", archive, "-o", tmp_path / "in" / "out")
    new = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before}
    assert new == {"in/out", "in/out/unpacked"}


def test_a_member_whose_name_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    tar = tmp_path / "t.tar"
    with tarfile.open(tar, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.GNU_FORMAT) as opened:
        info = tarfile.TarInfo("basophil/BA_\udcff.png")
        info.size = 1
        opened.addfile(info, io.BytesIO(b"x"))
    said = refused("prepare", "acevedo", tar, "-o", tmp_path / "out")
    assert r"BA_\\xff.png' is not UTF-8" in said
    said.encode()
    assert not list((tmp_path / "out" / "unpacked").iterdir())


def test_links_are_refused(tmp_path: Path) -> None:
    tar = tmp_path / "x.tar"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tar, "w") as opened:
            info = tarfile.TarInfo("basophil")
            info.type, info.linkname = kind, "/etc"
            opened.addfile(info)
        assert "is a link" in (said := refused("prepare", "mll23", tar, "-o", tmp_path / "out")) or "no plain" in said
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        member = zipfile.ZipInfo("basophil")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        opened.writestr(member, "/etc")
    assert "'basophil' is a link" in refused("prepare", "mll23", tmp_path / "x.zip", "-o", tmp_path / "out")
    assert not list((tmp_path / "out" / "unpacked").iterdir())
