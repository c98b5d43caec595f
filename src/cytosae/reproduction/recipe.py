"""The recipe: which data, which backbone, which settings; where everything goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from cytosae.cells import read_source
from cytosae.cells.datasets import TABLE, find
from cytosae.errors import CytosaeError
from cytosae.reproduction.paper import CHOSEN, DATASETS, DEPTH, VARIANTS
from cytosae.settings import BackboneConfig, EncodeConfig, TrainConfig


@dataclass(frozen=True)
class Recipe:
    """One reproduction of the paper.

    Attributes
    ----------
    folder
        Everything that is made goes there.
    data
        A folder with a folder for each data set, by its name (``mll23``, ``acevedo``, ...): as downloaded, as published, or
        as ``cytosae datasets prepare`` left it.
    backbone, training, encoding
        Settings; the paper's are the defaults of the latter two, and ``dinobloom-b`` is its backbone.
    seeds
        Trainings of every variant.
    ablation
        Also the variants of section 3.4.
    sae
        Folder of an autoencoder that takes the place of the chosen one of the first seed, such as the released one.
    store
        Keep the tokens of all data sets, for the classification's baselines that are made of tokens.
    restart, drop_missing
        See `cytosae.study.Study`.
    """

    folder: Path
    data: Path
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("dinobloom-b"))
    training: TrainConfig = field(default_factory=TrainConfig)
    encoding: EncodeConfig = field(default_factory=EncodeConfig)
    seeds: int = 3
    ablation: bool = True
    sae: Path | None = None
    store: bool = False
    restart: bool = False
    drop_missing: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise CytosaeError(f"--seeds {self.seeds}: must be at least 1.")
        if not (self.training.learning_rate and self.training.images):
            raise CytosaeError(
                "The recipe varies the learning rate by factors of ten and tells its length beforehand: leave out --preset, "
                "or give --learning-rate and --images."
            )

    @property
    def study(self) -> Path:
        """The study of all data sets, with the chosen setting."""
        return self.folder / "study"

    @property
    def variants(self) -> list[str]:
        """Names of the settings that are trained."""
        return list(VARIANTS) if self.ablation else [CHOSEN]

    @property
    def members(self) -> Iterator[tuple[str, int]]:
        """Variant and seed of every training."""
        return ((variant, seed) for variant in self.variants for seed in range(self.seeds))

    def train_config(self, variant: str, seed: int) -> TrainConfig:
        """Settings of a training."""
        return replace(VARIANTS[variant].change(self.training), seed=self.training.seed + seed)

    def backbone_config(self, layer: int | None, depth: int = DEPTH) -> BackboneConfig:
        """The backbone cut after one of the paper's twelve blocks, in proportion where this one has another number."""
        return self.backbone if layer is None else replace(self.backbone, layer=max(1, round(layer * depth / DEPTH)))

    def block_fraction(self, layer: int | None) -> float:
        """Number of blocks up to one of the paper's layers, divided by the number up to the recipe's layer."""
        own = self.backbone.layer
        return 1.0 if layer is None else layer / (own if own > 0 else DEPTH + 1 + own)

    def tokens(self, layer: int | None) -> Path:
        """Folder of the training set's tokens after a block."""
        return self.folder / "tokens" / ("chosen" if layer is None else f"layer-{layer}")

    def sae_folder(self, variant: str, seed: int) -> Path:
        """Folder of an autoencoder."""
        return self.folder / "sae" / f"{variant}-{seed}"

    def concepts_folder(self, variant: str, seed: int) -> Path:
        """Folder of its concepts on the training set."""
        return self.folder / "concepts" / f"{variant}-{seed}"

    @property
    def given(self) -> Path:
        """The autoencoder of the study."""
        return self.sae or self.sae_folder(CHOSEN, 0)

    def source(self, name: str) -> Path:
        """Where a data set is looked for."""
        return self.data / name

    def prepared(self, name: str) -> Path:
        """Folder with the table of a data set's cells."""
        own = self.source(name)
        return own if (own / TABLE).is_file() else self.folder / "data" / name

    @cached_property
    def present(self) -> list[str]:
        """Data sets that are there."""
        return [name for name in DATASETS if self.source(name).exists()]

    def cells(self, name: str) -> int:
        """Cells of a data set: of its table where it was prepared, otherwise as published."""
        table = self.prepared(name) / TABLE
        return len(pd.read_csv(table, usecols=["path"])) if table.is_file() else find(name).images or 0

    def table(self, *names: str) -> pd.DataFrame:
        """Cells of some data sets, with absolute paths."""
        return pd.concat([read_source(self.prepared(name) / TABLE) for name in names], ignore_index=True)
