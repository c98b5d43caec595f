"""Damaged files in a finished study and in its source: named, made again, or without any influence on the result."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.endurance.damages import damages
from benchmarks.endurance.outcome import BROKEN, FINISHED, Outcome, done
from benchmarks.endurance.studying import Ground, contents, differences, run_study


def damage(ground: Ground, trials: int, seed: int = 0) -> Outcome:
    """Damage so many files, one at a time, and run the study again.

    A file of the study has to be named in the message, or made again so that the result equals the undamaged one's. A
    source may have become another valid one (a bit of a pixel, a letter of a label): then its digest in the listing, or
    the listing itself, has to differ; everything else is the undamaged result.
    """
    outcome, rng = Outcome("damaged file, then the same run again"), np.random.default_rng(seed)
    images, table, study, log, expected = ground.images, ground.table, ground.study, ground.log, ground.expected
    ground.reset()
    names = sorted(expected)
    sources = sorted(path.name for path in images.iterdir())
    ways = damages(rng)
    for _ in range(trials):
        of_source = rng.random() < 0.2
        victim = images / str(rng.choice(sources)) if of_source else study / str(rng.choice(names))
        way = str(rng.choice(list(ways)))
        good, times = victim.read_bytes(), (victim.stat().st_atime_ns, victim.stat().st_mtime_ns)
        spoiled = ways[way](good)
        if spoiled == good:
            continue
        victim.write_bytes(spoiled)
        code, said = done(run_study, log, table, study, seconds=300)
        outcome.tried += 1
        where = f"{victim.relative_to(ground.folder)}, {way}"
        after = contents(study)
        if code not in {FINISHED, 2}:
            why = "traceback" if code == BROKEN else f"ended with {code}"
            outcome.faults.append(f"{where}: {why}: {said[-300:]}")
        elif code == 2:
            outcome.note("refused")
            if victim.name not in said:
                outcome.faults.append(f"{where}: refused without its name: {said[-300:]}")
        elif of_source:
            outcome.note("source noticed" if after["cells.parquet"] != expected["cells.parquet"] else "source equal")
            if after["cells.parquet"] == expected["cells.parquet"] and differences(expected, after):
                outcome.faults.append(f"{where}: the listing is the same, the result is not")
        elif (different := differences(expected, after)) and victim.name in said:
            outcome.note("named")
        elif different:
            outcome.faults.append(f"{where}: accepted without a word, {', '.join(different)} differ")
        else:
            outcome.note("made again, or without influence")
        if missing := [name for name in names if name not in after and code == FINISHED and not of_source]:
            outcome.faults.append(f"{where}: lost {', '.join(missing)}")
        victim.write_bytes(good)
        os.utime(victim, ns=times)
        ground.reset()
    return outcome
