"""How good is an autoencoder? Pure accumulators over tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from cytosae.artefacts import digest
from cytosae.sae.active_latents import active
from cytosae.sae.model import SAE
from cytosae.sae.objectives import RECONSTRUCTION
from cytosae.sae.sparse import decode

HELD_OUT, TRAINING, STUDY = "held-out cells", "training cells", "cells of the study"
"""Whose figures those of an autoencoder are: of cells kept out of its training; of those it was trained on, where none was
kept out; of a study into which it was taken."""
PREFIXES = {HELD_OUT: "held_out", TRAINING: "training_cells"}
"""Their names in ``metrics.jsonl`` (before a slash) and in ``config.json``."""


def measured_on(figures: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Whose figures those in the manifest of an autoencoder are: `HELD_OUT`, `TRAINING` or `STUDY`.

    Parameters
    ----------
    figures
        The manifest's summary; earlier versions do not say it there.
    inputs
        Of the manifest: ``split`` is a digest of the rows that were held out.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    return figures.get("measured_on") or (TRAINING if inputs.get("split") == digest([]) else HELD_OUT)


class ExplainedVariance:
    r"""Explained variance, centred and pooled over all tokens and dimensions.

    .. math:: 1 - \sum_i \lVert x_i - \hat x_i\rVert^2 \,/\, \sum_i \lVert x_i - \bar x\rVert^2

    with the mean token :math:`\bar x` over everything that was seen, so a model that always answers the mean scores 0.
    Means and squares are merged batch by batch (Chan, Golub and LeVeque, 1979) in float64, so that a constant added
    to all tokens does not change the result.
    """

    def __init__(self, d_model: int) -> None:
        self.count = 0
        self.mean = torch.zeros(d_model, dtype=torch.float64)
        self.spread = 0.0
        self.error = 0.0

    def update(self, x: Tensor, output: Tensor) -> None:
        """Add tokens and their reconstructions, both ``(n_tokens, d_model)``."""
        x, output = x.double(), output.double()
        n, mean = len(x), x.mean(dim=0)
        shift = mean.cpu() - self.mean
        self.spread += float((x - mean).square().sum()) + float(shift.square().sum()) * self.count * n / (
            self.count + n
        )
        self.mean = self.mean + shift * n / (self.count + n)
        self.count += n
        self.error += float((x - output).square().sum())

    def value(self) -> float:
        """Explained variance; NaN where all tokens are equal."""
        return 1 - self.error / self.spread if self.spread > 0 else float("nan")


@torch.no_grad()
def evaluate(
    sae: SAE, batches: Iterable[Tensor], objective: str, max_elements: int = 1 << 26, dtype: str = "float32"
) -> dict[str, float]:
    """Figures of an autoencoder on tokens that it was not trained on, which are not divided.

    Parameters
    ----------
    batches
        Tokens, each ``(n_cells, n_tokens, d_model)`` or ``(n_tokens, d_model)``.
    objective
        Names the reconstruction error to report.
    max_elements
        Tokens x latents to work on at once.
    dtype
        Of the encoder's product on a CPU, see `cytosae.sae.active_latents.active`.

    Returns
    -------
    ``explained_variance``; ``mse``, mean over tokens and dimensions; ``reconstruction``, ``l1`` and ``l0``, means over
    tokens; ``silent``, the share of latents that fired on none of these tokens; ``tokens``.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    device, group = sae.b_dec.device, sae.sharding.latents
    variance = ExplainedVariance(sae.d_model)
    sums = torch.zeros(3, dtype=torch.float64)
    fired = torch.zeros(sae.n_latents, dtype=torch.bool, device=device)
    for batch in batches:
        for chunk in batch.reshape(-1, sae.d_model).split(max(1, max_elements // sae.n_latents)):
            x = chunk.to(device, torch.float32)
            if device.type == "cpu":
                h = active(sae, x, dtype)
                output, l1, l0 = decode(sae, h)[-1], torch.from_numpy(h.values).sum(), torch.tensor(len(h))
                fired |= torch.from_numpy(h.fired())
            else:
                latents = sae.encode(x)
                output = group.sum(group.once(sae.b_dec) + latents @ sae.W_dec)
                l1, l0 = latents.sum(), (latents > 0).sum()
                fired |= (latents > 0).any(dim=0)
            variance.update(x, output)
            error = RECONSTRUCTION[objective](x, output).sum()
            sums += torch.stack([error, l1, l0]).to("cpu", torch.float64)
    n = max(1, variance.count)
    sums[1:] = group.sum(sums[1:])
    reconstruction, l1, l0 = (sums / n).tolist()
    n_fired = int(group.sum(fired.sum().cpu()))
    return {
        "explained_variance": variance.value(),
        "mse": variance.error / (n * sae.d_model),
        "reconstruction": reconstruction,
        "l1": l1,
        "l0": l0,
        "silent": 1 - n_fired / (sae.n_latents * group.size),
        "tokens": variance.count,
    }
