"""Families of vision transformers in transformers: a new one is a record in `_FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cytosae.backbones.tower import IMAGENET, Normalisation


class _Interpolating(nn.Module):
    """Embeddings, for images of another size than those they were trained on."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, pixels: Tensor) -> Tensor:
        return self.embeddings(pixels, interpolate_pos_encoding=True)


class _Patchwise(nn.Module):
    """SigLIP 2's embeddings of flexible size, which take an image cut into patches, colours last."""

    def __init__(self, embeddings: nn.Module, patch: int) -> None:
        super().__init__()
        self.embeddings, self.patch = embeddings, patch

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # n, colour, row, y, column, x
        shape = torch.tensor([[rows.shape[2], rows.shape[4]]]).expand(len(pixels), 2)
        return self.embeddings(rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), shape)


class _Unmasked(nn.Module):
    """A block whose second argument says that no token is masked."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens, None)


class _Rotating(nn.Module):
    """A block that takes, in every call, the angles by which queries and keys of each patch are turned (RoPE)."""

    def __init__(self, block: nn.Module, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.block = block
        self.cos, self.sin = nn.Buffer(cos), nn.Buffer(sin)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens, position_embeddings=(self.cos, self.sin))


def _as_they_are(model: Any, blocks: nn.ModuleList, image_size: int) -> nn.ModuleList:
    return blocks


def _unmasked(model: Any, blocks: nn.ModuleList, image_size: int) -> nn.ModuleList:
    return nn.ModuleList(_Unmasked(block) for block in blocks)


@torch.no_grad()
def _rotating(model: Any, blocks: nn.ModuleList, image_size: int) -> nn.ModuleList:
    angles = model.rope_embeddings(torch.zeros(1, 3, image_size, image_size))
    return nn.ModuleList(_Rotating(block, *angles) for block in blocks)


@dataclass(frozen=True)
class Family:
    """How models of one ``model_type`` differ from a plain vision transformer."""

    model_type: str
    """As ``config.json`` names it; of a model of images and texts its vision tower."""
    with_text: str | None = None
    """``model_type`` of the whole model of images and texts, of which the vision tower alone is loaded."""
    vision_class: str = ""
    """Class of that tower in transformers."""
    normalisation: Normalisation = IMAGENET
    """Mean and standard deviation of its training images, where the checkpoint says nothing."""
    has_cls: bool = True
    """Whether token 0 is CLS."""
    embeddings: Callable[[Any, int], nn.Module] = lambda model, patch: model.embeddings
    """From the model and the edge of a patch in pixels: normalised pixels to the tokens that enter the first block."""
    blocks: Callable[[Any, nn.ModuleList, int], nn.ModuleList] = _as_they_are
    """From the model, its blocks and the edge of an image in pixels: blocks that take nothing but tokens."""


_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_FAMILIES = (
    Family("dinov2"),
    Family("dinov2_with_registers"),
    Family("dinov3_vit", blocks=_rotating),
    Family("vit", embeddings=lambda model, patch: _Interpolating(model.embeddings)),
    Family(
        "clip_vision_model",
        with_text="clip",
        vision_class="CLIPVisionModel",
        normalisation=_CLIP,
        embeddings=lambda model, patch: nn.Sequential(_Interpolating(model.embeddings), model.pre_layrnorm),
        blocks=_unmasked,
    ),
    Family(
        "siglip_vision_model",
        with_text="siglip",
        vision_class="SiglipVisionModel",
        normalisation=_HALF,
        has_cls=False,
        embeddings=lambda model, patch: _Interpolating(model.embeddings),
        blocks=_unmasked,
    ),
    Family(
        "siglip2_vision_model",
        with_text="siglip2",
        vision_class="Siglip2VisionModel",
        normalisation=_HALF,
        has_cls=False,
        embeddings=lambda model, patch: _Patchwise(model.embeddings, patch),
        blocks=_unmasked,
    ),
)
FAMILIES = {name: family for family in _FAMILIES for name in (family.with_text, family.model_type) if name}
"""By ``model_type``; the keys are the kinds of models that are supported."""
