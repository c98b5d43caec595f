"""Cells to counts and means at the paper's width: the dense way, and along the active latents in float32 and bfloat16.

``python -m benchmarks.encoding`` encodes some cells of 257 tokens in turn by each way, and compares every count with that
of float64.
"""

from __future__ import annotations

import argparse
import json
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import medians
from benchmarks.train_step import state_of
from cytosae.concepts import cell_activations
from cytosae.sae import SAE

N_TOKENS, TAU, TOKENS_AT_ONCE = 257, 0.2, 1028


@torch.no_grad()
def dense(sae: SAE, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Counts and means from all activations of a few cells at a time, as the equations read."""
    pairs = []
    for few in tokens.split(TOKENS_AT_ONCE // N_TOKENS):
        h = sae.encode(few)
        pairs.append(((h > TAU).sum(dim=1), h.mean(dim=1)))
    counts, means = zip(*pairs, strict=True)
    return torch.cat(counts), torch.cat(means)


@torch.no_grad()
def counted(sae: SAE, tokens: Tensor) -> Tensor:
    """Counts from activations in float64, ``(n_cells, n_latents)``."""
    wide = SAE(sae.d_model, sae.n_latents).double()
    wide.load_state_dict(sae.state_dict())
    limit = torch.tensor(TAU).double()  # tau as float32 has it
    return torch.cat([(wide.encode(cell.double()) > limit).sum(dim=0, keepdim=True) for cell in tokens])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--expansion", type=int, default=64)
    parser.add_argument("--l0", type=float, default=150, help="latents that are active on a token")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    x = torch.randn(given.cells * N_TOKENS, given.d_model, generator=torch.Generator().manual_seed(0))
    sae = state_of(given.d_model, given.expansion, given.l0, x).sae
    tokens = x.unflatten(0, (given.cells, N_TOKENS))
    ways = {"active, float32": "float32", "active, bfloat16": "bfloat16"}
    wanted = counted(sae, tokens)
    different = {
        name: int((cell_activations(sae, tokens, TAU, way)[0].toarray() != wanted.numpy()).sum())
        for name, way in ways.items()
    }
    different["dense"] = int((dense(sae, tokens)[0] != wanted).sum())
    seconds = medians(
        {
            "dense": lambda: dense(sae, tokens),
            **{name: partial(cell_activations, sae, tokens, TAU, way) for name, way in ways.items()},
        },
        given.rounds,
    )
    rows = {
        name: {
            "cells_per_second": given.cells / taken,
            "over_dense": seconds["dense"] / taken,
            "counts_unlike_float64": different[name],
        }
        for name, taken in seconds.items()
    }
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
