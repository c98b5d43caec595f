"""One training step at the paper's width: ours, the plain model, and other libraries, on the same weights and tokens.

``python -m benchmarks.train_step --tokens 4112 --json``
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import available
from benchmarks.timing import medians
from cytosae.sae import backends
from cytosae.sae.active_latents import active
from cytosae.sae.state import TrainState, new_state
from cytosae.settings import TrainConfig

PRODUCT_PIECE = 4096  # latents of the encoder's product that are made at once, when it is timed alone


def state_of(d_model: int, expansion: int, l0: float, x: Tensor, dead_share: float = 0.0) -> TrainState:
    """An autoencoder of which about `l0` latents are active on a token, and a share of the others long dead."""
    config = TrainConfig(expansion=expansion)
    state = new_state(config, d_model, torch.device("cpu"))
    sae = state.sae
    n_dead = round(dead_share * sae.n_latents)
    with torch.no_grad():
        sae.W_enc.copy_(sae.W_dec.T)
        dead = torch.randperm(sae.n_latents, generator=torch.Generator().manual_seed(1))[:n_dead]
        some = sae.pre_activations(x[:256])
        level = some.flatten()[:: max(1, some.numel() // 2_000_000)].quantile(1 - l0 / (sae.n_latents - n_dead))
        sae.b_enc.fill_(-float(level))
        sae.b_enc[dead] -= 100
    state.since_fired[dead] = config.dead_after_tokens
    state.l0 = l0
    return state


def product(state: TrainState, x: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """The encoder's product alone, all of it."""
    weights, x = state.sae.W_enc.detach().T.to(dtype), x.to(dtype)

    def run() -> None:
        for piece in weights.split(PRODUCT_PIECE):
            x @ piece.T

    return run


def measure(
    tokens: int = 4112, d_model: int = 768, expansion: int = 64, l0: float = 150, rounds: int = 3, peers: bool = True
) -> dict[str, Any]:
    """Tokens a second of all libraries, in one run, in turn.

    Returns
    -------
    ``tokens_per_second`` by library; ``encoder_product_share``, of the step in the same precision;
    ``over_fastest_peer`` of each of ours; ``absent``, what could not be measured here and why.
    """
    x = torch.randn(tokens, d_model, generator=torch.Generator().manual_seed(0))
    # So small that the weights stay what they are, and with them what is active.
    config: dict[str, Any] = {"expansion": expansion, "l1": 1e-5, "learning_rate": 1e-9, "warmup_steps": 0}
    plain = TrainConfig(**config, dead_latent_loss="none")
    float32, bfloat16 = (
        TrainConfig(**config, dead_latent_loss="none", encoder=dtype) for dtype in ("float32", "bfloat16")
    )
    state = state_of(d_model, expansion, l0, x)
    functions: dict[str, Callable[[], object]] = {
        "cytosae float32": lambda: backends.fused(state, x, float32),
        "cytosae bfloat16": lambda: backends.fused(state, x, bfloat16),
        "plain model": lambda: backends.plain(state, x, plain),
        "encoder product float32": product(state, x, torch.float32),
        "encoder product bfloat16": product(state, x, torch.bfloat16),
    }
    others, absent = available(state.sae) if peers else ({}, {})
    functions |= {name: partial(other, x) for name, other in others.items()}
    seconds = medians(functions, rounds)
    found = {name: tokens / value for name, value in seconds.items()}
    products = {dtype: found.pop(f"encoder product {dtype}") for dtype in ("float32", "bfloat16")}
    reference = max((found[name] for name in others), default=found["plain model"])
    return {
        "tokens": tokens,
        "d_model": d_model,
        "n_latents": expansion * d_model,
        "l0": len(active(state.sae, x)) / tokens,
        "tokens_per_second": found,
        "over_fastest_peer": {name: rate / reference for name, rate in found.items()},
        "encoder_product_share": {dtype: found[f"cytosae {dtype}"] / products[dtype] for dtype in products},
        "absent": absent,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure_sweeps(
    tokens: int = 4112, d_model: int = 768, expansion: int = 64, l0: float = 150, rounds: int = 3
) -> dict[str, Any]:
    """Seconds of a step by powers of two of tokens, L0 and expansion, one at a time, the others as given."""
    sweeps: dict[str, list[Any]] = {
        "tokens": [tokens // 4, tokens // 2, tokens, 2 * tokens, 4 * tokens],
        "l0": [l0 / 4, l0 / 2, l0, 2 * l0, 4 * l0],
        "expansion": [expansion // 4, expansion // 2, expansion, 2 * expansion],
    }
    found: dict[str, Any] = {}
    for name, values in sweeps.items():
        for value in values:
            at = {"tokens": tokens, "l0": l0, "expansion": expansion} | {name: value}
            x = torch.randn(int(at["tokens"]), d_model, generator=torch.Generator().manual_seed(0))
            state = state_of(d_model, int(at["expansion"]), at["l0"], x)
            config = TrainConfig(l1=1e-5, learning_rate=1e-9, warmup_steps=0, dead_latent_loss="none")
            configs = {dtype: replace(config, encoder=dtype) for dtype in ("float32", "bfloat16")}
            functions: dict[str, Callable[[], object]] = {
                dtype: partial(backends.fused, state, x, config) for dtype, config in configs.items()
            }
            found[f"{name} {value:g}"] = medians(functions, rounds)
    return found


def measure_dead(
    tokens: int = 4112, d_model: int = 768, expansion: int = 64, l0: float = 150, rounds: int = 3, dead: float = 0.5,
    every: int = 8,
) -> dict[str, Any]:  # fmt: skip
    """Tokens a second with a share of the latents dead: with either term for them, and with the dead visited rarely."""
    x = torch.randn(tokens, d_model, generator=torch.Generator().manual_seed(0))
    state = state_of(d_model, expansion, l0, x, dead)
    plain = TrainConfig(expansion=expansion, l1=1e-5, learning_rate=1e-9, warmup_steps=0, encoder="float32")
    state.step = 0

    def steps(config: TrainConfig) -> None:
        for _ in range(config.dead_every):
            backends.fused(state, x, config)
            state.step += 1

    configs = {
        f"{encoder}, {dead_latent_loss}, dead every {often}": replace(
            plain, encoder=encoder, dead_latent_loss=dead_latent_loss, dead_every=often
        )
        for encoder in ("float32", "bfloat16")
        for dead_latent_loss in ("ghost", "auxk", "none")
        for often in (1, every)
    }
    functions: dict[str, Callable[[], object]] = {
        f"plain model, {dead_latent_loss}": partial(
            backends.plain, state, x, replace(plain, dead_latent_loss=dead_latent_loss)
        )
        for dead_latent_loss in ("ghost", "auxk")
    }
    functions |= {name: partial(steps, config) for name, config in configs.items()}
    seconds = medians(functions, rounds)
    often = {name: config.dead_every for name, config in configs.items()}
    found = {name: tokens * often.get(name, 1) / value for name, value in seconds.items()}
    return {
        "tokens": tokens,
        "dead_share": dead,
        "tokens_per_second": found,
        "over_plain_model": {name: rate / found["plain model, ghost"] for name, rate in found.items()},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4112)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--expansion", type=int, default=64)
    parser.add_argument("--l0", type=float, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dead", type=float, help="share of dead latents: measures what they cost instead")
    parser.add_argument("--sweeps", action="store_true", help="how the cost of a step grows, instead")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave other libraries out")
    parser.add_argument("--json", action="store_true", help="one JSON object on a line")
    given = vars(parser.parse_args())
    as_json, dead, peers, sweeps = (given.pop(name) for name in ("json", "dead", "peers", "sweeps"))
    if sweeps:
        found = measure_sweeps(**given)
    else:
        found = measure(**given, peers=peers) if dead is None else measure_dead(**given, dead=dead)
    print(json.dumps(found, indent=None if as_json else 1))


if __name__ == "__main__":
    main()
