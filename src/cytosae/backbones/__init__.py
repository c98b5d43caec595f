"""How does an image become tokens? DinoBloom, ViTs of the Hugging Face hub and of timm, the tiny built-in one."""

from cytosae.backbones.backbone import INPUT_SIZE, Backbone, BackboneInfo, resolve_layer
from cytosae.backbones.catalogue import fetch, listed
from cytosae.backbones.loading import BUILT_IN, IMPORTED, NAMES, TINY, load
from cytosae.backbones.precision import choose_device, choose_precision

__all__ = [
    "BUILT_IN",
    "IMPORTED",
    "INPUT_SIZE",
    "NAMES",
    "TINY",
    "Backbone",
    "BackboneInfo",
    "choose_device",
    "choose_precision",
    "fetch",
    "listed",
    "load",
    "resolve_layer",
]
