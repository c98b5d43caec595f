"""The backbone that settings name: loaded in this process, or in each replica of an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from cytosae.backbones import NAMES, Backbone, load
from cytosae.settings import BackboneConfig, EngineConfig
from cytosae.tokens import Layout


def load_backbone(config: BackboneConfig, *, whole: bool = False) -> Backbone:
    """Load the backbone that the settings name.

    No example: needs a study; `cytosae run` runs it.
    """
    return load(
        config.backbone,
        layer=config.layer,
        dtype=config.dtype,
        device=config.device,
        revision=config.revision,
        weights=config.weights,
        whole=whole,
    )


@cache
def loaded_backbone(config: BackboneConfig) -> Backbone:
    """The same, once in a process: what a replica of an engine calls."""
    return load_backbone(config)


def backbone_for(
    engine: EngineConfig, load: Callable[[], Backbone], config: BackboneConfig, layout: Layout
) -> Callable[[], Backbone]:
    """A function that loads the backbone: in this process by `load`, in replicas in the layout's precision.

    No example: needs a study; `cytosae run` runs it.
    """
    if engine.in_process:
        return load
    name, weights = config.backbone, config.weights
    if name not in NAMES and (folder := Path(name).expanduser()).exists():
        name = str(folder.absolute())
    weights = weights and weights.expanduser().absolute()
    return partial(loaded_backbone, replace(config, backbone=name, weights=weights, dtype=layout.backbone["dtype"]))
