r"""JumpReLU: a threshold learned by each latent (Rajamanoharan et al., "Jumping ahead", 2024).

.. math::
    h = p \, H(p - \theta), \qquad L = \lVert x - \hat x\rVert^2 + \lambda \sum_s H(p_s - \theta_s)

Both are steps, without a useful derivative by the threshold. Their means over tokens have one, which is estimated with a
rectangle K of width epsilon (the bandwidth) around the threshold:

.. math::
    \partial h / \partial \theta = -(\theta / \epsilon) \, K((p - \theta) / \epsilon), \qquad
    \partial H / \partial \theta = -(1 / \epsilon) \, K((p - \theta) / \epsilon)

The derivative by p is that of the function itself: ``H(p - theta)``, and 0 for the penalty.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from cytosae.sae.objectives.base import Latents, Objective, squared_error
from cytosae.sae.objectives.threshold import Threshold


class JumpReLU(Threshold):
    """``h = p H(p - theta)`` with one theta for each latent; lambda weighs the number of active latents, L0.

    Parameters
    ----------
    bandwidth
        epsilon, in units of an activation; also where the thresholds start, as in the paper.
    """

    name = "jumprelu"
    settings = ("bandwidth",)

    def __init__(self, bandwidth: float, n_latents: int = 0) -> None:
        super().__init__(n_latents)
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((n_latents,), math.log(bandwidth)))

    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.in_training`."""
        h, active = _Jump.apply(pre, self.log_threshold.exp(), self.bandwidth)
        return Latents(h, active.sum(dim=-1))


OBJECTIVE = Objective(squared_error, JumpReLU)


class _Jump(torch.autograd.Function):
    """``p H(p - theta)`` and ``H(p - theta)`` with the derivatives above."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        active = (pre > threshold).to(pre.dtype)
        return pre * active, active

    @staticmethod
    def backward(ctx: Any, by_h: Tensor, by_active: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < ctx.bandwidth / 2).to(pre.dtype) / ctx.bandwidth
        by_threshold = -((threshold * by_h + by_active) * near).sum(dim=0)
        return by_h * (pre > threshold), by_threshold, None
