"""SIGKILL at random points of a whole study, which is finished afterwards: equal byte for byte to an undisturbed one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.endurance.outcome import FINISHED, Outcome, begun, done
from benchmarks.endurance.studying import contents, differences, make_images, run_study

KILLS = 5
"""Times that a study is killed before it may finish."""


def kills(folder: Path, points: int, seed: int = 0) -> Outcome:
    """Kill studies at so many points."""
    outcome, rng = Outcome("SIGKILL at a random point of a study with patients"), np.random.default_rng(seed)
    table, study, log = make_images(folder / "images"), folder / "study", folder / "log"
    began = time.monotonic()
    code, said = done(run_study, log, table, study)
    seconds = time.monotonic() - began
    if code != FINISHED:
        outcome.faults.append(f"the undisturbed study ended with {code}: {said}")
        return outcome
    expected = contents(study)
    left = points
    while left:
        shutil.rmtree(study, ignore_errors=True)
        for _ in range(min(KILLS, left)):
            process = begun(run_study, log, table, study)
            process.join(rng.uniform(0, 1.1) * seconds)
            outcome.note("killed" if process.exitcode is None else "finished before it was killed")
            process.kill()
            process.join()
            outcome.tried += 1
            left -= 1
        code, said = done(run_study, log, table, study)
        if code != FINISHED:
            outcome.faults.append(f"after kills the study ended with {code}: {said}")
        elif different := differences(expected, contents(study)):
            outcome.faults.append(f"after kills these differ: {', '.join(different)}")
        else:
            outcome.note("studies equal byte for byte")
    return outcome
