"""A disk that runs full, and folders without permission, at every stage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from benchmarks.endurance.outcome import FINISHED, REFUSED, Outcome, done
from benchmarks.endurance.studying import contents, differences, make_source, run_study

NOBODY = 65534


def disk_full(folder: Path, trials: int, seed: int = 0) -> Outcome:
    """No file may be larger than so many bytes, from nearly nothing to the largest; then the limit is gone."""
    outcome, rng = Outcome("no room for a file (EFBIG) at some stage"), np.random.default_rng(seed)
    table, study, log = make_source(folder / "images"), folder / "study", folder / "log"
    code, said = done(run_study, log, table, study)
    if code != FINISHED:
        outcome.faults.append(f"the undisturbed study ended with {code}: {said}")
        return outcome
    expected = contents(study)
    sizes = sorted(path.stat().st_size for path in study.rglob("*") if path.is_file())
    for limit in rng.permutation(sizes)[:trials].tolist():
        shutil.rmtree(study, ignore_errors=True)
        outcome.tried += 1
        code, said = done(run_study, log, table, study, {"bytes": max(limit - 1, 256)})
        if code not in {FINISHED, REFUSED}:
            outcome.faults.append(f"at most {limit} bytes a file: ended with {code}: {said[-300:]}")
            continue
        outcome.note("refused" if code == REFUSED else "had room")
        if partial := [path.name for path in study.rglob("*.partial")]:
            outcome.faults.append(f"at most {limit} bytes a file: left {', '.join(partial)}")
        code, said = done(run_study, log, table, study)
        if code != FINISHED or differences(expected, contents(study)):
            outcome.faults.append(f"at most {limit} bytes a file, then without limit: {said[-300:] or 'differs'}")
    return outcome


def permissions(folder: Path, trials: int, seed: int = 0) -> Outcome:
    """A stage has to be made again in a folder where nothing may be written; only root can try it for another user."""
    outcome = Outcome("no permission to write at some stage")
    if os.geteuid():
        outcome.note("not tried: needs root, to become a user without rights")
        return outcome
    folder.chmod(0o755)
    table, study, log = make_source(folder / "images"), folder / "study", folder / "log"
    code, said = done(run_study, log, table, study)
    if code != FINISHED:
        outcome.faults.append(f"the undisturbed study ended with {code}: {said}")
        return outcome
    before = contents(study)
    for stage in ("", "tokens", "sae", "concepts", "cohort", "report")[:trials]:
        manifest = study / stage / ("manifest.json" if stage else "cells.parquet")
        kept = folder / "kept"
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
