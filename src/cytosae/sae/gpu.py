"""The gradients of `cytosae.sae.objectives` along the active latents alone, on a GPU.

As in `cytosae.sae.sparse` only the encoder's product has full width, is made in pieces, and leaves just the active
latents. What follows it is made of two kernels without atomics, which repeat to the bit: dot products of the two rows
that an entry pairs (`_dots`: the gradient of an activation), and weighted sums of rows (`_sums`: over the latents of a
token for the reconstruction, over the tokens of a latent for the gradients of its weights).

Triton is imported if it is there; without it this module can be imported, but not used. Kernels also run on a CPU in
Triton's interpreter, if ``TRITON_INTERPRET=1`` was set before Triton was first imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cytosae.sae import sparse
from cytosae.sae.model import SAE
from cytosae.sae.objectives import RECONSTRUCTION, BatchFigures, dictionary_sizes, ghost_scale, ghost_weight

try:
    import triton  # type: ignore
    import triton.language as tl  # type: ignore
except ImportError:
    triton = None

LATENTS = 2048
"""Latents in a piece of a full-width product: the largest arrays are ``(LATENTS, n_tokens)``."""
_SEARCH = 1024  # numbers looked at together for those above zero
_TILE = {"ENTRIES": 16, "COLUMNS": 128}  # numbers of a kernel that are in flight together


def available() -> bool:
    """Whether `backward` can run: Triton is installed, and there is a GPU or Triton's interpreter is on."""
    return triton is not None and (torch.cuda.is_available() or _interpreted())


def _interpreted() -> bool:
    return not isinstance(_count, triton.JITFunction)


def _kernel(function: Any) -> Any:
    return function if triton is None else triton.jit(function)


@_kernel
def _count(
    product: tl.tensor, bias: tl.tensor, margin: tl.tensor, counts: tl.tensor, n: tl.tensor, SEARCH: tl.constexpr
) -> None:
    """Number of tokens on which each latent may be active; ``product (n_latents, n)`` lacks the bias."""
    latent = tl.program_id(0).to(tl.int64)
    b = tl.load(bias + latent)
    limit = -tl.load(margin + latent)
    found = tl.zeros([SEARCH], tl.int32)
    for first in range(0, n, SEARCH):
        token = first + tl.arange(0, SEARCH)
        pre = tl.load(product + latent * n + token, mask=token < n, other=float("-inf")).to(tl.float32) + b
        found += (pre > limit).to(tl.int32)
    tl.store(counts + latent, tl.sum(found, 0))


@_kernel
def _fill(
    product: tl.tensor, bias: tl.tensor, margin: tl.tensor, starts: tl.tensor, tokens: tl.tensor, values: tl.tensor,
    n: tl.tensor, SEARCH: tl.constexpr,
) -> None:  # fmt: skip
    """Write what `_count` counts, from ``starts (n_latents,)`` on: tokens, ascending, and pre-activations."""
    latent = tl.program_id(0).to(tl.int64)
    b = tl.load(bias + latent)
    limit = -tl.load(margin + latent)
    place = tl.load(starts + latent)
    for first in range(0, n, SEARCH):
        token = first + tl.arange(0, SEARCH)
        pre = tl.load(product + latent * n + token, mask=token < n, other=float("-inf")).to(tl.float32) + b
        found = pre > limit
        places = place + tl.cumsum(found.to(tl.int32), 0) - 1
        tl.store(tokens + places, token, mask=found)
        tl.store(values + places, pre, mask=found)
        place += tl.sum(found.to(tl.int32), 0)


@_kernel
def _dots(
    starts: tl.tensor, indices: tl.tensor, rows: tl.tensor, weights: tl.tensor, offsets: tl.tensor, results: tl.tensor,
    sums: tl.tensor, d: tl.tensor, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """``<rows[index], weights[latent]> + offsets[latent]`` of every entry, and their sum by latent."""
    latent = tl.program_id(0).to(tl.int64)
    low = tl.load(starts + latent)
    high = tl.load(starts + latent + 1)
    offset = tl.load(offsets + latent)
    total = tl.zeros([ENTRIES], tl.float32)
    for first in range(low, high, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        row = tl.load(indices + entry, mask=entry < high, other=0).to(tl.int64)
        dot = tl.zeros([ENTRIES], tl.float32)
        for left in range(0, d, COLUMNS):
            column = left + tl.arange(0, COLUMNS)
            weight = tl.load(weights + latent * d + column, mask=column < d, other=0.0)
            inside = (entry < high)[:, None] & (column < d)[None, :]
            tile = tl.load(rows + row[:, None] * d + column[None, :], mask=inside, other=0.0)
            dot += tl.sum(tile * weight[None, :], 1)
        dot += offset
        tl.store(results + entry, dot, mask=entry < high)
        total += tl.where(entry < high, dot, 0.0)
    tl.store(sums + latent, tl.sum(total, 0))


@_kernel
def _sums(
    bounds: tl.tensor, indices: tl.tensor, values: tl.tensor, rows: tl.tensor, outputs: tl.tensor, n: tl.tensor,
    d: tl.tensor, SEGMENTS: tl.constexpr, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Add ``value * rows[index]`` over the entries of each output row to ``outputs[0] (n, d)``.

    ``outputs[k]`` receives what it is after segment k. The entries of that go from ``bounds[k, row]`` up to
    ``bounds[k + 1, row]``.
    """
    output = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.load(outputs + output * d + column, mask=column < d, other=0.0)
    for segment in tl.static_range(SEGMENTS):
        place = output + segment * n
        low = tl.load(bounds + place)
        high = tl.load(bounds + place + n)
        for first in range(low, high, ENTRIES):
            entry = first + tl.arange(0, ENTRIES)
            row = tl.load(indices + entry, mask=entry < high, other=0).to(tl.int64)
            value = tl.load(values + entry, mask=entry < high, other=0.0)
            inside = (entry < high)[:, None] & (column < d)[None, :]
            tile = tl.load(rows + row[:, None] * d + column[None, :], mask=inside, other=0.0)
            total += tl.sum(value[:, None] * tile, 0)
        tl.store(outputs + place * d + column, total, mask=column < d)


@dataclass(frozen=True)
class Active:
    """The entries of h that are not zero, in order of latent and token, on the device of the parameters."""

    starts: Tensor
    """Where the entries of each latent begin, ``(n_latents + 1,)``."""
    latents: Tensor
    """Latent of each entry, int32, ``(n_entries,)``."""
    tokens: Tensor
    """Its token, int32, ``(n_entries,)``."""
    values: Tensor
    """Its activation, ``(n_entries,)``."""
    n_tokens: int

    def __len__(self) -> int:
        return len(self.tokens)


def _rows(weights: Tensor) -> Tensor:
    """Weights ``(n_latents, ...)`` as the kernels read them.

    Raises
    ------
    ValueError
        Not float32, or not with one row of memory per latent, as `SAE` has them (the encoder's transposed).
    """
    if weights.dtype != torch.float32 or not weights.is_contiguous():
        raise ValueError("the sparse step works on float32 weights with one row of memory per latent")
    return weights.detach()


def _narrow(dtype: str) -> torch.dtype:
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def _active(sae: SAE, centred: Tensor, dtype: str) -> Active:
    """Activations that are not zero, of ``x - b_dec``, ``(n_tokens, d_model)``.

    A product in bfloat16 only tells which latents may be active, with the margin of `cytosae.sae.sparse`; these are
    then computed in float32, so that activations and gradients are those of float32.
    """
    w, b, kind = _rows(sae.W_enc.T), _rows(sae.b_enc), _narrow(dtype)
    n, rough = len(centred), kind != torch.float32
    margin = sparse._margin(w, b, float(centred.norm(dim=1).max())) if rough else torch.zeros_like(b)
    x = centred.to(kind).T
    counts, tokens, values = [], [], []
    for weights, *some in zip(w.split(LATENTS), b.split(LATENTS), margin.split(LATENTS), strict=True):
        product = weights.to(kind) @ x
        grid, number = (len(weights),), torch.empty(len(weights), dtype=torch.int64, device=x.device)
        _count[grid](product, *some, number, n, SEARCH=_SEARCH)
        ends = number.cumsum(0)
        size = int(ends[-1])
        tokens.append(torch.empty(size, dtype=torch.int32, device=x.device))
        values.append(torch.empty(size, device=x.device))
        _fill[grid](product, *some, ends - number, tokens[-1], values[-1], n, SEARCH=_SEARCH)
        counts.append(number)
    h = _of_counts(torch.cat(counts), torch.cat(tokens), torch.cat(values), n)
    if not rough:
        return h
    _dots[(len(b),)](h.starts, h.tokens, centred, w, b, h.values, torch.empty_like(b), sae.d_model, **_TILE)
    kept = h.values > 0
    places = torch.searchsorted(kept.nonzero().squeeze(1), h.starts)
    return _of_counts(places.diff(), h.tokens[kept], h.values[kept], n)


def _of_counts(counts: Tensor, tokens: Tensor, values: Tensor, n_tokens: int) -> Active:
    latents = torch.arange(len(counts), dtype=torch.int32, device=counts.device)
    latents = latents.repeat_interleave(counts, output_size=len(tokens))
    return Active(torch.nn.functional.pad(counts.cumsum(0), (1, 0)), latents, tokens, values, n_tokens)


def _add_sums(outputs: Tensor, bounds: Tensor, indices: Tensor, values: Tensor, rows: Tensor) -> None:
    """`_sums` for ``outputs (n_segments, n, d)`` and ``bounds (n_segments + 1, n)``."""
    segments, n, d = outputs.shape
    grid = n, triton.cdiv(d, _TILE["COLUMNS"])
    _sums[grid](bounds, indices, values, rows, outputs, n, d, SEGMENTS=segments, **_TILE)


def _decode(sae: SAE, h: Active, ends: Tensor) -> Tensor:
    """Reconstructed tokens by every nested dictionary, ``(nested, n_tokens, d_model)``; ``ends`` are their sizes."""
    order = h.tokens.argsort(stable=True)  # latents stay ascending within a token, so dictionaries follow one another
    latents = h.latents[order]
    places = h.tokens[order].long() * sae.n_latents + latents
    firsts = torch.arange(h.n_tokens, device=ends.device) * sae.n_latents
    bounds = torch.searchsorted(places, torch.nn.functional.pad(ends, (1, 0))[:, None] + firsts)
    outputs = sae.b_dec.detach().expand(len(ends), h.n_tokens, -1).contiguous()
    _add_sums(outputs, bounds, latents, h.values[order], _rows(sae.W_dec))
    return outputs


def _ghost(
    sae: SAE, centred: Tensor, residual: Tensor, dead: Tensor, objective: str, reconstruction: Tensor, dtype: str,
    g_enc: Tensor, g_dec: Tensor, g_bias: Tensor,
) -> Tensor:  # fmt: skip
    """Add the gradients of the ghost term to those of the latents; gives its sum over the tokens.

    The largest activation of each token is carried along from piece to piece of the dead latents, as attention is
    computed (FlashAttention, Dao et al., 2022), so that no array tokens x dead latents is needed.
    """
    kind, parts = _narrow(dtype), dead.split(LATENTS)
    w_enc, b_enc, w_dec = sae.W_enc.T, sae.b_enc, sae.W_dec

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a.to(kind) @ b.to(kind)).float()

    highest, total = torch.full_like(residual[:, :1], -torch.inf), torch.zeros_like(residual)
    for part in parts:
        pre = product(centred, w_enc[part].T) + b_enc[part]
        higher = torch.maximum(highest, pre.amax(1, keepdim=True))
        total = total * (highest - higher).exp() + product(sparse._exp(pre, higher), w_dec[part])
        highest = higher
    scale = ghost_scale(total, residual)
    with torch.enable_grad():
        output = (scale * total).requires_grad_()
        ghost = RECONSTRUCTION[objective](residual, output).sum()
        (pull,) = torch.autograd.grad(ghost, output)
    pull = pull * (scale * (ghost_weight(reconstruction, ghost) / len(centred)))
    for part in parts:
        activations = sparse._exp(product(centred, w_enc[part].T) + b_enc[part], highest)
        g_dec[part] += product(activations.T, pull)
        by_pre = activations * product(pull, w_dec[part].T)
        g_enc[part] += product(by_pre.T, centred)
        g_bias[part] += by_pre.sum(0)
    return ghost.detach()


def backward(
    sae: SAE,
    x: Tensor,
    *,
    objective: str,
    l1: float,
    dead: Tensor | None = None,
    nested: int = 1,
    dtype: str = "float32",
) -> BatchFigures:
    """Add the gradients of a batch's loss to ``.grad`` of the parameters; see `cytosae.sae.objectives.backward`.

    Parameters
    ----------
    x
        Tokens, ``(n_tokens, d_model)``, float32, on the GPU of the parameters.
    dtype
        Of the encoder's product, and of those of the ghost term: ``float32`` or ``bfloat16``. The gradients of the
        other terms are float32 in either case.

    Raises
    ------
    ImportError
        Triton is not installed.
    ValueError
        Tokens on a CPU without Triton's interpreter, or weights of another type or layout than those of `SAE`.
    """
    if triton is None:
        raise ImportError("the sparse step on a GPU needs Triton, which is not installed: pip install triton")
    if not (x.is_cuda or _interpreted()):
        raise ValueError(f"the tokens are on {x.device}, not on a GPU; the sparse step for a CPU is cytosae.sae.sparse")
    # Triton launches on the current GPU, which need not be that of the tokens.
    with torch.no_grad(), torch.cuda.device_of(x):
        return _backward(sae, x, objective, l1, dead, nested, dtype)


def _backward(
    sae: SAE, x: Tensor, objective: str, l1: float, dead: Tensor | None, nested: int, dtype: str
) -> BatchFigures:
    for parameter in sae.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    g_enc, g_dec = _rows(sparse._grad(sae.W_enc).T), _rows(sparse._grad(sae.W_dec))
    n, centred = len(x), (x - sae.b_dec).contiguous()
    ends = torch.tensor(dictionary_sizes(sae.n_latents, nested), device=x.device)
    h = _active(sae, centred, dtype)
    outputs = _decode(sae, h, ends)
    with torch.enable_grad():
        outputs.requires_grad_()
        error = RECONSTRUCTION[objective]
        reconstruction = torch.stack([error(x, output).sum() for output in outputs]).mean()
        (pulls,) = torch.autograd.grad(reconstruction / n, outputs)
    residual = x - outputs.detach()[-1]
    for k in reversed(range(nested - 1)):  # a latent acts on the first dictionary that has it, and on all larger ones
        pulls[k] += pulls[k + 1]
    drawn = h.tokens + n * torch.bucketize(h.latents.long(), ends, right=True)
    by_h, g_bias = torch.empty_like(h.values), torch.empty_like(sae.b_enc)
    slope = torch.full_like(g_bias, l1 / n)
    _dots[(sae.n_latents,)](h.starts, drawn, pulls, _rows(sae.W_dec), slope, by_h, g_bias, sae.d_model, **_TILE)
    bounds = torch.stack([h.starts[:-1], h.starts[1:]])
    _add_sums(g_dec[None], bounds, drawn, h.values, pulls)
    _add_sums(g_enc[None], bounds, h.tokens, by_h, centred)
    has_ghost, ghost = dead is not None and len(dead) > 0, torch.zeros_like(reconstruction)
    if dead is not None and has_ghost:
        dead = dead.to(x.device)
        ghost = _ghost(sae, centred, residual, dead, objective, reconstruction.detach(), dtype, g_enc, g_dec, g_bias)
    sparse._grad(sae.b_enc).add_(g_bias)
    sparse._grad(sae.b_dec).add_(pulls[0].sum(0) - sae.W_enc @ g_bias)
    sums = [reconstruction, h.values.sum(dtype=torch.float64), ghost, residual.square().sum() / sae.d_model]
    error_mean, l1_mean, ghost_mean, mse = (torch.stack([one.double() for one in sums]) / n).tolist()
    loss = error_mean * (2 if has_ghost else 1) + l1 * l1_mean
    return BatchFigures(loss, error_mean, l1_mean, ghost_mean, mse, len(h) / n, h.starts.diff() > 0)
