"""How does an image become tokens? DinoBloom, ViTs of the Hugging Face hub, the tiny built-in one."""

from cytosae.backbones.backbone import INPUT_SIZE, Backbone, BackboneInfo, resolve_layer
from cytosae.backbones.loading import NAMES, TINY, load
from cytosae.backbones.precision import choose_device, choose_precision

__all__ = [
    "INPUT_SIZE",
    "NAMES",
    "TINY",
    "Backbone",
    "BackboneInfo",
    "choose_device",
    "choose_precision",
    "load",
    "resolve_layer",
]
