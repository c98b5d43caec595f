"""Nucleus and cytoplasm of real cells, taught by a few clicks in one laboratory and judged in the other.

``python -m benchmarks.teaching_masks --cells CELLS -o FOLDER`` takes the cells of segmentation_WBC with masks from a table,
and the autoencoder of drawn cells that ``python -m benchmarks.teaching -o FOLDER`` trained. Clicks come from the masks, in
five draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.teaching import CHOSEN_ON, Rows
from cytosae.backbones import load
from cytosae.cells import TISSUES, patch_tissues
from cytosae.concepts.quality import auroc
from cytosae.sae import SAE
from cytosae.study import list_to
from cytosae.teaching import Background, Learner, marks_table, usable_marks
from cytosae.tokens import TokenStore, embed, store_layout

MARKS, DRAWS = (5, 10, 20), 5
INSIDE, MOSTLY = 0.9, 0.5  # share of a patch that is clicked on, and of one that counts as the tissue


def make(folder: Path, table: Path) -> TokenStore:
    """Tokens of the cells that have a mask."""
    cells = pd.read_csv(table)
    cells = cells[cells["dataset"].str.startswith("segwbc")].copy()
    for column in ("path", "mask"):
        cells[column] = [str(table.parent.absolute() / path) for path in cells[column]]
    folder.mkdir(parents=True, exist_ok=True)
    cells.to_csv(folder / "masked.csv", index=False)
    listed, _ = list_to(folder / "masked.csv", folder / "cells.parquet")
    model = load("tiny")
    embed(listed, model, folder / "tokens", store_layout(model.info), workers=0)
    return TokenStore(folder / "tokens")


def judged(
    store: TokenStore, sae: SAE, cover: NDArray[np.float32], given: NDArray[np.int64], other: NDArray[np.int64]
) -> list[str]:
    """A line for each tissue and number of marks; `cover` is ``(n_cells, n_tissues, n_patches)``."""
    source = Rows(store, given)
    learner = Learner.on(Background.draw(source, sae))  # type: ignore[arg-type]
    patches = store.read(other)[:, 1:].float().flatten(0, 1)
    with torch.no_grad():
        h = np.concatenate([sae.encode(part).numpy() for part in patches.split(4096)])
    lines = []
    for tissue, name in enumerate(TISSUES[:2]):
        truth = cover[other, tissue].ravel() > MOSTLY
        best = float(np.nanmax(auroc(h, truth[:, None])))
        for count in MARKS:
            scores = []
            for draw in range(DRAWS):
                rng = np.random.default_rng(draw)
                inside = cover[given, tissue] >= INSIDE
                rows = rng.permutation(np.flatnonzero(inside.any(axis=1)))[:count]
                places = [int(rng.choice(np.flatnonzero(inside[row]))) for row in rows]
                clicked = zip(source.cells["cell_id"].iloc[rows], places, strict=True)
                table = marks_table((name, cell, place, "this") for cell, place in clicked)
                (marks,) = usable_marks(table, source.cells, cover.shape[2])
                score = patches.numpy() @ learner.learn(marks).weights
                scores.append((roc_auc_score(truth, score), average_precision_score(truth, score)))
            area, precise = np.array(scores).T
            lines.append(
                f"{name} {count} marks: AUROC {area.mean():.3f} ({area.min():.3f} to {area.max():.3f}), AP "
                f"{precise.mean():.3f}, share {truth.mean():.3f}; best latent with all truth {best:.3f}"
            )
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    store = make(given.output / "masked", given.cells)
    sae = SAE.from_pretrained(given.output / f"s{CHOSEN_ON}" / "sae").requires_grad_(False)
    grid = tuple(store.layout.backbone["grid"])
    cover = np.stack([patch_tissues(Path(path), grid).reshape(len(TISSUES), -1) for path in store.cells["mask"]])
    laboratories = store.cells["dataset"].astype(str).to_numpy()
    for one in sorted(set(laboratories)):
        rows = np.flatnonzero(laboratories == one)
        print(f"taught in {one}, judged in the other")
        for line in judged(store, sae, cover, rows, np.flatnonzero(laboratories != one)):
            print(f"  {line}")


if __name__ == "__main__":
    main()
