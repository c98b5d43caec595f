"""How long a unit of work takes on this machine, measured on a little of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from cytosae.backbones import INPUT_SIZE, Backbone, choose_device, load
from cytosae.backbones.catalogue import KNOWN
from cytosae.reproduction.recipe import Recipe
from cytosae.reproduction.steps import EMBED, TRAIN, Step
from cytosae.sae.cost import encode_seconds, rising, step_seconds
from cytosae.settings import TrainConfig
from cytosae.study import load_backbone
from cytosae.study.forecast import IMAGES, embed_seconds

_PAPER = 768, 12, 14  # width, blocks and patch of DinoBloom-B


def units(recipe: Recipe, steps: Iterable[Step]) -> tuple[dict[tuple[str, int], float], str]:
    """Seconds of a unit of each kind of work that the steps have, by kind and expansion, and what they were measured on.

    Training is measured on a few images and scaled to a batch, which is linear in the tokens
    (docs/explanation/benchmarks.md).
    """
    wanted = {kind for one in steps if not one.done for kind in one.work}
    backbone, measured_on = _backbone(recipe)
    device = torch.device(choose_device(recipe.backbone.device))
    measured: dict[str, dict[int, float]] = {}
    for kind, expansion in sorted(wanted):
        measured.setdefault(kind, {})[expansion] = _unit(kind, expansion, recipe, backbone, device)
    rates = {kind: rising(rate) for kind, rate in measured.items()}
    return {(kind, expansion): taken for kind, rate in rates.items() for expansion, taken in rate.items()}, measured_on


def _unit(kind: str, expansion: int, recipe: Recipe, backbone: Backbone, device: torch.device) -> float:
    """Seconds of one unit of work."""
    info = backbone.info
    if kind == EMBED:
        return embed_seconds(backbone, device)
    x = torch.randn(IMAGES * info.n_tokens, info.d_model, generator=torch.Generator().manual_seed(0)).to(device)
    config = TrainConfig(
        expansion=expansion, dead_latent_loss=recipe.training.dead_latent_loss, encoder=recipe.training.encoder
    )
    if kind == TRAIN:
        return step_seconds(config, x) * recipe.training.batch_images / IMAGES
    return encode_seconds(config, x) / IMAGES


def _backbone(recipe: Recipe) -> tuple[Backbone, str]:
    """The recipe's backbone where it is on this machine; otherwise random weights of its shape, which are as fast.

    A plan fetches nothing.
    """
    config = recipe.backbone
    known = {entry.name: entry for entry in KNOWN}.get(config.backbone)
    if config.weights is not None or Path(config.backbone).exists() or (known is not None and known.cached):
        return load_backbone(config), config.backbone
    from transformers import Dinov2Config, Dinov2Model

    d_model, depth, patch = (known.d_model, known.depth, known.patch_size) if known else _PAPER
    shape = Dinov2Config(
        hidden_size=d_model,
        num_hidden_layers=depth,
        num_attention_heads=max(1, d_model // 64),
        image_size=INPUT_SIZE,
        patch_size=patch,
    )
    with tempfile.TemporaryDirectory() as folder:
        Dinov2Model(shape).save_pretrained(folder)
        loaded = load(folder, layer=config.layer, dtype=config.dtype, device=config.device)
    description = f"random weights, {d_model} wide and {depth} deep: {config.backbone} is not on this machine"
    return loaded, description


def estimate_seconds(step: Step, units: dict[tuple[str, int], float]) -> float | None:
    """How long a step takes; None if its kind of work is not measured, because it is short."""
    return sum(amount * units[kind] for kind, amount in step.work.items()) if step.work else None
