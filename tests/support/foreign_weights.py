"""An autoencoder of a few latents, and its equations computed by hand."""

from __future__ import annotations

import numpy as np
import torch

from cytosae.sae import SAE
from cytosae.sae.objectives import BatchTopK, Gated, JumpReLU, ReLU, TopK
from support.training import NAMES

D, S, N = 12, 40, 30


def arrays(seed: int = 0) -> dict[str, torch.Tensor]:
    """W_enc, b_enc, W_dec, b_dec with everything different from 0, as a training leaves them."""
    draw = torch.Generator().manual_seed(seed)
    values = {
        "W_enc": torch.randn(D, S, generator=draw),
        "b_enc": torch.randn(S, generator=draw),
        "W_dec": torch.randn(S, D, generator=draw),
        "b_dec": torch.randn(D, generator=draw),
    }
    values["W_dec"] /= values["W_dec"].norm(dim=1, keepdim=True)
    return values


def tokens() -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(99)) * 2


def by_hand(
    W_enc: torch.Tensor, b_enc: torch.Tensor, W_dec: torch.Tensor, b_dec: torch.Tensor, *, centred: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Latents and reconstruction, token by token and latent by latent, in float64."""
    E, e, Dm, d, x = (value.detach().double().numpy() for value in (W_enc, b_enc, W_dec, b_dec, tokens()))
    h = np.zeros((N, S))
    for i in range(N):
        for s in range(S):
            h[i, s] = max(0.0, sum((x[i, k] - (d[k] if centred else 0)) * E[k, s] for k in range(D)) + e[s])
    return h, np.stack([d + sum(h[i, s] * Dm[s] for s in range(S)) for i in range(N)])


def gate() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    return {name: torch.randn(S, generator=draw) / 2 for name in ("b_gate", "r_mag", "b_mag")}


def thresholds() -> torch.Tensor:
    return torch.rand(S, generator=torch.Generator().manual_seed(8)) + 0.2


def activation_by_hand(
    kind: str, *, centred: bool = True, k: int = 4, threshold: torch.Tensor | None = None, rescaled: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Latents and reconstruction of an activation, token by token, in float64."""
    a = {name: value.double().numpy() for name, value in {**arrays(), **gate()}.items()}
    h = np.zeros((N, S))
    norms = np.linalg.norm(a["W_dec"], axis=1) if rescaled else np.ones(S)
    theta = (thresholds() if threshold is None else threshold.expand(S)).double().numpy()
    for i, x in enumerate(tokens().double().numpy()):
        product = (x - a["b_dec"] * centred) @ a["W_enc"]
        p = (product + a["b_enc"]) * norms
        if kind == "topk":
            largest = np.argsort(-p)[:k]
            h[i, largest] = np.maximum(p[largest], 0)
        elif kind == "jumprelu":
            h[i] = np.where(p > theta, np.maximum(p, 0), 0)
        elif kind == "gated":
            h[i] = np.where(product + a["b_gate"] > 0, np.maximum(np.exp(a["r_mag"]) * product + a["b_mag"], 0), 0)
    return h, (h / norms) @ a["W_dec"] + a["b_dec"]


def agrees(sae: SAE, expected: tuple[np.ndarray, np.ndarray]) -> None:
    reconstruction, h = sae(tokens())
    np.testing.assert_allclose(h.detach().numpy(), expected[0], atol=2e-5)
    np.testing.assert_allclose(reconstruction.detach().numpy(), expected[1], atol=2e-5)
    assert 0.05 < (expected[0] > 0).mean() < 0.8


def same_bytes(sae: SAE, weights: dict[str, torch.Tensor]) -> None:
    for name in NAMES:
        mine = getattr(sae, name).detach().contiguous().numpy().tobytes()
        assert mine == weights[name].detach().contiguous().numpy().tobytes(), name


def made_by(kind: str) -> SAE:
    """An autoencoder with this activation, as a training leaves it."""
    activation = {
        "relu": ReLU(),
        "topk": TopK(4),
        "batchtopk": BatchTopK(6),
        "jumprelu": JumpReLU(0.03),
        "gated": Gated(),
    }[kind]
    sae = SAE(D, S, activation=activation)
    own = {"log_threshold": (thresholds() if kind == "jumprelu" else torch.full((S,), 0.7)).log(), **gate()}
    state = {**arrays(), **{name: own[name] for name, _ in activation.named_parameters()}}
    sae.take({**state, "b_enc": own["b_gate"]} if kind == "gated" else state)
    return sae
