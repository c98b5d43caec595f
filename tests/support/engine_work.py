"""What the tests of the engines send to other processes: importable there, and light."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cytosae.backbones import BackboneInfo
from cytosae.cells import read_cells
from cytosae.concepts import encode
from cytosae.engines import Engine, Partition, Tick, Work, WorkFactory
from cytosae.sae import SAE
from cytosae.settings import StoreConfig
from cytosae.tokens import TokenStore, embed, store_layout

INFO = BackboneInfo(
    name="drawn",
    source="test",
    revision=None,
    fingerprint="f",
    model_type="dinov2",
    d_model=8,
    depth=3,
    patch_size=14,
    image_size=224,
    grid=(2, 3),
    n_tokens=7,
    layer=1,
    dtype="float32",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
LAYOUT = store_layout(INFO, StoreConfig(cells_per_shard=4, batch_size=2))


class Drawn:
    """A backbone whose tokens are drawn for the number in an image's first pixel."""

    info = INFO

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        numbers = (images[:, 0, 0, 0].long() * 256 + images[:, 0, 0, 1].long()).tolist()
        return torch.stack([torch.randn(7, 8, generator=torch.Generator().manual_seed(n)) for n in numbers])


class Other(Drawn):
    """The same with other weights."""

    info = replace(INFO, fingerprint="g")


@dataclass(frozen=True)
class Watched:
    """A factory that notes every unit that is begun, and whose process is killed in the middle of one, the first time."""

    factory: WorkFactory
    log: Path
    fatal: int

    def __call__(self) -> Work:
        work = self.factory()

        def watched(units: Iterable[Any], tick: Tick) -> Iterator[Any]:
            for unit in units:
                with self.log.open("a") as log:
                    log.write(f"{number(unit)} {os.getpid()}\n")

                def in_the_middle(more: int, unit: Any = unit) -> None:
                    if number(unit) == self.fatal and not self.log.with_suffix(".killed").exists():
                        self.log.with_suffix(".killed").touch()
                        os.kill(os.getpid(), signal.SIGKILL)
                    tick(more)

                yield from work([unit], in_the_middle)

        return watched


def number(unit: Any) -> int:
    """Which shard of tokens or piece of cells a unit is."""
    return int(unit.start // LAYOUT.cells_per_shard if isinstance(unit, range) else unit[0].index)


class Watching:
    """An engine that watches the first thing that another one does."""

    def __init__(self, engine: Engine, log: Path, fatal: int) -> None:
        self.engine, self.log, self.fatal = engine, log, fatal
        self.replicas = engine.replicas

    def map(self, factory: WorkFactory, units: Iterable[Any], tick: Tick) -> Iterator[Any]:
        if not self.log.exists():
            factory = Watched(factory, self.log, self.fatal)
        return self.engine.map(factory, units, tick)


def make_partition(folder: Path, partition: Partition | None) -> dict[str, Any]:
    """Embed and encode a partition of the cells in ``cells.parquet``, as a task of its own."""
    made = embed(read_cells(folder / "cells.parquet"), Drawn, folder / "tokens", LAYOUT, workers=0, partition=partition)  # type: ignore[arg-type]
    return made


def encode_partition(folder: Path, partition: Partition | None) -> dict[str, Any]:
    """Encode a partition of the tokens in a folder."""
    return encode(TokenStore(folder / "tokens"), some_sae(), folder / "concepts", partition=partition)


def some_sae() -> SAE:
    """A small autoencoder with frequent and rare latents."""
    sae = SAE(8, 24)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc[12:] = -1.0
    return sae
