"""Measures of the autoencoder and its directions, for which no label is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.backbones import choose_precision
from cytosae.concepts import quality as q
from cytosae.concepts.evaluation.frozen import FROZEN
from cytosae.concepts.evaluation.registry import Evaluation, Measure, measuring
from cytosae.concepts.evaluation.sampling import BATCH, LATENT_METHOD, RANDOM
from cytosae.concepts.position import patches_of, position_share
from cytosae.concepts.storage import read_datasets, read_maps
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import POSITION_SHARE

_FROZEN = tuple(FROZEN.values())
_MOST_MATCHED = 6000  # concepts that are matched one to one: the time grows with the third power


@measuring(
    Measure(
        "explained variance",
        "how much of the tokens is reconstructed; centred and pooled, so a mean predictor has 0",
        "higher",
        _FROZEN,
    ),
    Measure("L0", "active latents a token", "lower", _FROZEN),
    Measure(
        "relative reconstruction bias",
        "below 1, the L1 term has shrunk the activations",
        "",
        _FROZEN,
        source="Rajamanoharan et al. 2024",
    ),
    Measure(
        "silent latents",
        "share that is active on no token; the density is a histogram in `quality.json`",
        "lower",
        _FROZEN,
    ),
    Measure(
        "dense latents",
        "share that is active on more than 10 % of the tokens",
        "lower",
        _FROZEN,
        source="Sun et al. 2025",
    ),
)
def reconstruction(run: Evaluation) -> None:
    """Explained variance, L0, shrinkage, and on how many tokens each of all latents fires."""
    sample, config, table = run.sample, run.config, run.table
    rows = sample.draw_rows(config.token_cells)
    batches = [sample.cells["row"].to_numpy()[rows[i : i + BATCH]] for i in range(0, len(rows), BATCH)]
    mean = torch.from_numpy(sample.mean_tokens[rows].mean(axis=0))
    frequency = {}
    for method, sae in {LATENT_METHOD: run.sae, **{name: one.sae for name, one in sample.frozen.items()}}.items():
        sums = q.reconstruct(sae, run.source.stream(batches), mean, choose_precision("auto", "cpu"))
        for name, estimate in sums.estimates(config.draws, config.seed, sample.codes[rows]).items():
            table.add(name, method, estimate, len(rows))
        frequency[method] = fires = sums.frequency
        table.add("silent latents (share)", method, (fires == 0).mean(), len(fires))
        table.add("dense latents (share)", method, (fires > q.DENSE_ABOVE).mean(), len(fires))
    fires = frequency[LATENT_METHOD]
    edges = np.linspace(-6, 0, 25)
    run.details["density"] = {
        "log10_share_of_tokens": edges.tolist(),
        "latents": np.histogram(np.log10(fires[fires > 0]), edges)[0].tolist(),
        "silent": int((fires == 0).sum()),
    }
    run.per_latent["token_frequency"] = fires


@measuring(
    Measure(
        "spatial coherence",
        "do the patches of a concept lie together: Moran's I of its maps",
        "higher",
        null="shuffled patches",
        source="Moran 1950",
    )
)
def coherence(run: Evaluation) -> None:
    """Moran's I of the reference maps, and of the same activations scattered over the image; share on the image's border."""
    rng = np.random.default_rng(run.config.seed)
    coherence, scattered, border = (np.full(len(run.per_concept), np.nan) for _ in range(3))
    row_of_latent = {latent: row for row, latent in enumerate(run.per_concept["latent"])}
    for name in read_datasets(run.folder):
        latents, maps = read_maps(run.folder, name)
        for latent, stack in zip(latents, maps.astype(np.float32), strict=True):
            row = row_of_latent.get(int(latent))
            if row is None or np.isfinite(coherence[row]):  # a taught concept, or known from another data set
                continue
            shown = stack[stack.any(axis=(1, 2))]
            if not len(shown):
                continue
            mixed = rng.permuted(shown.reshape(len(shown), -1), axis=1).reshape(shown.shape)
            coherence[row], scattered[row] = (_known_mean(q.spatial_coherence(m)) for m in (shown, mixed))
            border[row] = 1 - shown[:, 1:-1, 1:-1].sum() / shown.sum()
    run.mean("spatial coherence (Moran's I)", LATENT_METHOD, coherence)
    run.mean("spatial coherence (Moran's I)", "shuffled patches", scattered)
    run.per_concept["coherence"], run.per_concept["border_share"] = coherence, border


@measuring(
    Measure(
        "position share",
        "share of a concept's variance that is the patch's place in the picture, not the cell",
        "lower",
        _FROZEN,
        null="shuffled patches",
    )
)
def position(run: Evaluation) -> None:
    """Does a concept speak of a place in the picture? Eta squared of the patch position."""
    sample = run.sample
    rows = sample.cells["row"].to_numpy()[sample.draw_rows(run.config.token_cells)]
    cells = patches_of(run.source, run.sae, rows, choose_precision("auto", "cpu"), sample.concepts)
    shares = position_share((cell[:, sample.concepts] for cell in cells), run.config.seed)
    for method, values in zip((LATENT_METHOD, "shuffled patches"), shares, strict=True):
        run.mean("position share", method, values)
    for method, one in sample.frozen.items():
        cells = patches_of(run.source, one.sae, rows, choose_precision("auto", "cpu"), one.latents)
        run.mean("position share", method, position_share(cell[:, one.latents] for cell in cells)[0])
    high = shares[0] > POSITION_SHARE
    run.table.add(f"position share above {POSITION_SHARE:g} (share of concepts)", LATENT_METHOD, high.mean(), len(high))


def _known_mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


@measuring(
    Measure(
        "concepts with a twin", "share of concepts with another in nearly the same direction, cosine above 0.9", "lower"
    ),
    Measure("groups of redundant concepts", "how many such groups there are", "lower"),
)
def redundancy(run: Evaluation) -> None:
    """Concepts whose directions are nearly the same."""
    groups = q.redundancy_groups(run.sae.W_dec.detach().numpy()[run.sample.concepts])
    size = np.bincount(groups)
    run.per_concept["redundancy_group"] = groups
    run.table.add("concepts with a twin (share)", LATENT_METHOD, (size[groups] > 1).mean(), len(groups))
    run.table.add("groups of redundant concepts", LATENT_METHOD, (size > 1).sum(), len(groups))


def other_directions(sae: SAE, against: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """Directions of other autoencoders by folder, each ``(n_latents, d_model)``.

    Raises
    ------
    CytosaeError
        Not an autoencoder, or one of another width, backbone or layer.
    """
    directions = {}
    for path in against:
        other = SAE.from_pretrained(path)
        if other.d_model != sae.d_model:
            raise CytosaeError(f"{path}: works on tokens {other.d_model} wide, this study on {sae.d_model}.")
        own_backbone, other_backbone = (model.metadata.get("backbone", {}) for model in (sae, other))
        if any(own_backbone.get(key) != other_backbone.get(key) for key in ("fingerprint", "layer")):
            raise CytosaeError(f"{path}: was trained on another backbone or layer; directions cannot be compared.")
        directions[f"{path}"] = other.W_dec.detach().numpy()
    return directions


@measuring(
    Measure(
        "reproducibility",
        "in how many of the other trainings (`--against`) a concept comes back: each is the other's nearest, cosine at "
        "least 0.7",
        "higher",
        null=RANDOM,
    ),
    Measure(
        "stability, largest cosine",
        "largest cosine with the directions of another seed or data set (`--against`)",
        "higher",
        null=RANDOM,
        source="Sharkey et al. 2022",
    ),
    Measure(
        "stability, matched cosine",
        "the same, matched one to one",
        "higher",
        null=RANDOM,
        source="Paulo and Belrose 2025",
    ),
)
def stability(run: Evaluation) -> None:
    """Are the concepts' directions among those of other autoencoders? Beside as many random directions."""
    if not run.others:
        run.table.skip("stability", "no other autoencoder to compare with (--against)")
        return
    own = run.sae.W_dec.detach().numpy()[run.sample.concepts]
    others_given, chance = (
        list(run.others.values()),
        (_random_like(others, run.config.seed) for others in run.others.values()),
    )
    for method, trainings in ((LATENT_METHOD, others_given), (RANDOM, chance)):
        cosine, share = q.reproducibility(own, trainings)
        run.mean("reproducibility (share of other trainings)", method, share)
        if method == LATENT_METHOD:
            run.per_concept["reproducibility"], run.per_concept["nearest_cosine"] = share, cosine
    if len(own) > _MOST_MATCHED:
        own = own[np.sort(np.random.default_rng(run.config.seed).permutation(len(own))[:_MOST_MATCHED])]
    for path, directions in run.others.items():
        suffix = "" if len(run.others) == 1 else f", {path}"
        for method, candidates in ((LATENT_METHOD, directions), (RANDOM, _random_like(directions, run.config.seed))):
            run.mean(f"stability, largest cosine{suffix}", method, q.best_cosines(own, candidates))
            matched = q.matched_cosines(own, candidates[_nearest(own, candidates)])
            run.mean(f"stability, matched cosine{suffix}", method, matched)


def _random_like(directions: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(directions.shape).astype(np.float32)


def _nearest(directions: NDArray[np.float32], candidates: NDArray[np.float32], each: int = 8) -> NDArray[np.int64]:
    """Candidates that are among the nearest of any direction: only these can be in a good matching."""
    unit = candidates / np.maximum(np.linalg.norm(candidates, axis=1, keepdims=True), 1e-12)
    nearest = [
        np.argpartition(-(directions[i : i + 512] @ unit.T), min(each, len(unit)) - 1, axis=1)[:, :each]
        for i in range(0, len(directions), 512)
    ]
    return np.unique(np.concatenate(nearest))
