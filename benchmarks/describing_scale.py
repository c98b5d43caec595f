"""Describing all concepts of a study of full size: time and memory.

``python -m benchmarks.describing_scale --folder DIR --fraction 0.1`` simulates a tenth of 171,373 cells and of 49,152
latents (see `benchmarks.explorer`; the whole takes 5 GB), adds simulated measurements and maps of places, and describes
every concept in a process of its own. It prints seconds and the peak of memory. The bar: ten minutes and 6 GiB for the whole
(``--fraction 1``).
Time grows with the concepts, and with the cells up to the 4,000 that are compared; the maps of places of the rest are
only read.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.explorer import CELLS, simulate
from cytosae.artefacts import FileRecord, Manifest, make_folder
from cytosae.cells import read_cells
from cytosae.concepts import describe_concepts
from cytosae.morphometry import LOOKS, MEASURED, PLACES
from cytosae.morphometry.places import EDGE, LOOK_EDGE
from cytosae.morphometry.stage import PLACE_TABLE, TABLE
from cytosae.segmentation.registry import FLAGS, MEASUREMENTS, SEGMENTED

LATENTS = 49_152
_ROWS = 4096


def simulate_measurements(study: Path, seed: int = 0) -> None:
    """Measurements that say nothing, and a round cell with its nucleus in the middle of every map of places."""
    rng = np.random.default_rng(seed)
    names = read_cells(study / "cells.parquet")["cell_id"].astype(str).tolist()
    folder = study / MEASURED
    make_folder(folder)
    values = {m.name: rng.normal(size=len(names)).astype(np.float32) for m in MEASUREMENTS}
    table = pd.DataFrame({"cell_id": names, **values, SEGMENTED: "colour", FLAGS: ""})
    table.to_parquet(folder / TABLE, index=False)
    radius = np.hypot(*np.mgrid[-1 : 1 : EDGE * 1j, -1 : 1 : EDGE * 1j])
    place = np.zeros((EDGE, EDGE), np.uint8)
    place[radius < 0.6], place[radius < 0.35] = PLACES.index("cytoplasm"), PLACES.index("nucleus")
    with pq.ParquetWriter(
        folder / PLACE_TABLE, pa.schema([("cell_id", pa.string()), ("places", pa.binary()), ("looks", pa.binary())])
    ) as file:
        for start in range(0, len(names), _ROWS):
            some = names[start : start + _ROWS]
            looks = rng.integers(0, 255, (len(some), len(LOOKS), LOOK_EDGE, LOOK_EDGE), dtype=np.uint8)
            columns = [some, [place.tobytes()] * len(some), [one.tobytes() for one in looks]]
            file.write_table(pa.table(dict(zip(("cell_id", "places", "looks"), columns, strict=True))))
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, PLACE_TABLE)}
    concepts = Manifest.load(study / "concepts")
    assert concepts is not None
    files = [path for path in (study / "concepts").iterdir() if path.suffix in {".h5ad", ".safetensors"}]
    records = {path.name: FileRecord.from_file(path) for path in files}
    replace(concepts, outputs=records).save(study / "concepts")
    Manifest(MEASURED, {}, {"cells": "simulated"}, outputs, {"cells": len(names)}).save(folder)


def measured(study: Path) -> None:
    """In a process of its own: describe, and print seconds and memory."""
    began = time.perf_counter()
    figures = describe_concepts(study)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": round(seconds, 1), "peak_gib": round(peak, 2), "datasets": figures}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--fraction", type=float, default=0.1, help="of the cells and of the latents")
    parser.add_argument("--measured", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    study = given.folder / f"described-{given.fraction:g}"
    if given.measured:
        measured(study)
        return
    if not (study / MEASURED / "manifest.json").is_file():
        simulate(study, round(CELLS * given.fraction), round(LATENTS * given.fraction))
        simulate_measurements(study)
    command = [sys.executable, "-m", "benchmarks.describing_scale", "--folder", f"{given.folder}"]
    done = subprocess.run(
        [*command, "--fraction", f"{given.fraction:g}", "--measured"], check=True, capture_output=True
    )
    print(f"fraction {given.fraction:g}:", done.stdout.decode().strip().splitlines()[-1])


if __name__ == "__main__":
    main()
