"""Whether the figures of an autoencoder are those of one that has learned anything; without torch, for who only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DENSE = 0.4
"""Share of the latents that are active on a token above which an autoencoder is as dense as at its start, where half are."""

_LITTLE = 0.3
"""Explained variance below which little was learned; trainings that went well have 0.9 and more."""


def why_not_learned(figures: Mapping[str, Any]) -> str | None:
    """What shows that a training has not learned; None if nothing does.

    Parameters
    ----------
    figures
        Of an autoencoder, with ``explained_variance``, ``l0`` and ``n_latents``.

    Examples
    --------
    >>> why_not_learned({"explained_variance": 0.4, "l0": 6148, "n_latents": 12288})
    '6,148 of 12,288 latents are active on a token'
    >>> why_not_learned({"explained_variance": 0.91, "l0": 32, "n_latents": 1536})
    """
    variance, l0, n_latents = figures["explained_variance"], figures["l0"], figures["n_latents"]
    signs = []
    if variance < 0:
        signs.append(f"its reconstructions are worse than the mean token (explained variance {variance:.2f})")
    elif variance < _LITTLE:
        signs.append(f"it explains little of the tokens (explained variance {variance:.2f})")
    if l0 > _DENSE * n_latents:
        signs.append(f"{l0:,.0f} of {n_latents:,} latents are active on a token")
    return " and ".join(signs) or None
