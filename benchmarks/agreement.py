"""Can an autoencoder be taught not to mind the laboratory? Two trainings that were tried, beside the plain one.

``python -m benchmarks.agreement STUDY... -o FOLDER``: each study is one of ``cytosae run synthetic:patients=60,cells=30,
laboratories=4,seed=N``, whose tokens are taken. Of each, autoencoders are trained from the same start:

- *plain*: the loss alone;
- *agreement W*: patches of a cell and of the same cell in another stain and light are to have the same latents. Added is W
  times the reconstruction term times ``sum (h - h')^2 / sum (h^2 + h'^2)``, h and h' the latents of the two views;
- *level W*: the first of two Matryoshka levels may not tell the laboratory. Added is W times the reconstruction term times
  the share of its latents' variance that lies between the laboratories of a batch; its latents alone make the barcodes.

The views of the agreement are of random stain and light; those by which `cytosae.concepts.response` judges latents are fixed
ones. Every autoencoder is a line of ``FOLDER/agreement.jsonl``; what is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.analysis.study_features import Rows, study_rows
from cytosae.backbones import load
from cytosae.cells import RESPONSES, load_squashed, readings
from cytosae.cells.perturbations import dim, stain
from cytosae.cohort import ALONE, AT_HAND, harmonised, left_out_laboratories, patients_fitter, within_laboratories
from cytosae.concepts import cell_activations
from cytosae.concepts.response import MORPHOLOGY, ResponseSums
from cytosae.sae import SAE, backends, loss, sparse
from cytosae.sae.metrics import evaluate
from cytosae.sae.start import begin_from, read_start
from cytosae.sae.state import new_state
from cytosae.sae.training import own_random_numbers
from cytosae.settings import PRESETS, ClassifyConfig, LaboratoryConfig, TrainConfig
from cytosae.storage import resolve_path
from cytosae.tokens import TokenStore, shuffled_batches
from cytosae.tokens.live import embed_batch

WAYS = ("plain", "agreement", "level")
TAU, SIZE = 0.2, 224
PAIRED, PATCHES, TOGETHER = 128, 64, 768
"""Cells of which views are made, patches of each that are kept, and pairs that take part in a step."""
RESPONDING = 60
"""Cells by which the stain response is measured."""

Term = Callable[[SAE, Tensor, NDArray[np.int64]], Tensor]
"""What is added to the loss, in units of the reconstruction: autoencoder, tokens ``(n, d_model)``, laboratory of each."""


@dataclass(frozen=True)
class Drawn:
    """A study of drawn patients of several laboratories."""

    folder: Path

    @cached_property
    def store(self) -> TokenStore:
        return TokenStore(self.folder / "tokens")

    @cached_property
    def rows(self) -> Rows:
        return study_rows(self.folder, "diagnosis", LaboratoryConfig(laboratory="laboratory"))

    @cached_property
    def laboratory(self) -> NDArray[np.int64]:
        """Of each cell, ``(n_cells,)``."""
        return np.asarray(pd.factorize(self.store.cells["laboratory"].astype(str), sort=True)[0], np.int64)

    @cached_property
    def training(self) -> NDArray[np.int64]:
        """Nineteen of twenty cells; the others judge the reconstruction."""
        return np.sort(np.random.default_rng([7, 1]).permutation(self.store.n_cells)[self.store.n_cells // 20 :])

    def pixels(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        cells = self.store.cells.iloc[rows]
        return [
            load_squashed(resolve_path(path), SIZE, how)
            for path, how in zip(cells["path"], readings(cells), strict=True)
        ]

    def tokens(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Of pictures, as the store has them, ``(n, n_tokens, d_model)``."""
        backbone, names = load("tiny"), [f"{place}" for place in range(len(pictures))]
        parts = [np.stack(pictures[i : i + 16]) for i in range(0, len(pictures), 16)]
        made = [embed_batch(backbone, torch.from_numpy(one), names, self.store.layout.dtype) for one in parts]
        return torch.cat(made).float()

    @cached_property
    def pairs(self) -> Tensor:
        """Tokens of a cell and of the same cell restained, ``(n_pairs, 2, d_model)``; of training cells."""
        rng = np.random.default_rng([7, 2])
        rows = np.sort(rng.permutation(self.training)[:PAIRED])
        pictures = self.pixels(rows)
        views = [_restained(picture, rng) for picture in pictures]
        patches = torch.from_numpy(rng.permuted(np.tile(np.arange(257), (PAIRED, 1)), axis=1)[:, :PATCHES])
        both = torch.stack([self.tokens(pictures), self.tokens(views)], dim=2)
        return both.gather(1, patches[:, :, None, None].expand(-1, -1, 2, both.shape[3])).flatten(0, 1)

    @cached_property
    def responses(self) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Tokens of some cells, and of each of the fixed pictures of the same cells, by kind; ``(n, 257, d)`` each."""
        rows = np.sort(np.random.default_rng([7, 3]).permutation(self.store.n_cells)[:RESPONDING])
        pictures = self.pixels(rows)
        changed = {
            kind: [self.tokens([change(one) for one in pictures]) for change in changes.values()]
            for kind, changes in RESPONSES.items()
        }
        return self.tokens(pictures), changed


def _restained(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    red, green, blue = np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.2, 0.2, 3)).tolist()
    return dim(stain(pixels, (red, green, blue)), float(rng.uniform(0.75, 1.0)))


def agreement(pairs: Tensor, seed: int = 0) -> Term:
    """Disagreement of the latents of two views, 0 where they are the same and 1 where they have none in common."""
    generator = torch.Generator().manual_seed(seed)

    def term(sae: SAE, x: Tensor, laboratory: NDArray[np.int64]) -> Tensor:
        some = pairs[torch.randint(len(pairs), (TOGETHER,), generator=generator)]
        first, second = (sae.encode(some[:, side]) for side in (0, 1))
        total = first.square().sum() + second.square().sum()
        return (first - second).square().sum() / total.clamp_min(1e-9)

    return term


def level(seed: int = 0) -> Term:
    """Share of the variance of the first half of the latents that lies between laboratories, 0 to 1."""
    generator = torch.Generator().manual_seed(seed)

    def term(sae: SAE, x: Tensor, laboratory: NDArray[np.int64]) -> Tensor:
        chosen = torch.randperm(len(x), generator=generator)[: 2 * TOGETHER]
        h = sae.encode(x[chosen])[:, : sae.n_latents // 2]
        codes = torch.from_numpy(laboratory)[chosen]
        away, between = h - h.mean(dim=0), h.new_zeros(h.shape[1])
        for code in codes.unique():
            own = codes == code
            between = between + own.sum() * away[own].mean(dim=0).square()
        return between.sum() / away.square().sum().clamp_min(1e-9)

    return term


def trained(study: Drawn, config: TrainConfig, weight: float = 0.0, term: Term | None = None) -> SAE:
    """An autoencoder of the study's tokens, with ``weight * reconstruction * term`` beside its loss."""
    store, codes = study.store, study.laboratory
    with own_random_numbers(config.seed):
        state = new_state(config, store.layout.d_model, torch.device("cpu"), n_tokens=store.layout.n_tokens)
        begin_from(read_start(store, study.training, config), state, config)
        batches = shuffled_batches(study.training, config.batch_images, config.seed)
        own = shuffled_batches(study.training, config.batch_images, config.seed)
        for done, tokens in zip(range(1, config.steps + 1), store.stream(batches), strict=False):
            laboratory = np.repeat(codes[next(own)], tokens.shape[1])

            def backward(sae: SAE, x: Tensor, terms: Any, laboratory: NDArray[np.int64] = laboratory) -> Any:
                fast = state.l0 <= sparse.DENSE_ABOVE * sae.n_latents
                figures = (sparse if fast else loss).backward(sae, x, terms)
                if term is not None:
                    (weight * figures.reconstruction * term(sae, x, laboratory)).backward()
                return figures

            x = tokens.float().flatten(0, 1)
            figures = backends.plain(state, x, config, backward)
            state.sae.activation.after_step(figures.limit, done)
            state.since_fired.add_(len(x)).masked_fill_(figures.fired, 0)
            state.l0, state.step = figures.l0, done
    return state.sae.requires_grad_(False)


def barcodes(study: Drawn, sae: SAE, latents: slice) -> list[NDArray[np.floating]]:
    """log(1 + .) of mean counts and of shares of cells of the study's patients, ``(n_patients, n_latents)`` each."""
    counts = sp.vstack(
        [
            cell_activations(sae, tokens.float(), TAU)[0]
            for tokens in study.store.stream(np.array_split(np.arange(study.store.n_cells), study.store.n_cells // 32))
        ]
    ).tocsr()[:, latents]
    patient = study.store.cells["patient"].astype(str).to_numpy()
    task = study.rows.task
    assert task is not None
    own = [counts[patient == name] for name in task.data.obs["patient"].astype(str)]
    return [
        np.log1p(np.stack([np.asarray(one.mean(axis=0)).ravel() for one in own])),
        np.log1p(np.stack([np.asarray((one > 0).mean(axis=0)).ravel() for one in own])),
    ]


def figures(study: Drawn, sae: SAE, latents: slice, objective: str) -> dict[str, Any]:
    """Reconstruction, stain response, and weighted F1 with intervals."""
    held = np.setdiff1d(np.arange(study.store.n_cells), study.training)
    with torch.no_grad():
        found: dict[str, Any] = evaluate(sae, study.store.stream([held]), objective)
        first, changed = study.responses
        sums = ResponseSums(sae.n_latents, {kind: len(tokens) for kind, tokens in changed.items()})
        sums.add(
            _counts(sae, first), {kind: np.stack([_counts(sae, one) for one in own]) for kind, own in changed.items()}
        )
    words = sums.response().words()[latents]
    found |= {"morphology": words.count(MORPHOLOGY), "seen": sum(word is not None for word in words)}
    rows, blocks = study.rows, barcodes(study, sae, latents)
    assert rows.task is not None
    codes, n = rows.laboratories.codes, len(rows.classes)
    fit = patients_fitter(rows.task, ClassifyConfig(bootstrap=500))
    tries = {ALONE: ("none", True), AT_HAND: ("standardise", False)}
    for name, (method, alone) in tries.items():
        scores = left_out_laboratories(
            lambda out, method=method, alone=alone: harmonised(blocks, codes, method, out, alone=alone),  # type: ignore[misc]
            rows.target,
            codes,
            rows.units,
            fit,
            n,
        )
        found[name] = _with_interval(scores.predictions.f1(500, 0))
    within = within_laboratories(blocks, rows.target, codes, rows.units, fit, n)
    return found | {"within": _with_interval(within.predictions.f1(500, 0))}


def _counts(sae: SAE, tokens: Tensor) -> NDArray[np.float64]:
    return np.asarray(cell_activations(sae, tokens, TAU)[0].toarray(), np.float64)


def _with_interval(estimate: Any) -> list[float]:
    return [round(float(one), 4) for one in (estimate.value, estimate.low, estimate.high)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=9600)
    parser.add_argument("--weights", type=float, nargs="*", default=[0.1, 0.3, 1.0])
    parser.add_argument(
        "--ways", nargs="*", choices=("plain", "agreement", "level"), default=["plain", "agreement", "level"]
    )
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "agreement.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    known = {(line["study"], line["way"], line["weight"], line["images"]) for line in lines}
    config = replace(PRESETS["recommended"], images=given.images, learning_rate=1e-3)
    for folder in given.studies:
        study, whole = Drawn(folder), slice(None)
        for way in given.ways:
            for weight in given.weights if way != "plain" else [0.0]:
                if (folder.name, way, weight, given.images) in known:
                    continue
                levels = 2 if way == "level" else 1
                term = None if way == "plain" else level() if way == "level" else agreement(study.pairs)
                sae = trained(study, replace(config, matryoshka_levels=levels), weight, term)
                latents = slice(sae.n_latents // 2) if way == "level" else whole
                about = {"study": folder.name, "way": way, "weight": weight, "images": given.images}
                line = about | figures(study, sae, latents, config.objective)
                with path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
