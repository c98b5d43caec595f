"""How many latents come back from other initial weights, and what is the dictionary of those that do?

``python -m benchmarks.seeds -o FOLDER`` trains three autoencoders together on the drawn cells of `benchmarks.concept_rule`,
and measures each and the pooled dictionary: explained variance and L0 on held-out cells, planted structures on cells of
other drawn patients. Every setting is a line of ``FOLDER/seeds.jsonl``; what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.concept_rule import CELLS, DRAWN, JUDGED, made
from cytosae.cells import read_cells
from cytosae.concepts.quality import recovery
from cytosae.sae import SAE, train, train_seeds
from cytosae.sae.matching import reproducibility
from cytosae.settings import PRESETS, TrainConfig
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore

BASE = replace(PRESETS["recommended"], expansion=4, batch_images=8, images=8000, seeds=3)
SETTINGS: dict[str, TrainConfig] = {
    "192 latents, k 16": replace(BASE, expansion=1, k=16),
    "768 latents, k 32": BASE,
    "192 latents, k 16, four times as long": replace(BASE, expansion=1, k=16, images=32_000),
    "192 latents, k 16, rate falls over the last 30 %": replace(BASE, expansion=1, k=16, seeds=1, decay=0.3),
}
COSINES = (0.7, 0.5)


def figures(
    store: TokenStore, x: torch.Tensor, planted: NDArray[np.bool_], folder: Path, config: TrainConfig
) -> list[dict[str, Any]]:
    """A row for each autoencoder."""
    if config.seeds == 1:
        summary = train(store, folder, config, device="cpu")
        saes = {"single": (SAE.from_pretrained(folder), summary)}
    else:
        saes = {}
        for cosine in COSINES:
            summary = train_seeds(store, folder, replace(config, seeds_cosine=cosine), device="cpu")
            saes[f"pooled from {cosine}"] = SAE.from_pretrained(folder), summary
        for name, of_one in summary["trainings"].items():
            saes[name] = SAE.from_pretrained(folder / "seeds" / name), of_one
    directions = {name: sae.W_dec.detach().numpy() for name, (sae, _) in saes.items() if "pooled" not in name}
    rows = []
    for name, (sae, held) in saes.items():
        with torch.no_grad():
            h = torch.cat([sae.encode(some[:, 1:].flatten(0, 1)) for some in x.split(32)]).numpy()
        found = recovery(h[:, (h > 0).any(axis=0)], planted, np.repeat(np.arange(len(x)), x.shape[1] - 1))
        row: dict[str, Any] = {"of": name, "latents": sae.n_latents}
        row |= {key: held[key] for key in ("explained_variance", "l0")}
        row |= {"planted": found.fraction(), "planted_auroc": float(np.nanmean(found.area))}
        others = [rows_of for other, rows_of in directions.items() if other != name]
        if name in directions and others:
            random = np.random.default_rng(0).standard_normal(directions[name].shape)
            for cosine in COSINES:
                for column, rows_own in (("come back", directions[name]), ("random come back", random)):
                    row[f"{column}, {cosine}"] = float((reproducibility(rows_own, others, cosine)[1] >= 0.5).mean())
        rows.append(row)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="settings whose name contains this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    store, judged = made(given.output, "drawn", DRAWN), made(given.output, "judged", JUDGED)
    rows = np.sort(np.random.default_rng(0).permutation(judged.n_cells)[:CELLS])
    x = judged.read(rows).float()
    paths = read_cells(given.output / "judged.parquet")["concepts"].iloc[rows]
    masks = np.stack([read_concept_masks(given.output / "judged" / path) for path in paths])
    planted = np.moveaxis(patch_labels(masks), 1, -1).reshape(-1, len(CONCEPTS))
    path = given.output / "seeds.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for number, (name, config) in enumerate(SETTINGS.items()):
        if given.only in name and not any(line["settings"] == name for line in lines):
            made_rows = figures(store, x, planted, given.output / "seeds" / f"{number}", config)
            with path.open("a") as file:
                for row in made_rows:
                    lines.append({"settings": name, **row})
                    print(json.dumps(lines[-1]), file=file)
    print(pd.DataFrame(lines).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
