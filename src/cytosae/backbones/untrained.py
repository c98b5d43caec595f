"""A backbone that has learnt nothing: what the architecture alone makes of images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from cytosae.backbones.tower import Tower, fingerprint

_DEVIATION = 0.02  # of the initial weights of vision transformers (Dosovitskiy et al., 2021; DINOv2)
_SCALES = ("lambda1", "gamma")  # of a layer scale, as transformers and timm name them


def reinitialised(tower: Tower, seed: int) -> Tower:
    """Give every weight a new initial value, in place: normal with deviation 0.02, layer norms and layer scales 1, biases 0.

    Parameters
    ----------
    tower
        The model whose shape is wanted; its weights are lost.
    seed
        Of the weights, which are the same on every machine.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    with torch.no_grad():
        for part, module in (("embeddings", tower.embeddings), ("blocks", tower.blocks), ("norm", tower.norm)):
            for path, inner in sorted(module.named_modules()):
                for name, parameter in inner.named_parameters(recurse=False):
                    is_norm = "norm" in type(inner).__name__.lower()
                    if name == "bias":
                        parameter.zero_()
                    elif is_norm or name in _SCALES:
                        parameter.fill_(1)
                    else:
                        drawn = torch.empty(parameter.shape)
                        nn.init.trunc_normal_(drawn, std=_DEVIATION, generator=generator)
                        parameter.copy_(drawn)
                    weights[f"{part}.{path}.{name}"] = parameter.detach()
    about = {"model_type": tower.model_type, "untrained": seed}
    return replace(tower, fingerprint=fingerprint(about, weights, lambda _: True))
