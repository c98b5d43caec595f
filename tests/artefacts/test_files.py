"""Temporary files of processes that were killed: those of this machine are removed, nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cytosae.artefacts import LEDGER, claim, disk_errors, files, remove_left_behind, whole_file
from cytosae.errors import CytosaeError

KILLED = """
import os, signal, sys
from pathlib import Path
from cytosae.artefacts import whole_file
with whole_file(Path(sys.argv[1]), shared=True) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_behind(path: Path) -> Path:
    """The temporary file of a process that was killed while it wrote `path`."""
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    (temporary,) = path.parent.glob(f".{path.name}.*")
    return temporary


def test_only_what_ended_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = left_behind(tmp_path / "a.json")
    foreign = [
        tmp_path / name for name in (".a.json.cytosae-partial", ".note.partial", ".a.0123456789abcdef", "a.json")
    ]
    for path in foreign:
        path.write_bytes(b"mine")
    with whole_file(tmp_path / "b.json", shared=True) as living:
        living.write_bytes(b"half")
        with monkeypatch.context() as patch:
            patch.setattr(files, "_HOST", "0" * 8)  # on another machine nobody can tell
            remove_left_behind(tmp_path)
        assert temporary.is_file()
        remove_left_behind(tmp_path)
        assert not temporary.exists()
        assert living.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"b.json", *(path.name for path in foreign)}
    remove_left_behind(tmp_path / "none")


def test_a_stage_that_claims_its_files_removes_them(tmp_path: Path) -> None:
    temporary = left_behind(tmp_path / LEDGER)
    claim(tmp_path, "concepts", ["a.h5ad"])
    assert not temporary.exists()


def test_a_full_disk_while_a_folder_is_copied(tmp_path: Path) -> None:
    failed = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")])
    with pytest.raises(CytosaeError, match="disk is full"), disk_errors(tmp_path):
        raise failed
