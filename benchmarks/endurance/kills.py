"""SIGKILL at random points of a whole study, which is finished afterwards: equal byte for byte to an undisturbed one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.endurance.outcome import FINISHED, PATIENCE, Outcome, begun, done
from benchmarks.endurance.studying import Ground, contents, differences, run_study

KILLS = 5
"""Times that a study is killed before it may finish."""
BEGUN = {"start": "", "embed": "tokens", "train": "sae", "encode": "concepts", "barcodes": "cohort", "report": "report"}
"""Stages, and the folder whose appearance tells that one has begun."""


def kills(ground: Ground, points: int, seed: int = 0) -> Outcome:
    """Kill studies at so many points."""
    outcome, rng = Outcome("SIGKILL at a random point of a study with patients"), np.random.default_rng(seed)
    table, study, log = ground.table, ground.study, ground.log
    shutil.rmtree(study, ignore_errors=True)
    lasting, code, said = _timed(log, table, study)
    if code != FINISHED:
        outcome.faults.append(f"the undisturbed study ended with {code}: {said}")
        return outcome
    if different := differences(ground.expected, contents(study)):
        outcome.faults.append(f"in two undisturbed studies these differ: {', '.join(different)}")
    while outcome.tried < points:
        shutil.rmtree(study, ignore_errors=True)
        for stage in sorted(rng.choice(list(BEGUN), min(KILLS, points - outcome.tried)), key=list(BEGUN).index):
            process = begun(run_study, log, table, study)
            while process.exitcode is None and not (study / BEGUN[stage]).exists():
                process.join(0.002)
            process.join(rng.uniform(0, lasting[stage]))
            finished = process.exitcode is not None
            process.kill()
            process.join()
            if finished:
                outcome.note("finished before it was killed, not counted")
                break
            outcome.tried += 1
            came = next((name for name, folder in reversed(BEGUN.items()) if (study / folder).exists()), "start")
            outcome.note(f"killed in {came}")
        code, said = done(run_study, log, table, study)
        if code != FINISHED:
            outcome.faults.append(f"after kills the study ended with {code}: {said}")
        elif different := differences(ground.expected, contents(study)):
            outcome.faults.append(f"after kills these differ: {', '.join(different)}")
        else:
            outcome.note("studies equal byte for byte")
    return outcome


def _timed(log: Path, table: Path, study: Path) -> tuple[dict[str, float], int, str]:
    """Run a study; seconds of its stages, its exit code and what it said."""
    process, times = begun(run_study, log, table, study), {"start": time.monotonic()}
    while process.exitcode is None:
        process.join(0.01)
        if time.monotonic() - times["start"] > PATIENCE:
            process.kill()
        times |= {name: time.monotonic() for name, at in BEGUN.items() if name not in times and (study / at).exists()}
    ends = [*list(times.values())[1:], time.monotonic()]
    seconds = {name: end - begin for (name, begin), end in zip(times.items(), ends, strict=True)}
    return {name: seconds.get(name, 0.0) for name in BEGUN}, process.exitcode, log.read_text(errors="replace")[-2000:]
