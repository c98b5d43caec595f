"""Counts are those of float64, however the sums are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cytosae.concepts import cell_activations
from cytosae.sae import SAE
from cytosae.sae.objectives import OBJECTIVES
from cytosae.settings import TrainConfig

D, LATENTS, CELLS, N_TOKENS, TAU = 192, 400, 6, 50, 0.2
KINDS = ["release", "batchtopk", "jumprelu"]


def on_the_edge(objective: str) -> tuple[SAE, Tensor, Tensor]:
    """An autoencoder, tokens, and latents in float64 `(CELLS * N_TOKENS, LATENTS)`; each latent has a token within float32's
    rounding of the threshold from which it counts.
    """
    generator = torch.Generator().manual_seed(0)
    sae = SAE(D, LATENTS, activation=OBJECTIVES[objective].activation(TrainConfig(objective=objective)).sized(LATENTS))
    tokens = 3 * torch.randn(CELLS, N_TOKENS, D, generator=generator)
    edge = TAU
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(D, LATENTS, generator=generator))
        sae.b_dec.copy_(torch.randn(D, generator=generator))
        if objective != "release":  # far above tau
            sae.activation.load_state_dict({"log_threshold": torch.ones(LATENTS)})
            edge = float(torch.ones(LATENTS).exp()[0])
        pre = (tokens.flatten(0, 1).double() - sae.b_dec.double()) @ sae.W_enc.double()
        token = torch.arange(LATENTS) % (CELLS * N_TOKENS)
        sae.b_enc.copy_(edge - pre[token, torch.arange(LATENTS)])
        exact = pre + sae.b_enc.double()
    return sae, tokens, exact * (exact > max(edge, float(np.float32(TAU))))


@pytest.mark.parametrize("objective", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_counts_are_those_of_float64(objective: str, dtype: str) -> None:
    sae, tokens, exact = on_the_edge(objective)
    wanted = (exact > 0).unflatten(0, (CELLS, N_TOKENS)).sum(dim=1).numpy()
    with torch.no_grad():
        dense = (sae.encode(tokens) > TAU).sum(dim=1).numpy()
    counts, means = cell_activations(sae, tokens, TAU, dtype)
    assert (dense != wanted).sum() > 10  # float32 alone differs
    np.testing.assert_array_equal(counts.toarray(), wanted)
    if objective != "release":  # what is below its threshold is zero
        expected = exact.unflatten(0, (CELLS, N_TOKENS)).mean(dim=1)
        np.testing.assert_allclose(means.toarray(), expected.numpy(), rtol=1e-4, atol=1e-6)
