"""Is what the autoencoder keeps what matters? The backbone's output when tokens are replaced, and when a concept is changed.

Reconstruction error does not tell: a small error may hit just what a diagnosis rests on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from cytosae.concepts.quality.probing import fitted_probe
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights
from cytosae.sae import SAE
from cytosae.sae.active_latents import active
from cytosae.sae.sparse import decode

Finish = Callable[[Tensor], Tensor]
"""The rest of a backbone: tokens ``(n, n_tokens, d_model)`` to its output of the same shape."""

AMPLIFIED = 3.0
"""Times the activation, where a concept is amplified."""
_BATCH = 64


@torch.no_grad()
def reconstructed(sae: SAE, tokens: Tensor) -> Tensor:
    """Tokens ``(n_cells, n_tokens, d_model)`` as the autoencoder gives them back."""
    x = tokens.float().flatten(0, 1)
    return decode(sae, active(sae, x))[-1].unflatten(0, tokens.shape[:2])


@torch.no_grad()
def changed(sae: SAE, tokens: Tensor, latent: int, factor: float) -> Tensor:
    """Tokens in which one latent is `factor` times as active; everything else, the autoencoder's error too, stays.

    ``x + (factor - 1) h_s d_s``, so that 0 removes the concept and 1 changes nothing.
    """
    x = tokens.float()
    h = sae.encode_some(x, torch.tensor([latent], device=x.device))
    return x + (factor - 1) * h * sae.W_dec[latent]


@torch.no_grad()
def pooled_output(finish: Finish, tokens: Tensor) -> NDArray[np.float32]:
    """CLS and mean patch of the backbone's output, ``(n_cells, 2 d_model)``, as DINOv2 is probed."""
    pooled = []
    for batch in tokens.split(_BATCH):
        output = finish(batch.float()).float().cpu()
        pooled.append(torch.cat([output[:, 0], output[:, 1:].mean(dim=1)], dim=1))
    return torch.cat(pooled).numpy()


@dataclass(frozen=True)
class OutputProbe:
    """A linear probe of labels on the backbone's output, fitted on some cells."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    model: LogisticRegression

    @classmethod
    def fit(cls, outputs: NDArray[np.float32], labels: NDArray[np.integer]) -> OutputProbe:
        """Fit on outputs ``(n_cells, n_features)`` and labels ``(n_cells,)``."""
        mean, deviation = outputs.mean(axis=0), outputs.std(axis=0) + 1e-6
        return cls(mean, deviation, fitted_probe((outputs - mean) / deviation, labels))

    def probabilities(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of each label, ``(n_cells, n_labels)``, in the order of ``model.classes_``."""
        return np.asarray(self.model.predict_proba((outputs - self.mean) / self.deviation))

    def balanced_accuracy(
        self, outputs: NDArray[np.float32], labels: NDArray[np.integer], draws: int = 200, seed: int = 0
    ) -> Estimate:
        """Mean over labels of the share of their cells that are recognised."""
        predicted = self.model.classes_[self.probabilities(outputs).argmax(axis=1)]
        weights = bootstrap_weights(np.arange(len(labels)), draws, seed)
        present = np.unique(labels)
        member = np.stack([labels == label for label in present]).astype(np.float64)
        cells, hits = weights @ member.T, weights @ (member * (predicted == labels)).T
        recalls = np.divide(hits, cells, out=np.full(cells.shape, np.nan), where=cells > 0)
        return Estimate.from_draws(balanced_accuracy_score(labels, predicted), np.nanmean(recalls, axis=1))
