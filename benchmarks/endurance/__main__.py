"""``python -m benchmarks.endurance [NAME ...] [--full|--short]``: run the campaign, print its table, write it as JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.endurance.damage import damage
from benchmarks.endurance.disk import disk_full, permissions
from benchmarks.endurance.hostile import hostile_checkpoints
from benchmarks.endurance.inputs import inputs
from benchmarks.endurance.judgements import judgements
from benchmarks.endurance.kills import kills
from benchmarks.endurance.outcome import Outcome
from benchmarks.endurance.studying import Ground

PARTS: dict[str, tuple[Callable[[Ground, int], Outcome], int, int]] = {
    "kills": (kills, 1, 100),
    "damage": (damage, 2, 150),
    "inputs": (inputs, 40, 1000),
    "hostile": (hostile_checkpoints, 11, 44),
    "judgements": (judgements, 60, 10_000),
    "disk": (disk_full, 1, 40),
    "permissions": (permissions, 1, 6),
}
"""Each part, and how often it tries in short and in full."""


def main() -> None:
    """Command line; exits with 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"parts, all if none is named: {', '.join(PARTS)}")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--full", action="store_true", help="as often as docs/explanation/reliability.md says (the default)"
    )
    length.add_argument("--short", action="store_true", help="a few of each, in seconds")
    parser.add_argument("--output", type=Path, default=Path("endurance.json"), help="where the JSON goes")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    folder, results = Path(tempfile.mkdtemp(prefix="cytosae-endurance-")), {}
    try:
        ground = Ground(folder)
        for name in given.names or PARTS:
            part, short, full = PARTS[name]
            began = time.monotonic()
            outcome = part(ground, short if given.short else full)
            results[name] = {**asdict(outcome), "seconds": round(time.monotonic() - began, 1)}
            counts = ", ".join(f"{count} {thing}" for thing, count in outcome.counts.items())
            print(f"| {outcome.what} | {outcome.tried:,} | {counts} | {len(outcome.faults)} faults |", flush=True)
            for fault in outcome.faults:
                print(f"    {fault}", flush=True)
            given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(any(result["faults"] for result in results.values()))


if __name__ == "__main__":
    main()
