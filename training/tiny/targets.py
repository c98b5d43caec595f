"""What masked patches have to be predicted as: oriented gradients and colour (MaskFeat, Wei et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH, CELLS, BINS = 14, 2, 8
WIDTH = CELLS * CELLS * (BINS + 3)
"""Numbers to predict for a patch: for each quarter of it a histogram of oriented gradients and the mean colour."""


def features(x: Tensor) -> Tensor:
    """``(n, 3, 224, 224)`` from 0 to 1 to ``(n, 256, WIDTH)``, patches row by row."""
    grey = x.mean(dim=1, keepdim=True)
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    padded = F.pad(grey, (1, 1, 1, 1), mode="reflect")
    dx, dy = F.conv2d(padded, kernel[None, None]), F.conv2d(padded, kernel.T[None, None].contiguous())
    magnitude = (dx.square() + dy.square()).sqrt()
    place = (torch.atan2(dy, dx) % torch.pi) * (BINS / torch.pi)
    low = place.floor()
    share = place - low
    cell = PATCH // CELLS
    histograms = []
    for index in range(BINS):  # every gradient is shared between its two nearest orientations
        weight = (low % BINS == index) * (1 - share) + ((low + 1) % BINS == index) * share
        histograms.append(F.avg_pool2d(magnitude * weight, cell))
    oriented = torch.cat(histograms, dim=1)
    oriented = oriented / (oriented.norm(dim=1, keepdim=True) + 0.1)
    found = torch.cat([oriented * 2, F.avg_pool2d(x, cell) * 4], dim=1)
    n, c, side, _ = found.shape
    grid = side // CELLS
    found = found.reshape(n, c, grid, CELLS, grid, CELLS).permute(0, 2, 4, 3, 5, 1)
    return found.reshape(n, grid * grid, CELLS * CELLS * c)
