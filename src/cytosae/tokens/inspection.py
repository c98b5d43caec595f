"""What are the tokens like? Their middle, their spread, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

OUTLIER = 3.0
"""A patch is an outlier where its norm is above so many times the median norm of patches."""
_CONSTANT = 1e-6  # share of the mean standard deviation below which a dimension says nothing
_LARGEST = 65_504.0  # of float16; a value there was too large for the store


@dataclass(frozen=True)
class Oddities:
    """What may disturb a training, over a sample of tokens."""

    patch_norm: float
    """Median L2 norm of the patches."""
    largest_norm: float
    """Largest norm of a patch, over the median."""
    outliers: float
    """Share of patches whose norm is above `OUTLIER` medians. Large ViTs without registers put global information into a few
    patches of the background, of about ten times the others' norm (Darcet et al., "Vision Transformers Need Registers",
    ICLR 2024): they become concepts of their own."""
    cls_norm: float | None
    """Median norm of CLS over that of the patches; None without CLS."""
    constant: tuple[int, ...]
    """Dimensions that (nearly) never vary."""
    dominant_dimension: int
    """The dimension with the largest mean square."""
    dominant_share: float
    """Its share of the mean squared norm; all alike it would be 1 / d_model."""
    clipped: int
    """Values as large as float16 can hold."""


def mean_to_spread(x: Tensor, centre: Tensor | None = None) -> float:
    r"""Ratio of mean to spread, :math:`\gamma = \lVert\mu\rVert / \lVert\sigma\rVert`.

    :math:`\mu` is the mean token (seen from `centre`) and :math:`\lVert\sigma\rVert` the root mean squared distance of the
    tokens from it. It predicts how many latents die at the start: a latent whose direction points away from the mean has
    pre-activations below zero on every token (Simon, Adams and Zou, "On the Relationship Between Activation Outliers and
    Feature Death in Sparse Autoencoders", ICML 2026, arXiv:2605.31518).

    Parameters
    ----------
    x
        Tokens, ``(n_tokens, d_model)``.
    centre
        Subtracted first, ``(d_model,)``; nothing if None.

    Returns
    -------
    The ratio; infinite where all tokens are equal and not zero.
    """
    mean = x.double().mean(dim=0)
    spread = float((x.double() - mean).square().sum(dim=1).mean().sqrt())
    length = float((mean if centre is None else mean - centre.double()).norm())
    return length / spread if spread > 0 else (float("inf") if length > 0 else 0.0)


def oddities(tokens: Tensor, has_cls: bool) -> Oddities:
    """Look for what is odd.

    Parameters
    ----------
    tokens
        Of some cells, ``(n_cells, n_tokens, d_model)``, finite.
    has_cls
        Whether token 0 is CLS.
    """
    tokens = tokens.float()
    norms = tokens.norm(dim=-1)
    patches = norms[:, int(has_cls) :].flatten()
    median = float(patches.median())
    scale = median or 1.0
    x = tokens.flatten(0, 1)
    deviation, square = x.std(dim=0, correction=0), x.square().mean(dim=0)
    dominant = int(square.argmax())
    return Oddities(
        patch_norm=median,
        largest_norm=float(patches.max()) / scale,
        outliers=float((patches > OUTLIER * median).double().mean()),
        cls_norm=float(norms[:, 0].median()) / scale if has_cls else None,
        constant=tuple(torch.nonzero(deviation <= _CONSTANT * deviation.mean()).flatten().tolist()),
        dominant_dimension=dominant,
        dominant_share=float(square[dominant] / square.sum().clamp_min(1e-30)),
        clipped=int((x.abs() >= _LARGEST).sum()),
    )
