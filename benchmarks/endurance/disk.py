"""A disk that runs full, and folders without permission, at every stage."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.endurance.outcome import FINISHED, REFUSED, Outcome, done
from benchmarks.endurance.studying import Ground, contents, differences, run_study
from cytosae.artefacts import PARTIAL

NOBODY = 65534
_BLOCK = 4096
"""Bytes by which the size of a file on a disk is rounded up."""


def disk_full(ground: Ground, trials: int, seed: int = 0) -> Outcome:
    """No room at some stage, then enough: a limit of every file's size, and a disk of its own that is full."""
    outcome, rng = Outcome("no room at some stage (EFBIG, ENOSPC)"), np.random.default_rng(seed)
    table, study, log, expected = ground.table, ground.study, ground.log, ground.expected
    ground.reset()
    sizes = sorted(path.stat().st_size for path in study.rglob("*") if path.is_file())
    for limit in rng.permutation(sizes)[:trials].tolist():
        shutil.rmtree(study, ignore_errors=True)
        outcome.tried += 1
        code, said = done(run_study, log, table, study, {"bytes": max(limit - 1, 256)})
        where = f"at most {limit} bytes a file"
        if _stopped_well(outcome, where, "file", code, said, study):
            code, said = done(run_study, log, table, study)
            _finished_well(outcome, where, code, said, expected, study)
    shutil.rmtree(study)
    study.mkdir()
    total = sum(sizes) + _BLOCK * len(sizes)
    for size in (rng.uniform(0.02, 1, max(1, trials // 4)) * total).astype(int).tolist():
        if not _mounted(study, size):
            outcome.note("a full disk not tried: needs the right to mount one")
            break
        outcome.tried += 1
        where = f"on a disk of {size} bytes"
        try:
            code, said = done(run_study, log, table, study)
            if _stopped_well(outcome, where, "disk", code, said, study):
                subprocess.run(["mount", "-o", f"remount,size={4 * total}", study], check=True)
                code, said = done(run_study, log, table, study)
                _finished_well(outcome, where, code, said, expected, study)
        finally:
            subprocess.run(["umount", study], check=True)
    return outcome


def _mounted(folder: Path, size: int) -> bool:
    """Whether a disk of so many bytes, in memory, could be put into a folder."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "cytosae", str(folder)]
    if os.geteuid() or shutil.which("mount") is None:
        return False
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _stopped_well(outcome: Outcome, where: str, what: str, code: int, said: str, study: Path) -> bool:
    """Whether a study without room ended with a message; nothing may be left half-written."""
    if code not in {FINISHED, REFUSED}:
        outcome.faults.append(f"{where}: ended with {code}: {said[-300:]}")
        return False
    outcome.note(f"{what}: refused" if code == REFUSED else f"{what}: had room")
    if partial := [path.name for path in study.rglob(f"*{PARTIAL}")]:
        outcome.faults.append(f"{where}: left {', '.join(partial)}")
    return True


def _finished_well(outcome: Outcome, where: str, code: int, said: str, expected: dict[str, str], study: Path) -> None:
    """With enough room the result has to be the undisturbed one."""
    if code != FINISHED or differences(expected, contents(study)):
        outcome.faults.append(f"{where}, then with room: {said[-300:] or 'differs'}")


def permissions(ground: Ground, trials: int, seed: int = 0) -> Outcome:
    """A stage has to be made again in a folder where nothing may be written; only root can try it for another user."""
    outcome = Outcome("no permission to write at some stage")
    if os.geteuid():
        outcome.note("not tried: needs root, to become a user without rights")
        return outcome
    table, study, log, before = ground.table, ground.study, ground.log, ground.expected
    ground.reset()
    for stage in ("", "tokens", "sae", "concepts", "cohort", "report")[:trials]:
        manifest = study / stage / ("manifest.json" if stage else "cells.parquet")
        kept = ground.folder / "kept"
        shutil.move(manifest, kept)
        code, said = done(run_study, log, table, study, {"user": NOBODY})
        shutil.move(kept, manifest)
        outcome.tried += 1
        outcome.note({FINISHED: "finished", REFUSED: "refused"}.get(code, "broken"))
        if code != REFUSED:
            outcome.faults.append(f"{stage or 'cells'}: ended with {code}: {said[-300:]}")
        if different := differences(before, contents(study)):
            outcome.faults.append(f"{stage or 'cells'}: changed {', '.join(different)}")
    return outcome
