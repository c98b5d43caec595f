"""cytosae: sparse autoencoders that open blood-cell foundation models.

The stages, in the order in which data moves, are the submodules: ``cells``, ``backbones``, ``tokens``,
``sae``, ``concepts`` and ``report``. They are imported on first use, so that ``import cytosae`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_STAGES = ("backbones", "cells", "concepts", "report", "sae", "study", "tokens")

__all__ = ["__version__", *_STAGES]


def __getattr__(name: str) -> Any:
    if name in _STAGES:
        return import_module(f"cytosae.{name}")
    raise AttributeError(f"module 'cytosae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
