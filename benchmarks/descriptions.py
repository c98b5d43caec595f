"""Are planted structures described as such by the latent that shows them best?

``python -m benchmarks.descriptions STUDY`` takes a study of a drawn cohort whose cells are measured (`cytosae measure`) and
whose concepts are described (`cytosae describe`). For each of the 19 planted structures the best latent is found on the
patches of half of the cells and tested on the others; its description counts where place, look or measurement have the words
of the structure, given here beforehand. The null are descriptions shuffled among the concepts.

What is best is asked twice. By AUROC a latent that lights up on every nucleus ranks the patches of nucleoli nearly as well
as one for nucleoli alone; by average precision, among the 15 with the best AUROC, the structure's patches come first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from cytosae.concepts import read_descriptions, read_facts
from cytosae.concepts.quality import auroc, recovery
from cytosae.sae import SAE
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore

EXPECTED = {
    "eosinophilic_granules": ("eosinophilic",),
    "basophilic_granules": ("basophilic granules", "granules, cytoplasm"),
    "azurophilic_granules": ("azurophilic granules", "granules ("),
    "auer_rod": ("Auer rod",),
    "faggot": ("Auer rod", "faggot"),
    "vacuoles": ("vacuole",),
    "nuclear_lobes": ("segmented",),
    "nuclear_indentation": ("indented",),
    "nucleoli": ("nucleolus",),
    "open_chromatin": ("fine, pale chromatin",),
    "dense_chromatin": ("condensed chromatin",),
    "perinuclear_halo": ("clear", "perinuclear halo"),
    "cytoplasmic_basophilia": ("basophilic, ", "basophilic cytoplasm"),
    "hypogranulation": ("agranular", "clear"),
    "nucleus": ("nucleus", "nuclear border"),
    "cytoplasm": ("cytoplasm",),
    "red_cell": ("red blood cell",),
    "platelet": ("platelet",),
    "background": ("background",),
}
"""Planted structure -> words of which one has to be in the place, look or measurement of its latent."""

_CANDIDATES = 15
"""Latents with the best AUROC, among which the best average precision is looked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--permutations", type=int, default=2000)
    given = parser.parse_args()
    described = read_descriptions(given.study)
    described = described.drop_duplicates("latent").set_index("latent")
    latents = described.index.to_numpy()
    store, sae = TokenStore(given.study / "tokens"), SAE.from_pretrained(given.study / "sae")
    rows = np.sort(np.random.default_rng(0).permutation(len(store.cells))[: given.cells])
    folder = given.study / "cohort"
    masks = np.stack([read_concept_masks(_found(folder, path)) for path in store.cells["concepts"].iloc[rows]])
    truth = np.moveaxis(patch_labels(masks), 1, -1).reshape(-1, len(CONCEPTS))
    scores = []
    with torch.no_grad():
        for start in range(0, len(rows), 32):
            tokens = store.read(rows[start : start + 32]).float()
            scores.append(sae.encode(sae.centred(tokens))[:, 1:, latents].flatten(0, 1).numpy())
    images = np.repeat(np.arange(len(rows)), len(truth) // len(rows))
    heads = described[["look", "place"]].apply(lambda row: ", ".join(text for text in row if text), axis=1)
    texts = (heads + "; " + described["measurement"]).to_numpy()
    for rule, (best, figure) in best_latents(np.concatenate(scores), truth, images).items():
        print(f"best latent by {rule}")
        hits = []
        for name, k, value in zip(CONCEPTS, best.tolist(), figure, strict=True):
            hits.append(k >= 0 and _fits(name, texts[k]))
            sentence = described["description"].iloc[k] if k >= 0 else "-"
            print(f"{'yes' if hits[-1] else 'no ':<4} {name:<24} {value:.2f}  latent {latents[k]:<6} {sentence}")
        rng = np.random.default_rng(1)
        null = [
            sum(k >= 0 and _fits(name, shuffled[k]) for name, k in zip(CONCEPTS, best.tolist(), strict=True))
            for shuffled in (texts[rng.permutation(len(texts))] for _ in range(given.permutations))
        ]
        low, high = np.percentile(null, [2.5, 97.5])
        print(f"described as such: {sum(hits)} of {len(hits)}; shuffled {np.mean(null):.1f} ({low:.0f} to {high:.0f})")
    facts = read_facts(given.study)
    print(f"{len(texts)} concepts, {len(facts):,} facts, {int(facts['passes'].sum()):,} of which pass")


def best_latents(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], images: NDArray[np.int64]
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The best score for each structure by either rule, chosen on even images, and its figure on odd ones; -1 for none."""
    found, chosen, tested = recovery(scores, truth, images), images % 2 == 0, images % 2 == 1
    areas = np.nan_to_num(auroc(scores[chosen], truth[chosen]))
    best, precision = found.best.copy(), np.full(truth.shape[1], np.nan)
    for column in np.flatnonzero(found.best >= 0):
        candidates = np.argsort(-areas[:, column], kind="stable")[:_CANDIDATES]
        first = [average_precision_score(truth[chosen, column], scores[chosen, k]) for k in candidates]
        best[column] = candidates[int(np.argmax(first))]
        precision[column] = average_precision_score(truth[tested, column], scores[tested, best[column]])
    return {"AUROC": (found.best, found.area), "average precision": (best, precision)}


def _fits(structure: str, text: str) -> bool:
    return any(word in text for word in EXPECTED[structure])


def _found(folder: Path, path: str) -> Path:
    return Path(path) if Path(path).is_absolute() else folder / path


if __name__ == "__main__":
    main()
