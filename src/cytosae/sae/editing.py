"""Changes to a dictionary that experts ask for: latents begin anew, are merged, split, or given to a taught concept."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae.model import SAE

_TINY = 1e-9
_STARTS = 8  # of k-means


@dataclass(frozen=True)
class Direction:
    """A taught concept: ``z = w x + b`` of a token as the autoencoder takes it, shown where ``z > threshold``."""

    weights: Tensor
    """w, ``(d_model,)``."""
    bias: float
    threshold: float
    direction: Tensor
    """How tokens change with it, of unit norm, ``(d_model,)``."""


@dataclass(frozen=True)
class Halves:
    """The tokens on which a latent is active, in two kinds."""

    centres: Tensor
    """Mean of the tokens of each kind, ``(2, d_model)``."""
    assigned: Tensor
    """Kind of each token, 0 for the larger one, ``(n_active,)``."""
    explained: float
    """Share of the variance of these tokens that lies between the two."""


@dataclass(frozen=True)
class Edited:
    """A dictionary after the changes, before the further training."""

    sae: SAE
    taught: Mapping[str, int]
    """The latent that each taught concept was given."""
    split: Mapping[int, int]
    """The latent that took the second half, by the one that keeps the first."""
    anew: tuple[int, ...]
    """Latents that begin anew as something else than what they were."""


def halves(tokens: Tensor, seed: int = 0) -> Halves:
    """Divide tokens on which a latent is active into two kinds (k-means, k = 2).

    Parameters
    ----------
    tokens
        ``(n_active, d_model)``, two different ones at least.

    Raises
    ------
    CytosaeError
        Fewer than two different tokens.

    Examples
    --------
    >>> halves(torch.tensor([[0.0, 1], [0, 1.1], [0, 0.9], [5, 0]])).assigned
    tensor([0, 0, 0, 1])
    """
    from sklearn.cluster import KMeans

    if len(torch.unique(tokens, dim=0)) < 2:
        raise CytosaeError(
            "--split: the latent is active on fewer than two different tokens; there is nothing to split."
        )
    clusters = KMeans(2, n_init=_STARTS, random_state=seed).fit(tokens.double().numpy())
    labels = torch.from_numpy(clusters.labels_).long()
    if int((labels == 0).sum()) * 2 < len(labels):
        labels = 1 - labels
    centres = torch.stack([tokens[labels == half].mean(dim=0) for half in (0, 1)])
    spread = float((tokens.double() - tokens.double().mean(dim=0)).square().sum())
    return Halves(centres, labels, 1 - float(clusters.inertia_) / max(spread, _TINY))


@torch.no_grad()
def edit(
    sae: SAE,
    x: Tensor,
    *,
    spare: Sequence[int],
    free: Sequence[int] = (),
    merge: Sequence[tuple[int, int]] = (),
    split: Mapping[int, Halves] | None = None,
    taught: Mapping[str, Direction] | None = None,
    seed: int = 0,
) -> Edited:
    """Change a copy of a dictionary.

    Parameters
    ----------
    sae
        The dictionary; stays as it is.
    x
        Random tokens as it takes them, ``(n_tokens, d_model)``.
    spare
        Latents that may be given away where freed ones do not suffice, the least needed first.
    free
        Latents that begin anew.
    merge
        Pairs; the first becomes both, weighted by their energy, the second is free.
    split
        Halves by latent; the latent keeps the larger, a free or spare one takes the other.
    taught
        Concepts by name; each gets a free or spare latent.

    Raises
    ------
    CytosaeError
        A latent is asked for twice, or there are not enough spare ones.
    """
    split, taught = split or {}, taught or {}
    named = [*free, *(latent for pair in merge for latent in pair), *split]
    if twice := {latent for latent in named if named.count(latent) > 1}:
        raise CytosaeError(f"latent {min(twice)}: is named twice. Merge, split or free a latent once.")
    edited = copy.deepcopy(sae)
    h = sae.encode(x)
    energy = h.square().sum(dim=0)
    lowest = _lowest(sae)
    for one, other in merge:
        _merge(edited, one, other, energy)
    pool = [*free, *(other for _, other in merge)]
    wanted = len(taught) + len(split)
    taken = {*named}
    pool += [latent for latent in spare if latent not in taken][: max(0, wanted - len(pool))]
    if len(pool) < wanted:
        raise CytosaeError(f"{wanted} latents are needed for taught concepts and halves, {len(pool)} are free.")
    slots = iter(pool)
    given = {name: next(slots) for name in taught}
    for name, concept in taught.items():
        _teach(edited, given[name], concept, x, lowest)
    seconds = {latent: next(slots) for latent in split}
    for latent, both in split.items():
        _split(edited, latent, seconds[latent], both, x, h[:, latent])
    left = list(slots)
    _begin_anew(edited, left, x, x - sae.decode(h), lowest, seed)
    return Edited(edited, given, seconds, tuple(sorted([*given.values(), *seconds.values(), *left])))


def _lowest(sae: SAE) -> Tensor:
    """Pre-activation up to which each latent is zero, ``(n_latents,)``."""
    lowest = sae.activation.lowest()
    return torch.zeros(sae.n_latents) if lowest is None else lowest.detach()


def _unit(direction: Tensor) -> Tensor:
    return direction / direction.norm().clamp_min(_TINY)


def _merge(sae: SAE, one: int, other: int, energy: Tensor) -> None:
    """Let a latent be two: their directions, encoders and biases, weighted by energy."""
    weights = energy[[one, other]] + _TINY
    weights = weights / weights.sum()
    pair = [one, other]
    sae.W_dec[one] = _unit(weights @ sae.W_dec[pair])
    sae.W_enc[:, one] = sae.W_enc[:, pair] @ weights
    sae.b_enc[one] = weights @ sae.b_enc[pair]


def _teach(sae: SAE, latent: int, concept: Direction, x: Tensor, lowest: Tensor) -> None:
    """Let a latent fire where a taught concept is shown, as strongly as the token lies in its direction."""
    margin = x @ concept.weights + concept.bias - concept.threshold
    shown = margin > 0
    if not shown.any():  # as strong as the patches that come nearest
        shown = margin >= margin.topk(min(8, len(margin))).values[-1]
    along = ((x - sae.b_dec) @ concept.direction)[shown].abs().mean()
    scale = along / 2 / margin[shown].abs().mean().clamp_min(_TINY)  # half: others reconstruct the rest
    sae.W_enc[:, latent] = concept.weights * scale
    bias = concept.bias - concept.threshold + concept.weights @ sae.b_dec
    sae.b_enc[latent] = bias * scale + lowest[latent]
    sae.W_dec[latent] = concept.direction


def _split(sae: SAE, latent: int, second: int, both: Halves, x: Tensor, h: Tensor) -> None:
    """Let two latents fire on a half each: away from its centre the pre-activation falls, to nothing at the other's."""
    across = both.centres[0] - both.centres[1]
    distance = across.norm().clamp_min(_TINY)
    mean = h[h > 0].mean() if (h > 0).any() else sae.W_dec.new_ones(())
    enc, bias, dec = (value.clone() for value in (sae.W_enc[:, latent], sae.b_enc[latent], sae.W_dec[latent]))
    slope = mean / distance * across / distance
    for index, sign, centre in ((latent, 1, both.centres[0]), (second, -1, both.centres[1])):
        sae.W_enc[:, index] = enc + sign * slope
        sae.b_enc[index] = bias - sign * slope @ (centre - sae.b_dec)
        sae.W_dec[index] = _unit(mean * dec + sign * across / 2)


def _begin_anew(sae: SAE, latents: Sequence[int], x: Tensor, residual: Tensor, lowest: Tensor, seed: int) -> None:
    """Let latents begin at what is reconstructed worst: residuals of tokens, drawn by their square."""
    if not latents:
        return
    generator = torch.Generator().manual_seed(seed)
    square = residual.square().sum(dim=1)
    drawn = torch.multinomial(square + _TINY, len(latents), replacement=len(latents) > len(x), generator=generator)
    for latent, token in zip(latents, drawn.tolist(), strict=True):
        direction = _unit(residual[token])
        along = ((x[token] - sae.b_dec) @ direction).clamp_min(_TINY)
        wanted = lowest[latent] + residual[token].norm()
        sae.W_dec[latent] = direction
        sae.W_enc[:, latent] = direction * (wanted / along).clamp_max(1.0)
        sae.b_enc[latent] = (wanted - sae.W_enc[:, latent] @ (x[token] - sae.b_dec)).clamp(-wanted, wanted)
