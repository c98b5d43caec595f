"""Where the decoder bias starts: the middle of the tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def geometric_median(x: Tensor, *, max_iterations: int = 200, tolerance: float = 1e-7) -> Tensor:
    """The point with the least sum of Euclidean distances to the rows of `x` (Weiszfeld's iteration, 1937).

    Parameters
    ----------
    x
        ``(n, d)``.
    max_iterations
        Upper limit.
    tolerance
        Stops when the point moves by less than this share of the mean distance.

    Returns
    -------
    ``(d,)``, in the dtype of `x`; computed in float64.
    """
    points = x.double()
    median = points.mean(dim=0)
    for _ in range(max_iterations):
        distance = (points - median).norm(dim=1)
        scale = distance.mean()
        # A point that coincides with the estimate would have infinite weight.
        weights = 1 / distance.clamp_min(1e-12 + 1e-10 * scale)
        moved = (points * weights[:, None]).sum(dim=0) / weights.sum()
        step = (moved - median).norm()
        median = moved
        if step <= tolerance * scale:
            break
    return median.to(x.dtype)


def start_of_bias(x: Tensor, method: str) -> Tensor:
    """Start of ``b_dec`` from a sample of tokens ``(n, d_model)``: its geometric median, its mean, or zeros."""
    if method == "geometric-median":
        return geometric_median(x)
    if method == "mean":
        return x.double().mean(dim=0).to(x.dtype)
    return torch.zeros_like(x[0])
