"""The sparse step of a GPU against that of a CPU: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cytosae.sae import SAE, gpu, sparse
from cytosae.sae.loss import BatchFigures, Loss
from cytosae.settings import OBJECTIVES
from support.paths import ROOT, importing_from
from support.sparse_saes import clear_choice, far_from_zero, two_saes

SHAPES = {
    "d": st.integers(1, 21),
    "s": st.integers(1, 70),
    "n": st.integers(1, 40),
    "seed": st.integers(0, 10_000),
    "density": st.sampled_from([0.0, 0.05, 0.5, 1.0]),
}


@pytest.fixture(scope="module", params=["cuda" if torch.cuda.is_available() else "cpu"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the kernels run, in pieces so small that few tokens and latents fill several of them."""
    pytest.importorskip("triton", reason="Triton is not installed")
    assert gpu.available(), "Triton was imported before this file could turn its interpreter on"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "LATENT_CHUNK", 32)
        patch.setattr(gpu, "_SEARCH", 16)
        patch.setattr(gpu, "_TILE", {"ENTRIES": 8, "COLUMNS": 16})
        yield request.param


def problem(d: int, s: int, n: int, seed: int, density: float) -> tuple[SAE, Tensor]:
    """An autoencoder with about `density` of the latents active, and tokens of which rounding decides nothing."""
    if density > 0.05:
        d = max(d, 8)  # on a line many directions cancel, and what is left of the token is what float32 rounds
    sae, exact, generator = two_saes(d, s, seed, density)
    return sae, far_from_zero(exact, torch.randn(n, d, generator=generator) * 2, 1e-5)


def both(
    sae: SAE, x: Tensor, device: str, *, dead: Tensor | None = None, objective: str = "release", l1: float = 1e-2,
    matryoshka_levels: int = 1, dtype: str = "float32", dead_latent_loss: str = "ghost",
) -> tuple[SAE, BatchFigures, BatchFigures]:  # fmt: skip
    """A copy with the gradients of the GPU's step, its figures, and those of the CPU's, whose gradients `sae` has."""
    other = copy.deepcopy(sae).to(device)
    loss = Loss(objective, l1, dead, matryoshka_levels, dead_latent_loss)
    found = gpu.backward(other, x.to(device), loss, dtype=dtype)
    return other.cpu(), found, sparse.backward(sae, x, loss)


def apart(sae: SAE, other: SAE) -> dict[str, float]:
    """Relative distance of the gradients of each parameter."""
    distances = {}
    for (name, one), two in zip(sae.named_parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert one.grad.stride() == two.grad.stride()
        distances[name] = float((one.grad - two.grad).norm() / one.grad.norm().clamp_min(1e-6))
    return distances


def every(s: int, share: float) -> Tensor:
    """Some of the latents, evenly."""
    return torch.arange(round(share * s)) * (s // max(1, round(share * s)))


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    **SHAPES,
    objective=st.sampled_from(["release", "squared"]),
    l1=st.sampled_from([0.0, 8e-5, 0.3]),
    dead_share=st.sampled_from([0.0, 0.4, 1.0]),
    matryoshka_levels=st.integers(1, 3),
    dead_latent_loss=st.sampled_from(["ghost", "auxk"]),
)
def test_gradients_equal_those_of_the_step_of_a_cpu(
    device: str, d: int, s: int, n: int, seed: int, density: float, objective: str, l1: float, dead_share: float,
    matryoshka_levels: int, dead_latent_loss: str,
) -> None:  # fmt: skip
    sae, x = problem(max(d, 8) if dead_share else d, s, n, seed, density)
    dead = every(s, dead_share)
    x = clear_choice(copy.deepcopy(sae).double(), x, dead, 1e-5)
    if not len(x):
        return
    other, found, truth = both(
        sae,
        x,
        device,
        dead=dead,
        objective=objective,
        l1=l1,
        matryoshka_levels=matryoshka_levels,
        dead_latent_loss=dead_latent_loss,
    )
    assert max(apart(sae, other).values()) <= 1e-5
    assert torch.equal(found.fired.cpu(), truth.fired)
    for name in ("loss", "reconstruction", "l1", "dead_latent_loss", "mse", "l0"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-5, abs=1e-7), name


@settings(max_examples=2, deadline=None)
@given(**SHAPES)
def test_bfloat16_only_tells_which_latents_to_look_at(
    device: str, d: int, s: int, n: int, seed: int, density: float
) -> None:
    sae, x = problem(d, s, n, seed, density)
    if not len(x):
        return
    other, found, truth = both(sae, x, device, dtype="bfloat16")
    assert max(apart(sae, other).values()) <= 1e-5
    assert found.loss == pytest.approx(truth.loss, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_ghost_reaches_the_encoder_of_all_dead_latents(device: str, dtype: str) -> None:
    sae, _, generator = two_saes(24, 90, 4, 0.1)
    dead = every(90, 0.5)
    with torch.no_grad():
        sae.b_enc[dead] -= 100
    x = torch.randn(40, 24, generator=generator)
    without, silent, _ = both(sae, x, device, dtype=dtype)
    assert not silent.fired[dead].any()
    assert without.W_enc.grad is not None
    assert not without.W_enc.grad[:, dead].any()
    sae.zero_grad()
    other, found, truth = both(sae, x, device, dead=dead, dtype=dtype)
    assert other.W_enc.grad is not None
    assert (other.W_enc.grad[:, dead].norm(dim=0) > 0).all()
    assert max(apart(sae, other).values()) <= (1e-5 if dtype == "float32" else 0.02)
    assert found.dead_latent_loss == pytest.approx(truth.dead_latent_loss, rel=1e-5 if dtype == "float32" else 0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_entries_are_in_order_of_latent_and_token(device: str, dtype: str) -> None:
    sae, exact, generator = two_saes(24, 70, 1, 0.3)
    x = far_from_zero(exact, torch.randn(50, 24, generator=generator), 1e-5)
    with torch.no_grad():
        h = gpu._active(sae.to(device), x.to(device) - sae.b_dec, dtype)
        truth = exact.encode(x.double()).T
    latents, tokens = truth.nonzero().T
    assert torch.equal(h.latents.cpu().long(), latents)
    assert torch.equal(h.tokens.cpu().long(), tokens)
    assert torch.equal(h.starts.cpu().diff(), (truth > 0).sum(1))
    torch.testing.assert_close(h.values.cpu(), truth[truth > 0].float(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_added_and_repeat_to_the_bit(device: str) -> None:
    sae, _, generator = two_saes(20, 50, 3, 0.2)
    x = torch.randn(30, 20, generator=generator).to(device)
    once, again, twice = (copy.deepcopy(sae).to(device) for _ in range(3))
    for model in (once, again, twice, twice):
        gpu.backward(model, x, Loss(objective="squared", l1=0.1, matryoshka_levels=2))
    assert max(apart(once, again).values()) == 0
    for parameter in once.parameters():
        assert parameter.grad is not None
        parameter.grad *= 2
    assert max(apart(once, twice).values()) <= 1e-6


def test_what_it_cannot_work_on_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = SAE(4, 6).to(device)
    x = torch.zeros(3, 4, device=device)
    sae.W_enc = torch.nn.Parameter(sae.W_enc.detach().contiguous())
    with pytest.raises(ValueError, match="one row of memory per latent"):
        gpu.backward(sae, x, Loss(objective="release", l1=0.0))
    monkeypatch.setattr(gpu, "_interpreted", lambda: False)
    with pytest.raises(ValueError, match="not on a GPU"):
        gpu.backward(sae, x.cpu(), Loss(objective="release", l1=0.0))


def test_without_triton_it_can_be_imported_but_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("triton", "triton.language"):
        monkeypatch.setitem(sys.modules, name, None)  # the import then fails
    spec = importlib.util.spec_from_file_location("gpu_without_triton", gpu.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert not module.available()
    with pytest.raises(ImportError, match="pip install triton"):
        module.backward(SAE(4, 6), torch.zeros(3, 4), Loss(objective="release", l1=0.0))


COMPILE = """
import itertools
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from cytosae.sae import gpu

blocks = {"SEARCH": gpu._SEARCH, **gpu._TILE}
types = {"counts": "*i64", "starts": "*i64", "bounds": "*i64", "tokens": "*i32", "n": "i32", "d": "i32"}
for kernel in (gpu._count, gpu._fill, gpu._dots, gpu._sums):
    # The types that a call gives: sizes of 1 become constants.
    kinds_of = ["*fp32", "*bf16"], ["*i32", "*i64"], [1, 3], ["", "n", "d"]
    for product, index, segments, one in itertools.product(*kinds_of):
        some = {**types, "product": product, "indices": index}
        fixed = {**blocks, "SEGMENTS": segments, one: 1}
        kinds = {name: "constexpr" if name in fixed else some.get(name, "*fp32") for name in kernel.arg_names}
        source = ASTSource(kernel, kinds, {name: fixed[name] for name in kernel.arg_names if name in fixed})
        assert triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["ptx"]
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_where_there_is_none(tmp_path: Path) -> None:
    """The interpreter takes what the compiler would not; compiling needs no GPU."""
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_script_for_gpus_goes_through_on_a_cpu(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--small",
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "gpu.json"),
    ]
    environment = {**os.environ, "PYTHONPATH": importing_from(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert set(found["correctness"]["relative_distance_of_gradients"]) == set(OBJECTIVES)
    assert found["steps"]["steps"].keys() >= {"paper, dense", "paper, sparse", "recommended"}
