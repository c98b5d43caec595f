"""The explorer on a study of full size: 171,373 cells, 49,152 latents, 317 million activations, 189 patients.

``python -m benchmarks.explorer --folder DIR`` simulates the study there (5 GB, some minutes, once), starts the server and
measures it from outside: first view, pages of concepts, cells and patients, peak memory. Files leave the page cache first.
Where there is Debian's chromium, it also opens the page in it, from the command to the list of concepts on the screen.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from PIL import Image

from benchmarks.cohort import simulated
from cytosae.artefacts import FileRecord, Manifest, make_folder, sae_weights_digest
from cytosae.backbones import BackboneInfo
from cytosae.cells import write_cells
from cytosae.concepts import References, is_concept
from cytosae.concepts.statistics import ExactSums, Groups
from cytosae.concepts.storage import write_concepts, write_maps
from cytosae.sae import SAE
from cytosae.settings import EncodeConfig
from cytosae.tokens import store_layout
from cytosae.tokens.store import Shard, write_manifest

CELLS, D_MODEL, EXPANSION, ACTIVE, LABELS, PATIENTS, IMAGES = 171_373, 768, 64, 1853, 21, 189, 64
KINDS = ("reference", "spread", "random", "middle", "low")
NAME = "bmc"
_BLOCK = 512


def backbone() -> BackboneInfo:
    """DinoBloom-B, which need not be there."""
    return BackboneInfo(
        name="dinobloom-b",
        source="simulated",
        revision=None,
        fingerprint="simulated",
        model_type="dinov2",
        d_model=D_MODEL,
        depth=12,
        patch_size=14,
        image_size=224,
        grid=(16, 16),
        n_tokens=257,
        layer=10,
        dtype="float32",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def listed(folder: Path, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """A table of cells that share a few images."""
    make_folder(folder / "images")
    for i in range(IMAGES):
        pixels = rng.integers(0, 255, (250, 250, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.jpg", quality=80)
    patient = np.arange(n) * PATIENTS // n
    table = pd.DataFrame({"cell_id": [f"{NAME}/{i // 1000:03d}/cell-{i:06d}.jpg" for i in range(n)]})
    table["path"] = [str(folder / "images" / f"{i % IMAGES}.jpg") for i in range(n)]
    table["dataset"] = NAME
    table["label"] = [f"class {c}" for c in rng.integers(0, LABELS, n)]
    table["patient"] = [f"P{p}" for p in patient]
    table["diagnosis"] = [("CBFB_MYH11", "NPM1", "PML_RARA", "RUNX1_RUNX1T1", "healthy")[p % 5] for p in patient]
    table["split"] = table["mask"] = None
    table["width"] = table["height"] = 250
    table["file_bytes"] = table["file_mtime_ns"] = 0
    table["file_sha256"] = [f"{i:064x}" for i in range(n)]
    return table


def activations(
    n: int, frequency: np.ndarray, level: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[int, sp.csr_matrix, sp.csr_matrix]]:
    """Position, counts and means of some cells after the other."""
    for start in range(0, n, _BLOCK):
        rows = min(_BLOCK, n - start)
        cell, latent = np.nonzero(rng.random((rows, len(frequency)), dtype=np.float32) < frequency)
        ends = np.searchsorted(cell, np.arange(rows + 1))
        values = (level[latent] * rng.exponential(1, len(latent))).astype(np.float32)
        means = sp.csr_matrix((values, latent.astype(np.int32), ends), shape=(rows, len(frequency)))
        strong = rng.random(len(latent), dtype=np.float32) < 0.6
        counted = np.concatenate([[0], np.cumsum(strong)])[ends]
        numbers = rng.integers(1, 200, int(strong.sum()), dtype=np.int32)
        yield start, sp.csr_matrix((numbers, latent[strong].astype(np.int32), counted), shape=means.shape), means


def simulate(folder: Path, n: int, n_latents: int, seed: int = 0) -> None:
    """Write the study; statistics are distributed as those of the released autoencoder on MLL23."""
    rng = np.random.default_rng(seed)
    level = (10 ** rng.normal(-4, 0.7, n_latents)).astype(np.float32)
    frequency = np.minimum(1, 10 ** rng.normal(-2.6, 0.9, n_latents)).astype(np.float32)
    for _ in range(20):  # some are in every cell, whatever the factor
        frequency = np.minimum(1, frequency * (ACTIVE / 49152 * n_latents / frequency.sum()))
    sae = SAE(D_MODEL, n_latents, {"backbone": {"fingerprint": "simulated"}})
    sae.initialise(torch.Generator().manual_seed(seed))
    sae.save_pretrained(folder / "sae")
    table = listed(folder, n, rng)
    write_cells(table, folder / "cells.parquet")
    concept = is_concept(level)
    var = pd.DataFrame(
        {
            "activation_frequency": frequency.astype(float),
            "mean_activation": level.astype(float),
            "label_entropy": rng.uniform(0, 2.3, n_latents),
            "n_references": np.full(n_latents, 10, np.int32),
            "is_concept": concept,
        },
        index=pd.Index([str(s) for s in range(n_latents)], name="latent"),
    )
    shape = (n_latents, 10)
    lists = {
        kind: References(
            rng.integers(0, n, shape),
            -np.sort(-rng.random(shape, dtype=np.float32)),
            np.zeros(shape),
            np.zeros(shape, np.int32),
        )
        for kind in KINDS
    }
    groups = {}
    for column in ("label", "diagnosis"):
        sizes = table[column].value_counts(sort=False).sort_index()
        of = np.zeros((len(sizes), n_latents)) + frequency * level
        active = (frequency * sizes.to_numpy()[:, None]).astype(np.int64)
        rest, whole = np.modf(of * sizes.to_numpy()[:, None])
        sums = ExactSums(whole.astype(np.int64), (rest * 2.0**64).astype(np.uint64))
        groups[column] = Groups(tuple(sizes.index), sizes.to_numpy().astype(np.int64), active, sums)
    settings = asdict(EncodeConfig())
    known = {key: value for key, value in store_layout(backbone()).backbone.items() if value is not None}
    inputs = {"tokens": "simulated", "sae": sae_weights_digest(folder / "sae"), "cells": "simulated"}
    about = {"dataset": NAME, "parameters": settings, "inputs": inputs, "n_tokens": 257, "backbone": known}
    h5ad, maps = folder / "concepts" / f"{NAME}.h5ad", folder / "concepts" / f"{NAME}.maps.safetensors"
    write_concepts(h5ad, table, var, lists, groups, about, activations(n, frequency, level, rng))
    latents = np.flatnonzero(concept)
    write_maps(maps, latents, rng.random((len(latents), 10, 16, 16), dtype=np.float32).astype(np.float16))
    _barcodes(folder, n_latents, var, inputs)
    _tokens(folder, table)
    summary = {"datasets": {NAME: {"cells": n, "concepts": len(latents)}}, "files": {NAME: NAME}}
    Manifest("concepts", settings, inputs, {}, summary).save(folder / "concepts")


def _barcodes(folder: Path, n_latents: int, var: pd.DataFrame, inputs: dict[str, str]) -> None:
    data = simulated(PATIENTS, n_latents)
    data.uns["cytosae"]["inputs"] = {NAME: inputs}
    data.obs["dataset"] = pd.Categorical([NAME] * PATIENTS)
    data.var = var[["activation_frequency", "mean_activation", "is_concept"]].copy()
    data.layers["standard_error"] = np.sqrt(np.asarray(data.X) / 900).astype(np.float32)
    make_folder(folder / "cohort")
    data.write_h5ad(folder / "cohort" / "barcodes.h5ad", compression="gzip")


def _tokens(folder: Path, table: pd.DataFrame) -> None:
    """A store whose files are holes but for their headers: it takes no room, and is read like any other."""
    layout = store_layout(backbone())
    store = make_folder(folder / "tokens")
    shards = []
    for index, start in enumerate(range(0, len(table), layout.cells_per_shard)):
        stop = min(start + layout.cells_per_shard, len(table))
        size = (stop - start) * layout.cell_bytes
        shape = [stop - start, layout.n_tokens, layout.d_model]
        header = json.dumps({"tokens": {"dtype": "F16", "shape": shape, "data_offsets": [0, size]}}).encode()
        path = store / f"shard-{index:05d}.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + size)
        shards.append(Shard(path.name, start, stop, "simulated", FileRecord(path.stat().st_size, 0, "simulated")))
    write_cells(table, store / "cells.parquet")
    write_manifest(store, layout, shards, complete=True)


def forget(folder: Path) -> None:
    """Drop the files of the study from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("shard-"):
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


class Server:
    """The running command."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "cytosae", "explore", str(folder), "--port", "0", "--no-open", "--no-token"]
        start = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.base = self.process.stdout.readline().strip()
        self.started = time.perf_counter() - start

    def get(self, path: str) -> tuple[float, bytes]:
        """Seconds and body of an answer, packed as it was sent."""
        request = urllib.request.Request(f"{self.base}api/{path}", headers={"Accept-Encoding": "gzip"})
        start = time.perf_counter()
        with urllib.request.urlopen(request, timeout=600) as answer:
            body = answer.read()
        return time.perf_counter() - start, body

    def page(self, *paths: str) -> float:
        """Seconds of several answers, one after the other."""
        return sum(self.get(path)[0] for path in paths)

    def memory(self, which: str = "VmHWM") -> float:
        """Of the process, in GiB: the peak, or VmRSS now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{which}:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) / 2**20

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def seen(folder: Path) -> dict[str, float]:
    """Seconds from the command to the server's answer, and until a browser that waits for it shows the first view, a
    concept's page and a cell's.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        return {}
    from playwright.sync_api import sync_playwright

    forget(folder)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=flags) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        begun = time.perf_counter()
        server = Server(folder)
        try:
            page.goto(server.base)
            page.wait_for_selector(".item")
            page.wait_for_selector("figure canvas")
            figures = {"seen_first_view_seconds": time.perf_counter() - begun, "seen_start_seconds": server.started}
            first, second = (page.locator(".item").nth(i).inner_text().split()[0] for i in range(2))
            for name, view, there in (
                ("concept", f"concept/{NAME}/{first}", ".grid img"),
                ("another_concept", f"concept/{NAME}/{second}", ".grid img"),
                ("cell", f"cell/{NAME}/70000", "[data-patches] img"),
            ):
                begun = time.perf_counter()
                page.goto(f"{server.base}#/{view}")
                page.wait_for_selector(there)
                figures[f"seen_{name}_seconds"] = time.perf_counter() - begun
        finally:
            server.stop()
    return figures


def measure(folder: Path, rounds: int = 20, seed: int = 0) -> dict[str, Any]:
    """Figures of a running server."""
    forget(folder)
    rng = np.random.default_rng(seed)
    server = Server(folder)
    try:
        figures: dict[str, Any] = {"start_seconds": server.started}
        about, study = server.get("study")
        first, packed = server.get(f"latents/{NAME}")
        body = gzip.decompress(packed)
        table = json.loads(body)
        figures |= {"study_seconds": about, "latents_seconds": first, "first_view_seconds": about + first}
        figures |= {"latents_mb": len(body) / 1e6, "latents_gzip_mb": len(packed) / 1e6}
        figures["latents_again_seconds"] = server.get(f"latents/{NAME}")[0]
        concepts = rng.choice([s for s, c in zip(table["latent"], table["concept"], strict=True) if c], rounds, False)
        cells = rng.choice(json.loads(gzip.decompress(study))["datasets"][0]["cells"], rounds, False)
        pages = {
            "concept_page": [(f"latents/{NAME}/{s}", f"latents/{NAME}/{s}/images/reference") for s in concepts],
            "cell_page": [(f"cells/{NAME}/{i}", f"cells/{NAME}/{i}/image") for i in cells],
        }
        more = {
            "random_images": [(f"latents/{NAME}/{s}/images/random",) for s in concepts],
            "patches": [(f"cells/{NAME}/{i}/patches",) for i in cells],
            "patient_page": [(f"patients/P{p}",) for p in range(min(5, rounds))],
            "comparison": [("compare/NPM1/rest",)],
            "comparison_images": [(f"compare/NPM1/rest/images/{s}",) for s in concepts[:5]],
        }
        for part in (pages, more):
            for name, asked in part.items():
                seconds = [server.page(*paths) for paths in asked]
                figures[f"{name}_peak_gib"] = server.memory()
                figures[f"{name}_first_seconds"] = seconds[0]
                if len(seconds) > 1:
                    figures |= {
                        f"{name}_median_seconds": statistics.median(seconds),
                        f"{name}_max_seconds": max(seconds),
                    }
            key = "views" if part is pages else "all"
            figures |= {f"{key}_peak_gib": server.memory(), f"{key}_now_gib": server.memory("VmRSS")}
    finally:
        server.stop()
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the study is, or will be")
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--latents", type=int, default=D_MODEL * EXPANSION)
    given = parser.parse_args()
    folder = given.folder.absolute()
    if Manifest.load(folder / "concepts") is None:
        start = time.perf_counter()
        simulate(folder, given.cells, given.latents)
        print(f"simulated in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(json.dumps({"cells": given.cells, "latents": given.latents, **measure(folder), **seen(folder)}, indent=1))


if __name__ == "__main__":
    main()
