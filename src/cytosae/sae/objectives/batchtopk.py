"""BatchTopK: of a batch of n tokens the k n largest (Bussmann, Leask and Nanda, "BatchTopK sparse autoencoders", 2024).

Tokens with much to say get more latents than others. Which are largest depends on the batch, so after training one threshold
takes its place: the mean, over batches, of the least activation that was kept. Here it is an average that
forgets batches as training goes on, since the weights move.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cytosae.sae.objectives.base import Latents, Objective, squared_error
from cytosae.sae.objectives.threshold import Threshold

_BATCHES = 100
"""Over about so many of the last batches the threshold is averaged."""
_LEAST = 1e-6  # of a threshold, which is kept as a logarithm


class BatchTopK(Threshold):
    """In training the k n largest ``ReLU(p)`` of n tokens; after it those above the threshold, equal for all latents.

    Parameters
    ----------
    k
        Latents active on a token, on average.
    """

    name = "batchtopk"
    settings = ("k",)
    slope = 0.0

    def __init__(self, k: int, n_latents: int = 0) -> None:
        super().__init__(n_latents)
        self.k = k
        self.log_threshold = nn.Parameter(torch.full((n_latents,), _LEAST).log())

    def max_active_per_batch(self, n_tokens: int) -> int:
        """See `Activation.max_active_per_batch`."""
        return self.k * n_tokens

    @torch.no_grad()
    def limit(self, chunks: Iterable[Tensor], n_tokens: int) -> Tensor | None:
        """The least activation that is among the k n largest; 0 where fewer are above zero."""
        largest = self.log_threshold.new_zeros(0)
        wanted = self.k * int(self.sharding.tokens.sum(torch.tensor(n_tokens)))
        for pre in chunks:
            largest = torch.cat([largest, pre[pre > 0]])
            if len(largest) > wanted:
                largest = largest.topk(wanted).values
        for group in (self.sharding.tokens, self.sharding.latents):
            if group.size > 1:  # all of them have to say equally much
                padded = torch.cat([largest, largest.new_zeros(wanted - len(largest))])
                largest = torch.cat(group.gather(padded))
                largest = largest[largest > 0]
                largest = largest.topk(min(wanted, len(largest))).values
        return largest.min() if len(largest) == wanted else largest.new_zeros(())

    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.in_training`."""
        assert limit is not None
        return Latents(torch.relu(pre) * (pre >= limit), pre.new_zeros(len(pre)))

    @torch.no_grad()
    def after_step(self, limit: float | None, step: int) -> None:
        """Move the threshold towards the limit of the batch."""
        assert limit is not None
        before = self.log_threshold.exp()
        mean = before + (limit - before) / min(step, _BATCHES)
        self.log_threshold.copy_(mean.clamp_min(_LEAST).log())


OBJECTIVE = Objective(squared_error, BatchTopK, set_by="k")
