"""Which latents are concepts? The rule of `cytosae.concepts.discovery` on latents whose truth is known.

``python -m benchmarks.concept_rule -o FOLDER`` trains on drawn cells, one seed after the other, and counts which latents
pass on cells of other drawn patients: those that match a planted structure; and nulls with as many active tokens: the same
activations shuffled over all tokens, directions of places in the picture, random directions, and an autoencoder that was
not trained. The bar of the concentration is chosen on the first seed and the cohort that it was trained on, as the largest
whole number that keeps every matched latent and every planted structure itself, and judged on the other seeds and
patients. Every seed is a line of ``FOLDER/rule.jsonl``; what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.backbones import load
from cytosae.cells import read_cells
from cytosae.concepts.discovery import CountMoments, concentration
from cytosae.concepts.quality import auroc
from cytosae.sae import SAE, train
from cytosae.settings import PRESETS, EncodeConfig
from cytosae.study import list_to, rendered
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore, embed, store_layout

DRAWN, JUDGED = "synthetic:patients=30,cells=40,seed=0", "synthetic:patients=25,cells=20,seed=1"
CELLS = 200
"""Of the judged patients."""
MATCHED = 0.8
"""AUROC for a planted structure, on the half of the cells on which it was chosen and on the other."""
Array = NDArray[np.float32]


def made(folder: Path, name: str, cohort: str) -> TokenStore:
    """Tokens of a drawn cohort."""
    model = load("tiny")
    cells, _ = list_to(rendered(Path(cohort), folder / name), folder / f"{name}.parquet")
    embed(cells, model, folder / "tokens" / name, store_layout(model.info))
    return TokenStore(folder / "tokens" / name)


def structures(folder: Path, name: str, n_tokens: int) -> pd.Series:
    """Concentration of the planted structures themselves: of latents that would be active on their patches alone."""
    counts = CountMoments.empty(len(CONCEPTS))
    paths = read_cells(folder / f"{name}.parquet")["concepts"]
    for path in paths:
        shown = patch_labels(read_concept_masks(folder / name / path)[None])[0].reshape(len(CONCEPTS), -1)
        counts.add(sp.csr_matrix(shown.sum(axis=1)[None]))
    return pd.Series(concentration(counts.total, counts.squares, len(paths), n_tokens), CONCEPTS).sort_values()


def at_density(scores: Array, density: NDArray[np.float64]) -> Array:
    """Scores ``(n_tokens, n_latents)`` where they are among the largest, of each latent as many as its density says."""
    kept = np.zeros_like(scores)
    for latent, share in enumerate(density):
        if count := round(share * len(scores)):
            column = scores[:, latent]
            strong = column >= np.partition(column, -count)[-count]
            kept[strong, latent] = np.maximum(column[strong], 1)  # above tau
    return kept


def kinds(sae: SAE, x: Array, seed: int) -> Iterator[tuple[str, Array]]:
    """Activations of the trained latents and of the nulls, each ``(n_tokens, n_latents)``, on tokens ``(n_cells, n, d)``."""
    rng, flat = np.random.default_rng(seed), x.reshape(-1, x.shape[2])
    with torch.no_grad():
        trained = torch.cat([sae.encode(some) for some in torch.from_numpy(flat).split(8192)]).numpy()
    yield "trained", trained
    density = rng.permutation((trained > 0).mean(axis=0))
    yield "shuffled tokens", rng.permuted(trained, axis=0)
    seen = flat - sae.b_dec.detach().numpy()
    places = (x.mean(axis=0) - flat.mean(axis=0))[1:]
    for name, directions in (
        ("places", places[rng.integers(0, len(places), sae.n_latents)]),
        ("random directions", rng.standard_normal((sae.n_latents, sae.d_model))),
    ):
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        yield name, at_density(seen @ unit.T.astype(np.float32), density)
    blank = SAE(sae.d_model, sae.n_latents)
    blank.initialise(torch.Generator().manual_seed(1000 + seed))
    pre = seen @ blank.W_enc.detach().numpy()
    active = int((trained > 0).sum())
    yield "not trained", np.where(pre >= np.partition(pre.ravel(), -active)[-active], np.maximum(pre, 1), 0)


def one(
    store: TokenStore, x: Array, planted: NDArray[np.bool_], folder: Path, seed: int, images: int
) -> dict[str, object]:
    """Concentration of the latents of a seed that enough cells show, by kind."""
    preset = replace(PRESETS["recommended"], expansion=4, batch_images=8, images=images, seed=seed)
    figures = train(store, folder, preset, device="cpu")
    n_cells, n_tokens = x.shape[:2]
    first = np.repeat(np.arange(n_cells) % 2 == 0, n_tokens - 1)
    found: dict[str, list[float | None]] = {}
    for name, h in kinds(SAE.from_pretrained(folder), x, seed):
        counts = CountMoments.empty(h.shape[1])
        cells = h.reshape(n_cells, n_tokens, -1)
        counts.add(sp.csr_matrix((cells > EncodeConfig().threshold).sum(axis=1)))
        spread = concentration(counts.total, counts.squares, n_cells, n_tokens)
        spread[counts.shown < EncodeConfig().concept_cells] = 0  # too few cells
        patches = cells[:, 1:].reshape(-1, h.shape[1])
        chosen, judged = (auroc(patches[half], planted[half]) for half in (first, ~first))
        latents, best = np.arange(h.shape[1]), np.nan_to_num(chosen, nan=-1).argmax(axis=1)
        matched = np.minimum(chosen[latents, best], judged[latents, best]) > MATCHED
        for kind, some in ((f"{name}, matched", matched), (name, ~matched)):
            found[kind] = np.nan_to_num(spread[some]).round(3).tolist()
    return {"seed": seed, "images": images, "explained_variance": figures["explained_variance"], "found": found}


def interval(kept: int, of: int) -> str:
    """Share with its 95 % interval (Wilson)."""
    z, p = 1.96, kept / max(1, of)
    middle, half = p + z**2 / (2 * of), z * (p * (1 - p) / of + z**2 / (4 * of**2)) ** 0.5
    low, high = ((middle + sign * half) / (1 + z**2 / of) for sign in (-1, 1))
    return f"{p:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--images", type=int, default=8000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    store, judged = made(given.output, "drawn", DRAWN), made(given.output, "judged", JUDGED)
    rows = np.sort(np.random.default_rng(0).permutation(judged.n_cells)[:CELLS])
    x = judged.read(rows).float().numpy()
    paths = read_cells(given.output / "judged.parquet")["concepts"].iloc[rows]
    masks = np.stack([read_concept_masks(given.output / "judged" / path) for path in paths])
    planted = np.moveaxis(patch_labels(masks), 1, -1).reshape(-1, len(CONCEPTS))
    path = given.output / "rule.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for seed in range(given.seeds):
        if not any((line["seed"], line["images"]) == (seed, given.images) for line in lines):
            lines.append(one(store, x, planted, given.output / "sae" / f"{seed}-{given.images}", seed, given.images))
            with path.open("a") as file:
                print(json.dumps(lines[-1]), file=file)
    lines = [line for line in lines if line["images"] == given.images]
    ideal = {name: structures(given.output, name, x.shape[1]) for name in ("drawn", "judged")}
    bar = int(np.floor(min(*lines[0]["found"]["trained, matched"], ideal["drawn"].iloc[0])))
    print(f"chosen on seed {lines[0]['seed']} and the structures of its patients: {bar}")
    for name, least in ideal.items():
        print(f"planted structures, {name} patients: {least.head(3).round(1).to_dict()} and more")
    table = []
    for kind in lines[0]["found"]:
        values = np.concatenate([line["found"][kind] for line in lines[1:]])
        if len(values):
            kept = {
                f"above {at:g}": interval(int((values > at).sum()), len(values)) for at in sorted({0, 1, bar, 2 * bar})
            }
            table.append({"latents": kind, "n": len(values), **kept})
    print(pd.DataFrame(table).to_string(index=False))


if __name__ == "__main__":
    main()
