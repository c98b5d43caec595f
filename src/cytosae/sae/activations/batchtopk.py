"""BatchTopK: of a batch of n tokens the k n largest (Bussmann, Leask and Nanda, "BatchTopK sparse autoencoders", 2024).

Tokens with much to say get more latents than others. Which are largest depends on the batch, so after training one threshold
takes its place: the mean, over batches, of the least activation that was kept. Here it is an average that
forgets batches as training goes on, since the weights move.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cytosae.sae.activations.base import Latents
from cytosae.sae.activations.threshold import Threshold

if TYPE_CHECKING:
    from cytosae.sae.model import SAE

_BATCHES = 100
"""Over about so many of the last batches the threshold is averaged."""
_LEAST = 1e-6  # of a threshold, which is kept as a logarithm


@dataclass(frozen=True)
class BatchTopK(Threshold):
    """In training the k n largest ``ReLU(p)`` of n tokens; after it those above the threshold."""

    k: int
    """Latents active on a token, on average."""
    name = "batchtopk"
    along_active = True

    def parameters(self, n_latents: int) -> dict[str, Tensor]:
        """The logarithm of the threshold, equal for all latents."""
        return {"log_threshold": torch.full((n_latents,), _LEAST).log()}

    def limit(self, sae: SAE, pieces: Iterable[Tensor]) -> Tensor | None:
        """The least activation that is among the k n largest; 0 where fewer are above zero."""
        largest, pieces = sae.b_enc.detach().new_zeros(0), list(pieces)
        n_tokens = torch.tensor(sum(map(len, pieces)))
        wanted = self.k * int(sae.split.tokens.sum(n_tokens))
        with torch.no_grad():
            for piece in pieces:
                found = torch.relu(sae.pre_activations(piece)).flatten()
                largest = torch.cat([largest, found[found > 0]])
                if len(largest) > wanted:
                    largest = largest.topk(wanted).values
        for ranks in (sae.split.tokens, sae.split.latents):
            if ranks.size > 1:  # all of them have to say equally much
                padded = torch.cat([largest, largest.new_zeros(wanted - len(largest))])
                largest = torch.cat(ranks.gather(padded))
                largest = largest[largest > 0]
                largest = largest.topk(min(wanted, len(largest))).values
        return largest.min() if len(largest) == wanted else largest.new_zeros(())

    def train(self, sae: SAE, pre: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.train`."""
        assert limit is not None
        return Latents(torch.relu(pre) * (pre >= limit), pre.new_zeros(len(pre)))

    @torch.no_grad()
    def after_step(self, sae: SAE, limit: float | None, step: int) -> None:
        """Move the threshold towards the limit of the batch."""
        assert limit is not None
        before = sae.log_threshold.exp()
        mean = before + (limit - before) / min(step, _BATCHES)
        sae.log_threshold.copy_(mean.clamp_min(_LEAST).log())
