"""Draw a cohort, run a study on it with the built-in backbone, and tell what was found: ``python -m demo``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytosae.artefacts import write_json
from cytosae.cells.synthetic import CONCEPTS, read_concept_masks, token_truth
from cytosae.concepts import is_concept, read_concepts
from cytosae.concepts.recovery import (
    Recovery,
    cluster_closeness,
    nonnegative_factors,
    principal_components,
    random_directions,
    recovery,
)
from cytosae.console import say
from cytosae.sae import SAE
from cytosae.settings import BackboneConfig, TrainConfig
from cytosae.study import RunConfig, Study
from cytosae.tokens import TokenStore

STUDY = Path("demo-study")
COHORT = "synthetic:patients=20,cells=30,seed=0"
JUDGED = 200  # cells on which planted concepts are looked for
COVERED = 0.1  # share of a patch that a planted structure has to cover


def main() -> None:
    """Run the demonstration; what is up to date is skipped."""
    training = TrainConfig(expansion=8, images=19_200, l1=8e-4, learning_rate=1e-3, warmup_steps=50, evaluate_every=100)
    study = Study(STUDY, replace(RunConfig(), backbone=BackboneConfig("tiny"), train=training))
    stages = study.run(Path(COHORT))
    summary_path = STUDY / "summary.json"
    if all(stage["skipped"] for stage in stages.values()) and summary_path.is_file():
        summary = json.loads(summary_path.read_text(encoding="utf-8"))
    else:
        say("recovery: looking for the planted concepts")
        summary = summarise(stages, planted_recovery())
        write_json(summary_path, summary)
    tell(summary)


def planted_recovery() -> dict[str, Recovery]:
    """Planted concepts recovered on patches of the cohort by the latents and by simpler directions."""
    store, sae = TokenStore(STUDY / "tokens"), SAE.from_pretrained(STUDY / "sae")
    rows = np.sort(np.random.default_rng(0).permutation(store.n_cells)[:JUDGED])
    folder = STUDY / "cohort"
    masks = np.stack([read_concept_masks(folder / path) for path in store.cells["concepts"].iloc[rows]])
    truth = np.moveaxis(token_truth(masks), 1, -1).reshape(-1, len(CONCEPTS)) > COVERED
    tokens = store.read(rows)[:, 1:].float().flatten(0, 1)
    images = np.repeat(np.arange(len(rows)), tokens.shape[0] // len(rows))
    store.close()
    with torch.no_grad():
        latents = sae.encode(tokens).numpy()
    fired = latents[:, (latents > 0).any(axis=0)]
    plain = tokens.numpy()
    scores = {
        "latents of the autoencoder": fired,
        "random directions": random_directions(plain, fired.shape[1]),
        "principal components": principal_components(plain),
        "non-negative factors": nonnegative_factors(plain, 64),
        "k-means": cluster_closeness(plain, 256),
    }
    return {name: recovery(values, truth, images) for name, values in scores.items()}


def summarise(stages: dict[str, dict[str, Any]], found: dict[str, Recovery]) -> dict[str, Any]:
    """The figures of the demonstration."""
    data = read_concepts(STUDY / "concepts", "synthetic", backed=True)
    concepts = int(is_concept(data.var["mean_activation"]).sum())
    data.file.close()
    sae = stages["sae"]
    return {
        "cells": stages["cells"]["cells"],
        "patients": stages["cells"]["patients"],
        "latents": sae["n_latents"],
        "concepts": concepts,
        **{name: sae[name] for name in ("explained_variance", "l0", "dead")},
        "recovered": {name: result.share() for name, result in found.items()},
        "auroc": {
            name: {c: None if np.isnan(a) else float(a) for c, a in zip(CONCEPTS, result.area, strict=True)}
            for name, result in found.items()
        },
    }


def tell(summary: dict[str, Any]) -> None:
    """Print the figures and where to look."""
    print(f"\n{summary['cells']:,} drawn cells of {summary['patients']} patients")
    print(f"concepts discovered     {summary['concepts']:,} of {summary['latents']:,} latents")
    print(f"explained variance      {summary['explained_variance']:.3f}")
    print(f"latents a token (L0)    {summary['l0']:.1f}")
    print(f"dead latents            {summary['dead']:.1%}")
    print("\nplanted concepts recovered on unseen cells (AUROC above 0.90)")
    for name, share in summary["recovered"].items():
        print(f"  {name:<28} {share:.0%}")
    print("\nAUROC of the best latent for each planted concept")
    for concept, area in summary["auroc"]["latents of the autoencoder"].items():
        print(f"  {concept:<28} {'too rare here' if area is None else f'{area:.2f}'}")
    print(f"\nLook at {STUDY / 'report' / 'index.html'}; all figures are in {STUDY / 'summary.json'}.")


if __name__ == "__main__":
    main()
