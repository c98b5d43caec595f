"""Experts' attributes of real cells, taught by marks of whole cells, beside the best latent chosen with 2,000 labels.

``python -m benchmarks.teaching_cells --cells CELLS --attributes ATTRIBUTES -o FOLDER`` takes 3,000 cells of a table of
attributes (WBCAtt), embeds them and trains an autoencoder on them. Of 2,000 of them marks are drawn, ten cells that have a
value and ten that have not, five times; with the labels of all 2,000 the best latent is chosen, by count, mean or largest
activation. The other 1,000 cells judge. Writes ``FOLDER/attributes.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from benchmarks.teaching import Rows
from cytosae.backbones import load
from cytosae.concepts.quality import auroc
from cytosae.sae import SAE, train
from cytosae.settings import PRESETS
from cytosae.study import list_to
from cytosae.teaching import Background, Learner, marks_table, usable_marks
from cytosae.teaching.fitting import TOP
from cytosae.tokens import TokenStore, embed, store_layout

CELLS, LABELLED, DRAWS = 3000, 2000, 5
EACH = 10  # marks of each kind
LEAST = 0.02  # share of the cells from which a value is asked for
NOT_ATTRIBUTES = ("path", "label", "split")
KINDS = ("count", "mean", "largest")


def make(folder: Path, cells: Path, attributes: Path) -> tuple[TokenStore, pd.DataFrame, SAE]:
    """Tokens and attributes of the cells, and an autoencoder of them; what is there is not made again."""
    table = pd.read_csv(attributes).merge(pd.read_csv(cells)[["path"]], on="path")
    some = table.sample(CELLS, random_state=0).reset_index(drop=True)
    folder.mkdir(parents=True, exist_ok=True)
    listed = pd.DataFrame({"path": [str(cells.parent.absolute() / path) for path in some["path"]], "dataset": "pbc"})
    listed["cell_id"] = [f"c{i}" for i in range(len(listed))]
    listed.to_csv(folder / "attributed.csv", index=False)
    found, _ = list_to(folder / "attributed.csv", folder / "cells.parquet")
    model = load("tiny")
    embed(found, model, folder / "tokens", store_layout(model.info), workers=0)
    store = TokenStore(folder / "tokens")
    if not (folder / "sae" / "manifest.json").is_file():
        train(store, folder / "sae", PRESETS["recommended"])
    some.index = pd.Index(listed["cell_id"])
    known = some.loc[store.cells["cell_id"].astype(str).tolist()]
    return store, known.drop(columns=list(NOT_ATTRIBUTES)), SAE.from_pretrained(folder / "sae").requires_grad_(False)


def values_of(attributes: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Cells that have each value; of attributes with two values the rarer, none that is the same question twice."""
    found: dict[str, NDArray[np.bool_]] = {}
    for name in attributes:
        shares = attributes[name].value_counts(normalize=True)
        for value in shares.index[-1:] if len(shares) == 2 else shares.index:
            has = (attributes[name] == value).to_numpy()
            if shares[value] >= LEAST and not any((has == other).mean() > 0.98 for other in found.values()):
                found[f"{name}={value}"] = has
    return found


def latent_scores(store: TokenStore, sae: SAE) -> NDArray[np.float32]:
    """Count, mean and largest activation of each latent on each cell, ``(3, n_cells, n_latents)``."""
    parts = []
    for batch in store.stream(np.array_split(np.arange(store.n_cells), store.n_cells // 16)):
        with torch.no_grad():
            h = sae.encode(batch[:, 1:].float().flatten(0, 1)).reshape(len(batch), -1, sae.n_latents)
        parts.append(torch.stack([(h > 0.2).float().sum(1), h.mean(1), h.amax(1)]).numpy())
    return np.concatenate(parts, axis=1)


def taught_scores(patches: NDArray[np.float16], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the strongest patches of each cell, as many as stand for a marked one; ``(n_cells,)``."""
    return np.concatenate(
        [
            np.sort(part.astype(np.float32) @ weights, axis=1)[:, -TOP:].mean(axis=1)
            for part in np.array_split(patches, 16)
        ]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--attributes", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    store, attributes, sae = make(given.output, given.cells, given.attributes)
    order = np.random.default_rng(0).permutation(store.n_cells)
    labelled, judged = np.sort(order[:LABELLED]), np.sort(order[LABELLED:])
    scores = latent_scores(store, sae)
    source = Rows(store, labelled)
    learner = Learner.on(Background.draw(source, sae))  # type: ignore[arg-type]
    patches = store.read(judged)[:, 1:].numpy()
    rows = []
    for name, has in values_of(attributes).items():
        areas = np.stack([auroc(kind[labelled], has[labelled, None])[:, 0] for kind in scores])
        kind, latent = np.unravel_index(np.nanargmax(areas), areas.shape)
        best = roc_auc_score(has[judged], scores[kind, judged, latent])
        taught = []
        for draw in range(DRAWS):
            rng = np.random.default_rng(draw)
            this, wrong = (rng.permutation(np.flatnonzero(has[labelled] == truth))[:EACH] for truth in (True, False))
            ids = source.cells["cell_id"]
            table = marks_table(
                [(name, cell, None, "this") for cell in ids.iloc[this]]
                + [(name, cell, None, "not") for cell in ids.iloc[wrong]]
            )
            (marks,) = usable_marks(table, source.cells, store.layout.n_tokens - 1)
            taught.append(roc_auc_score(has[judged], taught_scores(patches, learner.learn(marks).weights)))
        rows.append(
            {
                "value": name, "share": has.mean(), "taught": np.mean(taught), "least": min(taught), "most": max(taught),
                "best_latent": best, "latent": int(latent), "by": KINDS[kind],
            }
        )  # fmt: skip
        print({key: round(cell, 3) if isinstance(cell, float) else cell for key, cell in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(given.output / "attributes.csv", index=False)
    gain = table["taught"] - table["best_latent"]
    half = student.ppf(0.975, len(gain) - 1) * gain.std() / len(gain) ** 0.5
    means = {name: table[name].mean() for name in ("taught", "best_latent")}
    print(
        f"mean AUROC of {len(table)} values: taught {means['taught']:.3f}, best latent {means['best_latent']:.3f}; gain "
        f"{gain.mean():+.3f} ({gain.mean() - half:+.3f} to {gain.mean() + half:+.3f}); ahead in {(gain > 0).sum()}"
    )


if __name__ == "__main__":
    main()
