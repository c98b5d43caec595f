"""Measures of ViSAEBench (https://pypi.org/project/visaebench) for an autoencoder of ours, beside random ones.

``python -m benchmarks.visaebench STORE AUTOENCODER [...]`` takes labelled cells of a token store and prints a line
for each autoencoder, for one of the same shape with random weights, and for one whose patches are shuffled. Install the
package beside this one with ``pip install --no-deps visaebench``.

What the other package calls its backbones, data sets and hub needs torchvision and ImageNet; its measures need neither, so
they are loaded without its ``__init__``. Left out are those that have no meaning for cells: ``cross_domain`` (EuroSAT and
textures) and ``absorption`` (a hierarchy of words). ``monosemanticity`` needs a second backbone, which
``cytosae evaluate --judge-backbone`` takes.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.start import sparse_bias
from cytosae.tokens import TokenStore


def measures(grid: tuple[int, int]) -> dict[str, Any]:
    """The measures by their names, of the package as it is installed.

    Raises
    ------
    CytosaeError
        It is not installed.
    """
    spec = importlib.machinery.PathFinder.find_spec(
        "visaebench", [p for p in sys.path if Path(p) != Path(__file__).parent]
    )
    if spec is None or spec.submodule_search_locations is None:
        raise CytosaeError("visaebench is not installed; install it with `pip install --no-deps visaebench`.")
    package = types.ModuleType("visaebench")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["visaebench"] = package
    from visaebench.metrics import METRIC_REGISTRY  # type: ignore[import-not-found]

    few = {"min_images_per_feature": 10, "grid_size": grid}
    return {
        name: METRIC_REGISTRY[name](**(few if name == "localization" else {}))
        for name in ("fvu", "downstream_preservation", "sparse_probing", "localization")
    }


@torch.no_grad()
def drawn(like: SAE, tokens: Tensor, l0: float, seed: int) -> SAE:
    """An autoencoder of the same shape with random weights, and with the same number of latents active on a token."""
    generator = torch.Generator().manual_seed(seed)
    sae = SAE(like.d_model, like.n_latents)
    sae.initialise(generator)
    sae.b_dec.copy_(like.b_dec)
    sae.b_enc.copy_(sparse_bias(sae, tokens.flatten(0, 1) - sae.b_dec, l0 / sae.n_latents, generator))
    return sae


class Tokens:
    """Patch tokens of a store's held-out cells that have a label, as the measures take them."""

    def __init__(self, store: TokenStore, sae: SAE, seed: int, most: int) -> None:
        cells = store.cells
        rows = np.flatnonzero(cells["label"].notna().to_numpy())
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
        parts = list(store.stream(np.array_split(rows, max(1, len(rows) // 64))))
        self.patches: Tensor = torch.cat([sae.centred(part)[:, 1:] for part in parts])
        self.labels = pd.factorize(cells["label"].iloc[rows])[0]


@torch.no_grad()
def figures(sae: SAE, tokens: Tensor, labels: Any, grid: tuple[int, int]) -> dict[str, float]:
    """A figure for each measure."""
    found = {}
    for name, measure in measures(grid).items():
        given = tokens.flatten(0, 1) if name == "fvu" else tokens
        result = measure.compute(sae, given, device="cpu", labels=labels, dict_size=sae.n_latents)
        found[name] = float(result.value)
        if name == "fvu":
            found["l0"] = float(result.metadata["l0"])
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("autoencoders", type=Path, nargs="+")
    parser.add_argument("--cells", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    store = TokenStore(given.store)
    height, width = store.layout.backbone["grid"]
    rows = {}
    for path in given.autoencoders:
        sae = SAE.from_pretrained(path)
        tokens = Tokens(store, sae, given.seed, given.cells)
        order = torch.randperm(height * width, generator=torch.Generator().manual_seed(given.seed))
        rows[path.name] = figures(sae, tokens.patches, tokens.labels, (height, width))
        random = drawn(sae, tokens.patches, rows[path.name]["l0"], given.seed)
        rows[f"{path.name}, random weights"] = figures(random, tokens.patches, tokens.labels, (height, width))
        shuffled = figures(sae, tokens.patches[:, order], tokens.labels, (height, width))
        rows[f"{path.name}, patches shuffled"] = {"localization": shuffled["localization"]}
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
