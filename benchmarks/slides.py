"""Memory and time of a large slide, and time of one field.

``python -m benchmarks.slides``: draws a field of 2,000 pixels, repeats it as a tiled TIFF of 20,000 pixels (``--edge``), and
finds its cells in a process whose largest memory is read afterwards; the same for a tenth of the area. Memory that does not
grow with the slide gives about the same figure twice. ``--field`` times a field of 640 x 480 pixels instead, on one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cytosae.segmentation import find_field_cells, measure_scale
from cytosae.synthetic import DIAGNOSES, FieldSpec, render_field

PATCH, TILE = 2000, 250
"""Edges in pixels of the drawn field, which is repeated, and of the file's tiles."""
_FIND = """
import json, resource, sys, time
from pathlib import Path
from cytosae.fields import find_cells_of_fields
start = time.perf_counter()
found = find_cells_of_fields(Path(sys.argv[1]), Path(sys.argv[2]))
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cells": found["cells"], "seconds": time.perf_counter() - start, "MiB": most}))
"""


def write_slide(path: Path, edge: int) -> None:
    """A TIFF of that edge, written tile by tile."""
    field = render_field(FieldSpec(width=PATCH, height=PATCH, cells=4), 1)
    per = PATCH // TILE
    number = -(-edge // TILE)
    tiles = (
        field.pixels[(k // number) % per * TILE :, (k % number) % per * TILE :][:TILE, :TILE]
        for k in range(number * number)
    )
    padded = (np.pad(tile, ((0, 256 - TILE), (0, 256 - TILE), (0, 0)), mode="edge") for tile in tiles)
    tifffile.imwrite(
        path,
        padded,
        shape=(number * 256, number * 256, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=(256, 256),
        compression="jpeg",
        resolution=(1e4 / field.mpp, 1e4 / field.mpp),
        resolutionunit="CENTIMETER",
    )


def slide(edge: int) -> dict[str, float]:
    """Largest memory and time of a slide of that edge."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide" / "slide.tif"
        path.parent.mkdir()
        write_slide(path, edge)
        done = subprocess.run(
            [sys.executable, "-c", _FIND, str(path.parent), str(Path(folder) / "out")],
            check=True,
            capture_output=True,
            text=True,
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_field(fields: int) -> None:
    """Processor time of a field of 640 x 480 pixels: its scale, and its cells."""
    seconds = []
    for k in range(fields + 1):
        drawn = render_field(FieldSpec(cells=12), 5000 + k, diagnosis=DIAGNOSES[k % len(DIAGNOSES)])
        start = time.process_time()
        measure_scale(drawn.pixels)
        middle = time.process_time()
        find_field_cells(drawn.pixels, drawn.mpp)
        seconds.append((middle - start, time.process_time() - middle))
    parts = np.array(seconds[1:])  # the first one compiles
    for name, own in (("scale", parts[:, 0]), ("cells", parts[:, 1]), ("both", parts.sum(axis=1))):
        low, middle, high = np.percentile(own, [2.5, 50, 97.5])
        print(f"{name}: {middle:.2f} s of processor time ({low:.2f} to {high:.2f}), {fields} fields")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=20_000, help="edge of the slide, in pixels")
    parser.add_argument("--field", action="store_true", help="time fields of 640 x 480 pixels instead")
    given = parser.parse_args()
    if given.field:
        one_field(40)
        return
    small, large = slide(round(given.edge / 10**0.5)), slide(given.edge)
    for name, found in (("a tenth", small), (f"{given.edge} x {given.edge}", large)):
        print(f"{name}: {found['cells']:.0f} cells, {found['MiB']:.0f} MiB, {found['seconds']:.0f} s")
    print(f"memory: {large['MiB'] / small['MiB']:.2f} times; this process {_most():.0f} MiB")


def _most() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
