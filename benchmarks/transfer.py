"""What comparing laboratories costs: ``python -m benchmarks.transfer -o FOLDER`` on a machine that does nothing else.

Draws 60 patients of four laboratories with about 9,000 cells (`--cells` a patient), embeds them with the built-in backbone,
trains a small autoencoder, and times

- fitting a harmonisation and reading all tokens through it, against embedding them: the share that harmonising adds;
- the peak memory of that for half of the cells and for all;
- ``transfer`` for patients and for cell types with its default settings.

Prints one JSON object. Seconds are those of the clock and of the processor; what is in FOLDER is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cytosae.analysis import transfer
from cytosae.backbones import load
from cytosae.settings import PRESETS, BackboneConfig, LaboratoryConfig
from cytosae.study import RunConfig, Study, list_to, rendered
from cytosae.tokens import TokenStore, embed, fit_harmonisation, store_layout

METHODS = ("standardise", "coral")
"""One with variances, and one with covariances."""
_BATCH = 64


def timed(function: Callable[[], Any]) -> dict[str, float]:
    """Seconds of a call, by the clock and of all threads of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return {
        "seconds": round(time.perf_counter() - clock, 2),
        "processor": round(time.process_time() - processor, 2),
    }


def made(folder: Path, cells: int, seed: int) -> tuple[Path, dict[str, float]]:
    """The study, and what embedding its cells took."""
    study, path = folder / "study", folder / "embedding.json"
    listed, _ = list_to(
        rendered(Path(f"synthetic:patients=60,cells={cells},laboratories=4,seed={seed}"), folder / "cohort"),
        study / "cells.parquet",
    )
    if not path.is_file():
        backbone = load("tiny")
        layout = store_layout(backbone.info)
        seconds = timed(partial(embed, listed, backbone, study / "tokens", layout, workers=0))
        path.write_text(json.dumps(seconds), encoding="utf-8")
    training = replace(PRESETS["recommended"], images=4_800, learning_rate=1e-3)
    Study(study, replace(RunConfig(), backbone=BackboneConfig("tiny"), train=training), workers=0, describe=False).run(
        study / "cells.parquet"
    )
    embedding: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return study, embedding


def read_through(study: Path, method: str | None, share: float = 1.0) -> None:
    """Fit a harmonisation, if there is a method, and read a share of the tokens through it."""
    with closing(TokenStore(study / "tokens", harmonised=False)) as store:
        fitted = None if method is None else fit_harmonisation(store, method, "laboratory")
        codes = None if fitted is None else fitted.codes(store.cells)
        rows = np.arange(round(share * store.n_cells))
        batches = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        for batch, tokens in zip(batches, store.stream(batches), strict=True):
            if fitted is not None and codes is not None:
                fitted.apply(tokens, codes[batch])


def peak_memory(study: Path, method: str, share: float) -> float:
    """MiB at most of a process that does `read_through`."""
    code = (
        "import resource, sys; from pathlib import Path; from benchmarks.transfer import read_through; "
        "read_through(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, str(study), method, str(share)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return round(int(done.stdout.split()[-1]) / unit, 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=155, help="cells of a patient; fewer by a few are drawn")
    parser.add_argument("--seed", type=int, default=40)
    given = parser.parse_args()
    study, embedding = made(given.output, given.cells, given.seed)
    plain = timed(partial(read_through, study, None))
    found: dict[str, Any] = {"embedding": embedding, "reading": plain}
    for method in METHODS:
        own = timed(partial(read_through, study, method))
        added = own["seconds"] - plain["seconds"]
        memory = [peak_memory(study, method, share) for share in (0.5, 1.0)]
        found[method] = {
            **own,
            "share_of_embedding": round(added / embedding["seconds"], 4),
            "peak_MiB_half_all": memory,
        }
    config = LaboratoryConfig(laboratory="laboratory")
    for target in ("diagnosis", "label"):
        result = given.output / f"transfer-{target}"
        found[f"transfer, {target}"] = timed(partial(transfer, [study], result, config, target=target))
    with closing(TokenStore(study / "tokens")) as store:
        found["cells"] = store.n_cells
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
