"""Which shard of ``(n_tokens, n_latents)`` a process holds, and how results are reduced over shards.

The loss of a batch is made of sums over tokens and of sums over latents. Where several processes train one autoencoder,
either axis may be divided among them; the equations name the axis that they sum over, and the sum goes over the others too.
A process that is alone holds all of both, and nothing is exchanged (`cytosae.sae.distributed` does, under torchrun).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class AxisGroup:
    """The process group that shards an axis; of this class, this process alone."""

    rank = 0
    """Which shard this process holds: shards are equally long and follow one another."""
    size = 1
    """Number of shards."""

    def sum(self, shard: Tensor) -> Tensor:
        """Sum over the shards. For its derivative the sum counts as held by each, as each uses all of it."""
        return shard

    def sum_(self, shard: Tensor) -> None:
        """The same in place, for constants."""

    def highest(self, shard: Tensor) -> Tensor:
        """Elementwise maximum over the shards, a constant."""
        return shard

    def gather(self, shard: Tensor) -> list[Tensor]:
        """The constants of all shards, equally large, in order."""
        return [shard]

    def once(self, whole: Tensor) -> Tensor:
        """What all hold alike, to be counted once in a `sum`: itself in the first shard, zeros in the others."""
        return whole if self.rank == 0 else whole * 0


@dataclass(frozen=True)
class Sharding:
    """The process groups that shard tokens and latents."""

    tokens: AxisGroup = AxisGroup()
    latents: AxisGroup = AxisGroup()


def among_largest(values: Tensor, k: int, group: AxisGroup) -> tuple[Tensor, Tensor]:
    """Which of the largest values of this shard are among the k largest of all shards.

    Parameters
    ----------
    values
        The k largest of this shard for each row, or all where there are fewer, ``(n, n_values)``.

    Returns
    -------
    Whether each is, ``(n, n_values)``, and the least of the k largest, ``(n, 1)``; both constants.
    """
    values = values.detach()
    if group.size == 1:
        return torch.ones_like(values, dtype=torch.bool), values.amin(-1, keepdim=True)
    every = torch.cat(group.gather(values), 1)
    largest, indices = every.topk(min(k, every.shape[1]))
    is_largest = torch.zeros_like(every, dtype=torch.bool).scatter_(1, indices, True)
    return is_largest.chunk(group.size, 1)[group.rank], largest[:, -1:]
