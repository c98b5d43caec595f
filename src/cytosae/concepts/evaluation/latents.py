"""Measures of the autoencoder and its directions, for which no label is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.backbones import choose_precision
from cytosae.concepts import quality as q
from cytosae.concepts.evaluation.sampling import BATCH, LATENTS, RANDOM, Sample
from cytosae.concepts.evaluation.table import Table
from cytosae.concepts.quality import Estimate
from cytosae.concepts.storage import read_datasets, read_maps
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EvaluateConfig
from cytosae.tokens import TokenSource

_REDUNDANT = 0.9  # cosine
_MOST_MATCHED = 6000  # concepts that are matched one to one: the time grows with the third power


def reconstruction(
    table: Table,
    every: pd.DataFrame,
    result: dict[str, Any],
    sae: SAE,
    source: TokenSource,
    sample: Sample,
    config: EvaluateConfig,
) -> None:
    """Explained variance, L0, shrinkage, and on how many tokens each of all latents fires."""
    rows = sample.some(config.token_cells)
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    mean = torch.from_numpy(sample.mean_tokens[rows].mean(axis=0))
    stream = source.stream([sample.cells["row"].to_numpy()[b] for b in batches])
    found = q.reconstruct(sae, stream, mean, choose_precision("auto", "cpu"))
    for name, estimate in found.estimates(config.draws, config.seed, sample.codes[rows]).items():
        table.add(name, LATENTS, estimate, len(rows))
    fires = found.frequency
    table.add("silent latents (share)", LATENTS, (fires == 0).mean(), len(fires))
    table.add("dense latents (share)", LATENTS, (fires > q.DENSE).mean(), len(fires))
    edges = np.linspace(-6, 0, 25)
    counts = np.histogram(np.log10(fires[fires > 0]), edges)[0]
    result["density"] = {
        "log10_share_of_tokens": edges.tolist(),
        "latents": counts.tolist(),
        "silent": int((fires == 0).sum()),
    }
    every["token_frequency"] = fires


def coherence(table: Table, about: pd.DataFrame, folder: Path, config: EvaluateConfig) -> None:
    """Moran's I of the reference maps, and of the same activations scattered over the image; share on the image's border."""
    rng = np.random.default_rng(config.seed)
    coherence, scattered, border = (np.full(len(about), np.nan) for _ in range(3))
    place = {latent: row for row, latent in enumerate(about["latent"])}
    for name in read_datasets(folder):
        latents, maps = read_maps(folder, name)
        for latent, stack in zip(latents, maps.astype(np.float32), strict=True):
            row = place[int(latent)]
            if np.isfinite(coherence[row]):
                continue
            shown = stack[stack.any(axis=(1, 2))]
            if not len(shown):
                continue
            mixed = rng.permuted(shown.reshape(len(shown), -1), axis=1).reshape(shown.shape)
            coherence[row], scattered[row] = (_known_mean(q.spatial_coherence(m)) for m in (shown, mixed))
            border[row] = 1 - shown[:, 1:-1, 1:-1].sum() / shown.sum()
    for contender, values in ((LATENTS, coherence), ("shuffled patches", scattered)):
        n = int(np.isfinite(values).sum())
        table.add("spatial coherence (Moran's I)", contender, Estimate.mean(values, config.draws, config.seed), n)
    about["coherence"], about["border_share"] = coherence, border


def _known_mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def redundancy(table: Table, about: pd.DataFrame, sae: SAE, concepts: NDArray[np.int64]) -> None:
    groups = q.redundancy_groups(sae.W_dec.detach().numpy()[concepts], _REDUNDANT)
    size = np.bincount(groups)
    about["redundancy_group"] = groups
    table.add(
        "concepts with a twin (share)",
        LATENTS,
        (size[groups] > 1).mean(),
        len(groups),
    )
    table.add("groups of redundant concepts", LATENTS, (size > 1).sum(), len(groups))


def other_directions(sae: SAE, against: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """Directions of other autoencoders by folder, each ``(n_latents, d_model)``.

    Raises
    ------
    CytosaeError
        Not an autoencoder, or one of another width, backbone or layer.
    """
    found = {}
    for path in against:
        other = SAE.from_pretrained(path)
        if other.d_model != sae.d_model:
            raise CytosaeError(f"{path}: works on tokens {other.d_model} wide, this study on {sae.d_model}.")
        trained, theirs = (model.metadata.get("backbone", {}) for model in (sae, other))
        if any(trained.get(key) != theirs.get(key) for key in ("fingerprint", "layer")):
            raise CytosaeError(f"{path}: was trained on another backbone or layer; directions cannot be compared.")
        found[f"{path}"] = other.W_dec.detach().numpy()
    return found


def stability(
    table: Table,
    sae: SAE,
    concepts: NDArray[np.int64],
    others: Mapping[str, NDArray[np.float32]],
    config: EvaluateConfig,
) -> None:
    """Are the concepts' directions among those of other autoencoders? Beside as many random directions."""
    if not others:
        table.skip("stability", "no other autoencoder to compare with (--against)")
        return
    mine = sae.W_dec.detach().numpy()[concepts]
    if len(mine) > _MOST_MATCHED:
        mine = mine[np.sort(np.random.default_rng(config.seed).permutation(len(mine))[:_MOST_MATCHED])]
    for path, directions in others.items():
        random = np.random.default_rng(config.seed).standard_normal(directions.shape).astype(np.float32)
        suffix = "" if len(others) == 1 else f", {path}"
        for contender, candidates in ((LATENTS, directions), (RANDOM, random)):
            nearest = q.best_cosines(mine, candidates)
            table.add(f"stability, largest cosine{suffix}", contender, Estimate.mean(nearest, config.draws), len(mine))
            matched = q.matched_cosines(mine, candidates[_nearest(mine, candidates)])
            table.add(f"stability, matched cosine{suffix}", contender, Estimate.mean(matched, config.draws), len(mine))


def _nearest(mine: NDArray[np.float32], candidates: NDArray[np.float32], each: int = 8) -> NDArray[np.int64]:
    """Candidates that are among the nearest of any direction: only these can be in a good matching."""
    unit = candidates / np.maximum(np.linalg.norm(candidates, axis=1, keepdims=True), 1e-12)
    found = [
        np.argpartition(-(mine[i : i + 512] @ unit.T), min(each, len(unit)) - 1, axis=1)[:, :each]
        for i in range(0, len(mine), 512)
    ]
    return np.unique(np.concatenate(found))
