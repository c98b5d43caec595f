"""Draw a cohort, run a study on it with the built-in backbone, and tell what was found: ``python -m demo``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.analysis import classify, show_patient
from cytosae.artefacts import write_json
from cytosae.backbones import TINY, load
from cytosae.cells import read_cells
from cytosae.cohort import BARCODES, COHORT
from cytosae.concepts import read_concepts
from cytosae.concepts.quality import Alignment, recovery
from cytosae.concepts.quality.baselines import (
    cluster_closeness,
    nonnegative_factors,
    principal_directions,
    random_directions,
    strongest,
)
from cytosae.console import say
from cytosae.sae import SAE, train
from cytosae.settings import PRESETS, BackboneConfig
from cytosae.study import RunConfig, Study, list_to, rendered
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore, embed, store_layout
from demo.diseases import STANDING, TOP, planted_diseases, standing_for

STUDY = Path("demo-study")
DRAWN = "synthetic:patients=60,cells=40,seed=0"
JUDGED = "synthetic:patients=50,cells=20,seed=1"
"""Other patients, on whose cells the planted concepts are looked for."""
TRAINING = PRESETS["recommended"]
PATIENT = "P000"
OURS, UNTRAINED = "latents of the autoencoder", "latents, untrained backbone"


def main() -> None:
    """Run the demonstration; what is up to date is skipped."""
    study = Study(STUDY, replace(RunConfig(), backbone=BackboneConfig("tiny"), train=TRAINING))
    stages = study.run(Path(DRAWN))
    summary_path = STUDY / "summary.json"
    if all(stage["skipped"] for stage in stages.values()) and summary_path.is_file():
        summary = json.loads(summary_path.read_text(encoding="utf-8"))
    else:
        say("recovery: drawing other patients, to look for the planted concepts in their cells")
        judged, _ = list_to(rendered(Path(JUDGED), STUDY / "judged"), STUDY / "judged" / "cells.parquet")
        say("recovery: the same with an untrained backbone, for comparison")
        found = planted_recovery(judged, untrained_autoencoder())
        summary = summarise(stages, len(judged), found)
        say("patients: telling their diagnoses, beside simpler means")
        summary |= patients(found.standing)
        write_json(summary_path, summary)
    tell(summary)


def untrained_autoencoder() -> Path:
    """Folder with a backbone of random weights and an autoencoder trained on its tokens of the same cells."""
    from transformers import Dinov2Config, Dinov2Model

    folder = STUDY / "untrained"
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config.from_pretrained(TINY)).save_pretrained(folder / "backbone")
    backbone = load(str(folder / "backbone"))
    embed(read_cells(STUDY / "cells.parquet"), backbone, folder / "tokens", store_layout(backbone.info))
    with_tokens = TokenStore(folder / "tokens")
    train(with_tokens, folder / "sae", TRAINING)
    with_tokens.close()
    return folder


@dataclass(frozen=True)
class Found:
    """Planted concepts recovered on patches of other patients, by the name of the scores."""

    answers: int
    """Latents that are active on a patch, on average."""
    by_all: dict[str, Alignment]
    by_strongest: dict[str, Alignment]
    """Where only the `answers` largest scores of each patch count: as much as the latents say of it."""
    standing: dict[str, list[int]]
    """The latents that stand for each planted concept."""


def planted_recovery(judged: pd.DataFrame, untrained: Path) -> Found:
    """Planted concepts recovered by the latents and by simpler directions."""
    masks = np.stack([read_concept_masks(STUDY / "judged" / path) for path in judged["concepts"]])
    truth = np.moveaxis(patch_labels(masks), 1, -1).reshape(-1, len(CONCEPTS))
    images = np.repeat(np.arange(len(judged)), len(truth) // len(judged))
    tokens = read_tokens("tiny", STUDY / "judged" / "tokens", judged)
    ours, fired = latents(STUDY / "sae", tokens)
    plain = tokens[:, 1:].flatten(0, 1).numpy()
    centred = plain - plain.mean(axis=0)
    scorers = {
        OURS: lambda: ours,
        "random directions": lambda: centred @ random_directions(plain.shape[1], ours.shape[1]),
        "principal components": lambda: centred @ principal_directions(plain),
        "non-negative factors": lambda: nonnegative_factors(plain, 64),
        "k-means": lambda: cluster_closeness(plain, 256),
        UNTRAINED: lambda: latents(
            untrained / "sae", read_tokens(str(untrained / "backbone"), untrained / "judged", judged)
        )[0],
    }
    standing = {name: [int(fired[s]) for s in best] for name, best in standing_for(ours, truth).items()}
    answers = round(float((ours > 0).sum(1).mean()))
    by_all, by_strongest = {}, {}
    for name, score in scorers.items():
        scores = score()
        by_all[name] = recovery(scores, truth, images)
        by_strongest[name] = recovery(strongest(scores, answers), truth, images)
    return Found(answers, by_all, by_strongest, standing)


def patients(standing: dict[str, list[int]]) -> dict[str, Any]:
    """The diagnoses of patients told from their barcodes, and a page on one of them."""
    barcodes = STUDY / COHORT / BARCODES
    result = classify(barcodes, STUDY / COHORT / "classification", tokens=STUDY / "tokens", leave_out="laboratory")
    page = STUDY / f"patient-{PATIENT}.html"
    show_patient(STUDY, PATIENT, page)
    left = {row["method"]: row for row in result["left_out"]["methods"]}
    return {
        "classification": [
            {**row, "left_out": {key: left[row["method"]][key] for key in ("value", "low", "high")}}
            for row in result["methods"]
        ],
        "null": result["null"],
        "diseases": planted_diseases(barcodes, standing),
        "page": str(page),
    }


def read_tokens(backbone: str, folder: Path, cells: pd.DataFrame) -> torch.Tensor:
    """Tokens of cells, ``(n_cells, n_tokens, d_model)``."""
    model = load(backbone)
    embed(cells, model, folder, store_layout(model.info))
    store = TokenStore(folder)
    tokens = store.read(np.arange(store.n_cells)).float()
    store.close()
    return tokens


def latents(folder: Path, tokens: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Activations on patches of the latents that fire at all, ``(n_patches, n_fired)``, and which these are."""
    sae = SAE.from_pretrained(folder)
    with torch.no_grad():
        h = sae.encode(sae.centred(tokens)[:, 1:].flatten(0, 1))
    fired = (h > 0).any(dim=0)
    return h[:, fired].numpy(), torch.nonzero(fired)[:, 0].numpy()


def summarise(stages: dict[str, dict[str, Any]], judged: int, found: Found) -> dict[str, Any]:
    """The figures of the demonstration."""
    data = read_concepts(STUDY / "concepts", "synthetic", matrices=False)
    concepts = int(data.var["is_concept"].sum())
    sae = stages["sae"]
    return {
        "cells": stages["cells"]["cells"],
        "patients": stages["cells"]["patients"],
        "latents": sae["n_latents"],
        "concepts": concepts,
        **{name: sae[name] for name in ("explained_variance", "l0", "dead")},
        "judged_on": judged,
        "answers": found.answers,
        "recovered": {name: _share_and_area(result) for name, result in found.by_all.items()},
        "recovered_by_strongest": {name: _share_and_area(result) for name, result in found.by_strongest.items()},
        "auroc": {
            name: {c: None if np.isnan(a) else float(a) for c, a in zip(CONCEPTS, result.area, strict=True)}
            for name, result in found.by_all.items()
        },
    }


def _share_and_area(result: Alignment) -> dict[str, float]:
    return {"share": result.fraction(), "auroc": float(np.nanmean(result.area))}


def tell(summary: dict[str, Any]) -> None:
    """Print the figures and where to look."""
    print(f"\n{summary['cells']:,} drawn cells of {summary['patients']} patients")
    print(f"concepts discovered     {summary['concepts']:,} of {summary['latents']:,} latents")
    print(f"explained variance      {summary['explained_variance']:.3f}")
    print(f"latents a token (L0)    {summary['l0']:.1f}")
    print(f"dead latents            {summary['dead']:.1%}")
    print(f"\nplanted concepts recovered (AUROC above 0.90) on {summary['judged_on']} cells of other patients,")
    print(f"by all scores of a patch and by its {summary['answers']} strongest, as many as latents are active")
    print(f"  {'':<28} {'all, mean AUROC':>18} {'strongest, mean AUROC':>24}")
    for name, of_all in summary["recovered"].items():
        few = summary["recovered_by_strongest"][name]
        print(
            f"  {name:<28} {of_all['share']:>9.0%} {of_all['auroc']:>8.3f} {few['share']:>15.0%} {few['auroc']:>8.3f}"
        )
    print("\nAUROC of the best latent for each planted concept")
    for concept, area in summary["auroc"][OURS].items():
        print(f"  {concept:<28} {'too rare here' if area is None else f'{area:.2f}'}")
    print(
        "\nweighted F1 of telling the five groups from patients never seen (in brackets: from laboratories never seen)"
    )
    for row in summary["classification"]:
        interval = f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        print(f"  {row['method']:<40} {interval}   [{row['left_out']['value']:.2f}]")
    null, diseases = summary["null"], summary["diseases"]
    print(f"  {'permuted labels':<40} {null['mean']:.2f} ({null['low']:.2f} to {null['high']:.2f})")
    print(
        f"\nplanted marks of the diseases with one of their {STANDING} latents in the top {TOP}: {diseases['share']:.0%} of "
        f"{diseases['marks']} (chance {diseases['chance']:.0%})"
    )
    print(f"\nLook at {STUDY / 'report' / 'index.html'} and, for one patient, {summary['page']}.")
    print(f"All figures are in {STUDY / 'summary.json'}.")


if __name__ == "__main__":
    main()
