"""Which part of ``(n_tokens, n_latents)`` a process holds, and how the parts become one again.

The loss of a batch is made of sums over tokens and of sums over latents. Where several processes train one autoencoder,
either axis may be divided among them; the equations name the axis that they sum over, and the sum goes over the others too.
A process that is alone holds all of both, and nothing is exchanged (`cytosae.sae.distributed` does, under torchrun).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class AxisGroup:
    """The processes among which an axis is divided; of this class, this process alone."""

    rank = 0
    """Which part is here: parts are equally long and follow one another."""
    size = 1
    """Number of parts."""

    def sum(self, part: Tensor) -> Tensor:
        """Sum over the parts. For its derivative the sum counts as held by each, as everyone goes on with all of it."""
        return part

    def sum_(self, part: Tensor) -> None:
        """The same in place, for constants."""

    def highest(self, part: Tensor) -> Tensor:
        """Elementwise maximum over the parts, a constant."""
        return part

    def gather(self, part: Tensor) -> list[Tensor]:
        """The constants of all parts, equally large, in order."""
        return [part]

    def once(self, whole: Tensor) -> Tensor:
        """What all hold alike, to be counted once in a `sum`: itself in the first part, zeros in the others."""
        return whole if self.rank == 0 else whole * 0


@dataclass(frozen=True)
class Sharding:
    """The processes among which tokens and latents are divided."""

    tokens: AxisGroup = AxisGroup()
    latents: AxisGroup = AxisGroup()


def among_largest(values: Tensor, k: int, group: AxisGroup) -> tuple[Tensor, Tensor]:
    """Which of the largest values here are among the k largest of all parts.

    Parameters
    ----------
    values
        The k largest of this part for each row, or all where there are fewer, ``(n, n_values)``.

    Returns
    -------
    Whether each is, ``(n, n_values)``, and the least of the k largest, ``(n, 1)``; both constants.
    """
    values = values.detach()
    if group.size == 1:
        return torch.ones_like(values, dtype=torch.bool), values.amin(-1, keepdim=True)
    every = torch.cat(group.gather(values), 1)
    largest, places = every.topk(min(k, every.shape[1]))
    kept = torch.zeros_like(every, dtype=torch.bool).scatter_(1, places, True)
    return kept.chunk(group.size, 1)[group.rank], largest[:, -1:]
