"""The study of the demonstration, which ``python -m demo`` shows and ``python -m demo.measure`` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytosae.settings import PRESETS, BackboneConfig
from cytosae.study import RunConfig, Study

STUDY = Path("demo-study")
DRAWN = "synthetic:patients=60,cells=40,seed=0"
BACKBONE = "tiny-stains"
"""The built-in one for cells of several laboratories, which these are."""


def make_study() -> dict[str, dict[str, Any]]:
    """The study of the drawn cohort; the figures of its stages."""
    training = PRESETS["recommended"]
    study = Study(STUDY, replace(RunConfig(), backbone=BackboneConfig(BACKBONE), train=training))
    return study.run(Path(DRAWN))


def tell_methods(
    methods: Sequence[dict[str, Any]], null: dict[str, Any], left_out: Sequence[dict[str, Any]] = ()
) -> None:
    """Print a line for each way to tell the groups, with its interval; in brackets where a laboratory was left out."""
    elsewhere = {row["method"]: f"   [{row['value']:.2f}]" for row in left_out}
    for row in methods:
        interval = f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        print(f"  {row['method']:<40} {interval}{elsewhere.get(row['method'], '')}")
    print(f"  {'permuted labels':<40} {null['mean']:.2f} ({null['low']:.2f} to {null['high']:.2f})")
