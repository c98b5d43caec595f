"""Choices of the training, each beside the paper's, at equal L0, on drawn and on real cells.

``python -m benchmarks.choices --cells TABLE --attributes TABLE -o FOLDER`` embeds drawn cells, whose concepts are known, and
real cells with attributes by experts, trains on both together, and prints what each choice recovers. Every training is a
line of ``FOLDER/runs.jsonl``; what is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.backbones import load
from cytosae.cells import read_attributes
from cytosae.concepts import cell_activations
from cytosae.concepts.quality import align, halves, recovery
from cytosae.sae import SAE, evaluate
from cytosae.sae.start import initialise, read_start, tie_encoder
from cytosae.sae.state import dead_latents, new_state
from cytosae.sae.step import step
from cytosae.sae.trainer import split_rows
from cytosae.settings import TrainConfig
from cytosae.study import list_to, rendered
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore, embed, shuffled_batches, store_layout

DRAWN, JUDGED = "synthetic:patients=30,cells=40,seed=0", "synthetic:patients=25,cells=10,seed=1"
STEPS = 1500
AT = 32
"""L0 at which choices are compared."""
PAPER = TrainConfig(
    expansion=4,
    batch_images=8,
    images=8 * STEPS,
    learning_rate=2e-3,
    warmup_steps=50,
    l1=3.2e-4,
    dead_after_tokens=500 * 8 * 257,
)
"""The paper's choices, with a learning rate for a hundredth of its images."""


@dataclass(frozen=True)
class Choice:
    """What differs from the paper's."""

    settings: dict[str, Any] = field(default_factory=dict)
    sparsity: tuple[float, ...] = (0.75, 2.0)
    """Multiples of lambda, or values of k, whose L0 lies on both sides of `AT`."""
    schedule: Callable[[float], dict[str, float]] = lambda done: {}
    """Factors of settings after a share of the steps."""
    averaged: float = 0.0
    """Decay of a moving average of the weights, which is looked at in their place."""
    scaled: bool = False
    """Tokens divided by their mean norm over the square root of their width."""
    tied: bool = False
    """Encoder from the random directions."""


CHOICES = {
    "paper": Choice(),
    "start of b_dec: mean": Choice({"b_dec_init": "mean"}),
    "start of b_dec: zeros": Choice({"b_dec_init": "zeros"}),
    "encoder tied at the start": Choice(tied=True),
    "directions of tokens, encoder tied": Choice({"directions_init": "tokens"}),
    "tokens scaled": Choice(scaled=True),
    "tokens centred by position": Choice({"centring": "position"}),
    "lambda warm-up, a fifth of the steps": Choice(schedule=lambda done: {"l1": min(1.0, done / 0.2)}),
    "learning rate falls in the last third": Choice(schedule=lambda done: {"learning_rate": min(1.0, (1 - done) * 3)}),
    "weights averaged": Choice(averaged=0.995),
    "no dead-latent loss": Choice({"dead_latent_loss": "none"}),
    "auxk": Choice({"dead_latent_loss": "auxk"}),
    "4 Matryoshka levels": Choice({"matryoshka_levels": 4}, (0.4, 1.0)),
    "topk": Choice({"objective": "topk", "dead_latent_loss": "auxk"}, (20, 50)),
    "batchtopk": Choice({"objective": "batchtopk", "dead_latent_loss": "auxk"}, (20, 50)),
    "batchtopk, directions of tokens": Choice(
        {"objective": "batchtopk", "dead_latent_loss": "auxk", "directions_init": "tokens"}, (20, 50)
    ),
    "batchtopk, learning rate falls": Choice(
        {"objective": "batchtopk", "dead_latent_loss": "auxk"},
        (20, 50),
        schedule=lambda done: {"learning_rate": min(1.0, (1 - done) * 3)},
    ),
    "batchtopk, 4 levels": Choice(
        {"objective": "batchtopk", "dead_latent_loss": "auxk", "matryoshka_levels": 4}, (20, 50)
    ),
}


def make(folder: Path, cells: Path) -> None:
    """Draw cells, and embed them and the real ones."""
    model = load("tiny")
    drawn, _ = list_to(rendered(Path(DRAWN), folder / "drawn"), folder / "drawn" / "cells.parquet")
    judged, _ = list_to(rendered(Path(JUDGED), folder / "judged"), folder / "judged" / "cells.parquet")
    real, _ = list_to(cells, folder / "real.parquet")
    for name, table in (("training", pd.concat([drawn, real], ignore_index=True)), ("judging", judged)):
        if not (folder / name / "manifest.json").is_file():
            embed(table, model, folder / name, store_layout(model.info))


class Bench:
    """Tokens, truth and judgement, of what `make` made.

    Parameters
    ----------
    folder
        Where it is.
    attributes
        Table of the real cells' attributes.
    """

    def __init__(self, folder: Path, attributes: Path) -> None:
        self.source = TokenStore(folder / "training")
        given = read_attributes(attributes, self.source.cells)
        self.attributed = np.flatnonzero(given.notna().any(axis=1).to_numpy())
        self.truth = pd.get_dummies(given.iloc[self.attributed]).to_numpy(bool)
        self.truth = self.truth[:, np.minimum(self.truth.sum(0), (~self.truth).sum(0)) >= 40]
        store = TokenStore(folder / "judging")
        masks = np.stack([read_concept_masks(folder / "judged" / path) for path in store.cells["concepts"]])
        self.planted = np.moveaxis(patch_labels(masks), 1, -1).reshape(-1, len(CONCEPTS))
        self.tokens = store.read(np.arange(store.n_cells)).float()
        self.images = np.repeat(np.arange(store.n_cells), self.tokens.shape[1] - 1)

    def judge(self, sae: SAE, rows: NDArray[np.int64], objective: str) -> dict[str, float]:
        """Figures on held-out cells, planted concepts of other patients, attributes of real cells."""
        held = evaluate(sae, map(sae.centred, self.source.stream([rows])), objective)
        with torch.no_grad():
            h = sae.encode(sae.centred(self.tokens)[:, 1:].flatten(0, 1))
        planted = recovery(h[:, (h > 0).any(0)].numpy(), self.planted, self.images)
        pieces = np.array_split(self.attributed, len(self.attributed) // 32)
        means = [cell_activations(sae, sae.centred(tokens), 0.2)[1].toarray() for tokens in self.source.stream(pieces)]
        choosing = halves(len(self.attributed))
        found = align(np.concatenate(means), self.truth, choosing, draws=0)
        return {
            "explained_variance": held["explained_variance"],
            "l0": held["l0"],
            "planted": planted.fraction(),
            "planted_auroc": float(np.nanmean(planted.area)),
            "attributes": float(np.nanmean(found.area)),
        }


@cache
def bench(folder: Path, attributes: Path) -> Bench:
    """One for each process."""
    torch.set_num_threads(1)
    return Bench(folder, attributes)


def scale_of(x: Tensor) -> float:
    """What brings the mean norm of tokens ``(n, d_model)`` to the square root of their width."""
    return float(x.shape[1] ** 0.5 / x.norm(dim=1).mean())


@torch.no_grad()
def unscale(sae: SAE, scale: float) -> None:
    """An autoencoder of scaled tokens for the tokens as they are: latents grow by as much as tokens do."""
    sae.b_enc.div_(scale)
    sae.b_dec.div_(scale)


def trained(source: TokenStore, choice: Choice, sparsity: float, seed: int) -> tuple[SAE, float, NDArray[np.int64]]:
    """An autoencoder, its dead share, and the held-out rows."""
    config = replace(PAPER, **choice.settings, seed=seed)
    by_k = config.objective in ("topk", "batchtopk")
    config = replace(config, k=int(sparsity)) if by_k else replace(config, l1=PAPER.l1 * sparsity)
    training, held, _ = split_rows(source, config)
    state = new_state(config, source.layout.d_model, torch.device("cpu"), n_tokens=source.layout.n_tokens)
    start = read_start(source, training, config)
    if state.sae.position_offset is not None and start.offset is not None:
        state.sae.position_offset.copy_(start.offset)
    x = state.sae.centred(start.tokens).flatten(0, 1)
    scale = scale_of(x) if choice.scaled else 1.0
    initialise(state, x * scale, config)
    if choice.tied:
        tie_encoder(state.sae, x * scale - state.sae.b_dec, torch.Generator().manual_seed(seed))
    average = deepcopy(state.sae) if choice.averaged else None
    tokens = source.stream(shuffled_batches(training, config.batch_images, seed))
    for number in range(config.steps):
        factors = choice.schedule(number / config.steps)
        now = replace(config, **{name: getattr(config, name) * factor for name, factor in factors.items()})
        step(state, state.sae.centred(next(tokens)).flatten(0, 1) * scale, now)
        if average is not None:
            with torch.no_grad():
                for mean, value in zip(average.parameters(), state.sae.parameters(), strict=True):
                    mean.lerp_(value, 1 - min(choice.averaged, number / (number + 10)))
    tokens.close()
    sae = state.sae
    if average is not None:
        average.normalise_decoder()
        sae = average
    unscale(sae, scale)
    return sae, len(dead_latents(state, config)) / sae.n_latents, held


def one(where: tuple[Path, Path], name: str, sparsity: float, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    ground = bench(*where)
    choice = CHOICES[name]
    sae, dead, held = trained(ground.source, choice, sparsity, seed)
    objective = choice.settings.get("objective", PAPER.objective)
    return {
        "choice": name, "sparsity": sparsity, "seed": seed, "dead": dead, **ground.judge(sae, held, objective),
    }  # fmt: skip


def at_equal_l0(runs: pd.DataFrame) -> pd.DataFrame:
    """Every measure where L0 is `AT`, mean and deviation over seeds, by linear interpolation in the logarithm of L0."""
    measures = ["explained_variance", "planted", "planted_auroc", "attributes", "dead"]
    rows = []
    for (name, seed), some in runs.groupby(["choice", "seed"], sort=False):
        some = some.sort_values("l0")
        place = np.log(AT)
        if not some["l0"].min() <= AT <= some["l0"].max():
            print(f"{name}, seed {seed}: L0 {some['l0'].round(1).tolist()} is not on both sides of {AT}")
        rows.append(
            {"choice": name, **{m: np.interp(place, np.log(some["l0"]), some[m]) for m in measures}}
        )  # fmt: skip
    grouped = pd.DataFrame(rows).groupby("choice", sort=False)
    return grouped.mean().join(grouped.std(), rsuffix=" sd").join(grouped.size().rename("seeds"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--attributes", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    make(given.output, given.cells)
    path = given.output / "runs.jsonl"
    runs = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    made = {(run["choice"], run["sparsity"], run["seed"]) for run in runs}
    wanted = [
        (name, float(value), seed)
        for seed in range(given.seeds)
        for name in given.choices
        for value in CHOICES[name].sparsity
    ]
    with ProcessPoolExecutor(torch.get_num_threads()) as pool, path.open("a") as file:
        jobs = [pool.submit(one, (given.output, given.attributes), *each) for each in wanted if each not in made]
        for job in as_completed(jobs):
            runs.append(job.result())
            print(json.dumps(runs[-1]), file=file, flush=True)
    some = pd.DataFrame(runs)
    print(at_equal_l0(some[some["choice"].isin(given.choices)]).round(4).to_string())


if __name__ == "__main__":
    main()
