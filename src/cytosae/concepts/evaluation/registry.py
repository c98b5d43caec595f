"""What a quality measure is: its label, which way is better, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cytosae.backbones import Backbone
from cytosae.concepts.evaluation.sampling import Sample
from cytosae.concepts.evaluation.table import Table
from cytosae.concepts.quality import Estimate, Finish
from cytosae.sae import SAE
from cytosae.settings import EvaluateConfig
from cytosae.tokens import TokenSource


@dataclass(frozen=True)
class Measure:
    """A quality measure, as tables, figures and docs/explanation/quality.md show it."""

    label: str
    """Its rows in the table begin with this: ``localisation`` has ``localisation of nucleus (AUROC)``."""
    says: str
    better: Literal["higher", "lower", ""] = ""
    """Which way is better; empty where neither is."""
    baselines: tuple[str, ...] = ()
    """Methods that it is compared with, besides the null."""
    null: str = ""
    """The method that shows chance, such as ``shuffled labels``; empty where there is none."""
    source: str = ""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a study: what measures are made of, and where they put their figures."""

    folder: Path
    """The study's concepts."""
    source: TokenSource
    sae: SAE
    sample: Sample
    config: EvaluateConfig
    backbone: Backbone | None
    finish: Finish | None
    """The later blocks of the backbone."""
    judge: Backbone | None
    """Another backbone, whose embeddings say which images are alike."""
    attributes: pd.DataFrame | None
    """Expert attributes of the sample's cells."""
    others: Mapping[str, NDArray[np.float32]]
    """Directions of other autoencoders by folder, ``(n_latents, d_model)``."""
    per_latent: pd.DataFrame
    """A row for each latent; measures add columns."""
    per_concept: pd.DataFrame
    """A row for each concept of the sample; measures add columns."""
    table: Table = field(default_factory=Table)
    details: dict[str, Any] = field(default_factory=dict)
    """What ``quality.json`` has besides the table."""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables by the name of their file."""

    def mean(self, measure: str, method: str, values: ArrayLike) -> None:
        """Add the mean of the finite values to the table, with its interval."""
        estimate = Estimate.mean(values, self.config.draws, self.config.seed)
        self.table.add(measure, method, estimate, int(np.isfinite(values).sum()))


@dataclass(frozen=True)
class Step:
    """A function that measures, and the measures that it adds to the table."""

    measures: tuple[Measure, ...]
    run: Callable[[Evaluation], None]


def measuring(*measures: Measure) -> Callable[[Callable[[Evaluation], None]], Step]:
    """Make a step of a function; `cytosae.concepts.evaluation.STEPS` has those of its files."""
    return lambda function: Step(measures, function)


def steps_of(*modules: ModuleType) -> tuple[Step, ...]:
    """The steps of some modules, as they stand there from top to bottom."""
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Step))
