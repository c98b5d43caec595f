"""What the demonstration's study recovers of what was planted, beside simpler means: ``python -m demo.measure``.

It needs the study of ``python -m demo``, and makes it where it is not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.analysis import classify
from cytosae.artefacts import write_json
from cytosae.backbones import TINY, load
from cytosae.cells import read_cells
from cytosae.cohort import BARCODES, COHORT
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
from cytosae.settings import PRESETS
from cytosae.study import list_to, rendered
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore, embed, store_layout
from demo.diseases import STANDING, TOP, planted_diseases, standing_for
from demo.study import BACKBONE, STUDY, make_study, tell_methods

JUDGED = "synthetic:patients=50,cells=20,seed=1"
"""Other patients, on whose cells the planted concepts are looked for."""
OURS, UNTRAINED = "latents of the autoencoder", "latents, untrained backbone"


def main() -> None:
    """Measure; what was measured on this study already is told again."""
    path = STUDY / "measured.json"
    skipped = all(stage["skipped"] for stage in make_study().values())
    if skipped and path.is_file():
        tell(json.loads(path.read_text(encoding="utf-8")))
        return
    say("recovery: drawing other patients, to look for the planted concepts in their cells")
    judged, _ = list_to(rendered(Path(JUDGED), STUDY / "judged"), STUDY / "judged" / "cells.parquet")
    say("recovery: the same with an untrained backbone, for comparison")
    found = planted_recovery(judged, untrained_autoencoder())
    say("patients: from laboratories that are left out, and the marks of their diseases")
    measured = {**summarise(len(judged), found), **patients(found.standing)}
    write_json(path, measured)
    tell(measured)


def untrained_autoencoder() -> Path:
    """Folder with a backbone of random weights and an autoencoder trained on its tokens of the same cells."""
    from transformers import Dinov2Config, Dinov2Model

    folder = STUDY / "untrained"
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config.from_pretrained(TINY)).save_pretrained(folder / "backbone")
    backbone = load(str(folder / "backbone"))
    embed(read_cells(STUDY / "cells.parquet"), backbone, folder / "tokens", store_layout(backbone.info))
    with_tokens = TokenStore(folder / "tokens")
    train(with_tokens, folder / "sae", PRESETS["recommended"])
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
    tokens = read_tokens(BACKBONE, STUDY / "judged" / "tokens", judged)
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
    """Diagnoses told from barcodes where a laboratory is left out, and the marks that the barcodes of the diseases show."""
    barcodes = STUDY / COHORT / BARCODES
    folder = STUDY / COHORT / "laboratories"
    result = classify(barcodes, folder, tokens=STUDY / "tokens", leave_out="laboratory")
    return {
        "classification": result["methods"],
        "left_out": result["left_out"]["methods"],
        "null": result["null"],
        "diseases": planted_diseases(barcodes, standing),
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


def summarise(judged: int, found: Found) -> dict[str, Any]:
    """The figures of the recovery."""
    return {
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


def tell(measured: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"\nplanted concepts recovered (AUROC above 0.90) on {measured['judged_on']} cells of other patients,")
    print(f"by all scores of a patch and by its {measured['answers']} strongest, as many as latents are active")
    print(f"  {'':<28} {'all, mean AUROC':>18} {'strongest, mean AUROC':>24}")
    for name, of_all in measured["recovered"].items():
        few = measured["recovered_by_strongest"][name]
        print(
            f"  {name:<28} {of_all['share']:>9.0%} {of_all['auroc']:>8.3f} {few['share']:>15.0%} {few['auroc']:>8.3f}"
        )
    print("\nAUROC of the best latent for each planted concept")
    for concept, area in measured["auroc"][OURS].items():
        print(f"  {concept:<28} {'too rare here' if area is None else f'{area:.2f}'}")
    print("\nweighted F1 of telling the five groups (in brackets: from laboratories never seen)")
    tell_methods(measured["classification"], measured["null"], measured["left_out"])
    diseases = measured["diseases"]
    print(
        f"\nplanted marks of the diseases with one of their {STANDING} latents in the top {TOP}: {diseases['share']:.0%} of "
        f"{diseases['marks']} (chance {diseases['chance']:.0%})"
    )
    print(f"All figures are in {STUDY / 'measured.json'}.")


if __name__ == "__main__":
    main()
