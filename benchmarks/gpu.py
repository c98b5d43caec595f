"""What a GPU makes of the package, as one JSON: ``python -m benchmarks.gpu [--device cuda] [--small] [--output FILE]``.

Correctness of every objective against the CPU, in float32 and under autocast; the Triton kernels against the plain step;
step time and memory at the size of the paper, for its loss and for the recommended preset, beside SAELens where it is
installed; images a second through a backbone of DinoBloom-B's shape; and one short run with the built-in backbone. Meant
for less than six minutes. With ``--small`` everything is tiny, so that the script itself can be tried without a GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from cytosae.sae import SAE, backends
from cytosae.sae.loss import Loss, backward
from cytosae.sae.state import TrainState, new_state
from cytosae.sae.step import step
from cytosae.settings import OBJECTIVES, PRESETS, TrainConfig

EXACT, ROUGH = 1e-4, 5e-2
"""Allowed relative distance of gradients from those of a CPU in float64: with float32, and with bfloat16."""


def main() -> None:
    """Command line; exits with 1 where a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--output", type=Path, help="where the JSON goes too")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    results: dict[str, Any] = {"device": _name(device), "torch": torch.__version__, "small": given.small}
    parts = (correctness, kernels, steps, embedding, short_run)
    for part in parts:
        begun = time.monotonic()
        try:
            results[part.__name__] = part(device, given.small)
        except Exception as error:  # the other parts still tell something
            results[part.__name__] = {"error": f"{type(error).__name__}: {error}"}
        results[part.__name__]["seconds"] = round(time.monotonic() - begun, 1)
        if given.output:
            given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{part.__name__}: {results[part.__name__]['seconds']} s", file=sys.stderr, flush=True)
    print(json.dumps(results, indent=1))
    outcomes = [results[part.__name__] for part in parts]
    raise SystemExit(any("error" in outcome or outcome.get("wrong") for outcome in outcomes))


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def correctness(device: torch.device, small: bool) -> dict[str, Any]:
    """Gradients of every objective against float64 on the CPU, from the same weights and tokens."""
    d, expansion, n = (24, 4, 64) if small else (192, 8, 1024)
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    distances: dict[str, Any] = {}
    for objective in OBJECTIVES:
        state = new_state(TrainConfig(objective=objective, expansion=expansion, k=8), d, torch.device("cpu"))
        loss, truth = Loss(objective, 1e-3), copy.deepcopy(state.sae).double()
        backward(truth, x.double(), loss)
        distances[objective] = {}
        for precision in ("float32", "bfloat16"):
            sae = copy.deepcopy(state.sae).to(device)
            backward(sae, x.to(device), loss, dtype=precision)
            distances[objective][precision] = _apart(sae, truth)
    wrong = [name for name, by in distances.items() if by["float32"] > EXACT]
    return {"relative_distance_of_gradients": distances, "wrong": wrong}


def _apart(sae: SAE, truth: SAE) -> float:
    """Largest relative distance of a parameter's gradient."""
    pairs = zip(sae.parameters(), truth.parameters(), strict=True)
    gradients = [
        (one.grad.cpu().double(), two.grad) for one, two in pairs if one.grad is not None and two.grad is not None
    ]
    return max(float((one - two).norm() / two.norm().clamp_min(1e-12)) for one, two in gradients)


def kernels(device: torch.device, small: bool) -> dict[str, Any]:
    """The Triton kernels against the plain step: distance of the gradients, and seconds of both at the paper's size."""
    from cytosae.sae import gpu

    if device.type != "cuda" or not gpu.available():
        return {"left_out": "needs a GPU and Triton"}
    d, expansion, n = (24, 8, 256) if small else (768, 64, 64 * 257)
    state, x = _sparse_state(TrainConfig(expansion=expansion), d, n, device)
    loss = Loss("release", 8e-5)
    plain, fast = copy.deepcopy(state.sae), copy.deepcopy(state.sae)
    backward(plain, x, loss)
    gpu.backward(fast, x, loss, dtype="float32")
    pairs = zip(plain.parameters(), fast.parameters(), strict=True)
    apart = max(float((one.grad - two.grad).norm() / one.grad.norm()) for one, two in pairs)  # type: ignore[union-attr, operator]
    del plain, fast
    seconds = {
        "plain": _median(lambda: backward(state.sae, x, loss), device),
        "triton_float32": _median(lambda: gpu.backward(state.sae, x, loss, dtype="float32"), device),
        "triton_bfloat16": _median(lambda: gpu.backward(state.sae, x, loss, dtype="bfloat16"), device),
    }
    return {"relative_distance_of_gradients": apart, "backward_seconds": seconds, "wrong": apart > EXACT}


def _sparse_state(
    config: TrainConfig, d_model: int, n_tokens: int, device: torch.device, l0: float = 150
) -> tuple[TrainState, Tensor]:
    """A training of which about `l0` latents are active on a token, and a batch."""
    x = torch.randn(n_tokens, d_model, generator=torch.Generator().manual_seed(1)).to(device)
    state = new_state(config, d_model, device)
    with torch.no_grad():
        state.sae.W_enc.copy_(state.sae.W_dec.T)
        level = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - l0 / state.sae.n_latents))
        state.sae.b_enc.fill_(-float(level))
    state.l0 = l0
    return state, x


def _median(run: Callable[[], object], device: torch.device, rounds: int = 5) -> float:
    seconds = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        run()
        _synchronise(device)
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds[1:])[rounds // 2]


def steps(device: torch.device, small: bool) -> dict[str, Any]:
    """Seconds and memory of a step at the size of the paper: dense, sparse, recommended, and SAELens."""
    d, expansion, n = (24, 8, 256) if small else (768, 64, 64 * 257)
    figures: dict[str, Any] = {}
    for name, config, l0 in (
        ("paper, dense", PRESETS["paper"], d * expansion / 2),
        ("paper, sparse", PRESETS["paper"], 150.0),
        ("recommended", PRESETS["recommended"], 32.0),
    ):
        config = replace(config, expansion=expansion).scaled_to(10_000, 257)
        state, x = _sparse_state(config, d, n, device, l0)
        backend = backends.choose(state, config)
        figures[name] = _timed(partial(step, state, x, config, backend), device)
        del state, x
    state, x = _sparse_state(TrainConfig(expansion=expansion), d, n, device)
    try:
        sae_lens = peers.sae_lens(state.sae, str(device))
        figures["sae-lens"] = _timed(lambda: sae_lens(x), device)
    except Exception as error:
        figures["sae-lens"] = {"left_out": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    return {"tokens": n, "d_model": d, "latents": d * expansion, "steps": figures}


def _timed(run: Callable[[], object], device: torch.device) -> dict[str, float | None]:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = _median(run, device)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {"seconds": seconds, "peak_gib": peak}


def embedding(device: torch.device, small: bool) -> dict[str, Any]:
    """Images a second through a backbone of DinoBloom-B's shape (random weights), and what bfloat16 costs."""
    import numpy as np
    from transformers import Dinov2Config, Dinov2Model

    from cytosae.backbones import load

    hidden, depth, images = (64, 2, 2) if small else (768, 12, 256)
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=depth,
        num_attention_heads=max(1, hidden // 64),
        image_size=224,
        patch_size=14,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    figures, tokens = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        Dinov2Model(config).save_pretrained(folder)
        for dtype in ("float32", "bfloat16"):
            model = load(folder, dtype=dtype, device=str(device))
            figures[f"{dtype}_images_per_second"] = images / _median(partial(model.tokens, pixels), device, 3)
            tokens[dtype] = model.tokens(pixels).float().cpu()
    error = (tokens["float32"] - tokens["bfloat16"]).norm() / tokens["float32"].norm()
    return {"d_model": hidden, "depth": depth, **figures, "bfloat16_relative_error": float(error)}


def short_run(device: torch.device, small: bool) -> dict[str, Any]:
    """From drawn cells to the report with the built-in backbone, by the command line."""
    size = "patients=5,cells=4,seed=1" if small else "patients=20,cells=20,seed=1"
    training = ["--expansion", "2", "--images", "64"] if small else ["--expansion", "16", "--images", "20000"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cytosae", "run", f"synthetic:{size}", "--study", f"{folder}/study"]
        command += ["--preset", "recommended", "--device", str(device), *training, "--batch-images", "16", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr[-2000:]}
    stages = json.loads(done.stdout)["stages"]
    return {"sae": {key: stages["sae"][key] for key in ("explained_variance", "l0", "dead")}}


if __name__ == "__main__":
    main()
