"""SIGKILL at random points of a whole study, which is finished afterwards: equal byte for byte to an undisturbed one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.endurance.outcome import FINISHED, Outcome, begun, done
from benchmarks.endurance.studying import contents, differences, make_source, run_study

STAGES = "report", "cohort", "concepts", "sae", "tokens", "cells.parquet"
"""What a study that has come so far has, the last first."""
KILLS = 5
"""Times that a study is killed before it may finish."""


def kills(folder: Path, points: int, seed: int = 0) -> Outcome:
    """Kill studies at so many points."""
    outcome, rng = Outcome("SIGKILL at a random point of a study with patients"), np.random.default_rng(seed)
    table, study, log = make_source(folder / "images"), folder / "study", folder / "log"
    seconds, expected = 0.0, {}
    for _ in range(2):  # in the first, what forks the processes is still being started
        shutil.rmtree(study, ignore_errors=True)
        began, before = time.monotonic(), expected
        code, said = done(run_study, log, table, study)
        seconds, expected = time.monotonic() - began, contents(study)
        if code != FINISHED:
            outcome.faults.append(f"the undisturbed study ended with {code}: {said}")
            return outcome
    if different := differences(before, expected):
        outcome.faults.append(f"in two undisturbed studies these differ: {', '.join(different)}")
    while outcome.tried < points:
        shutil.rmtree(study, ignore_errors=True)
        for _ in range(min(KILLS, points - outcome.tried)):
            process = begun(run_study, log, table, study)
            process.join(rng.uniform(0, 1) * seconds)
            finished = process.exitcode is not None
            process.kill()
            process.join()
            if finished:
                outcome.note("finished before it was killed, not counted")
                break
            outcome.tried += 1
            stage = next((name for name in STAGES if (study / name).exists()), "start")
            outcome.note(f"killed in {stage}")
        code, said = done(run_study, log, table, study)
        if code != FINISHED:
            outcome.faults.append(f"after kills the study ended with {code}: {said}")
        elif different := differences(expected, contents(study)):
            outcome.faults.append(f"after kills these differ: {', '.join(different)}")
        else:
            outcome.note("studies equal byte for byte")
    return outcome
