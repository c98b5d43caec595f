"""The gradients of `cytosae.sae.loss` along the active latents alone, on a GPU.

As in `cytosae.sae.sparse` only the encoder's product has full width, is computed in chunks, and leaves just the active
latents. What follows it is made of two kernels without atomics, which repeat to the bit: dot products of the two rows
that an entry pairs (`_dots`: the gradient of an activation), and weighted sums of rows (`_sums`: over the latents of a
token for the reconstruction, over the tokens of a latent for the gradients of its weights).

Triton is imported if it is there; without it this module can be imported, but not used. Kernels also run on a CPU in
Triton's interpreter, if ``TRITON_INTERPRET=1`` was set before Triton was first imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cytosae.sae.active_latents import margin
from cytosae.sae.dead_latents import Chunks, Dead, Extra, auxk_pull, ghost, nearest
from cytosae.sae.loss import BatchFigures, Loss, dictionary_sizes
from cytosae.sae.model import SAE
from cytosae.sae.sparse import grad_buffer

try:
    import triton  # type: ignore
    import triton.language as tl  # type: ignore
except ImportError:
    triton = None

LATENT_CHUNK = 2048
"""Latents in a chunk of a full-width product: the largest arrays are ``(LATENT_CHUNK, n_tokens)``."""
TOKEN_CHUNK = 4096
"""Tokens whose nearest dead latents are looked for together; the largest array is ``(TOKEN_CHUNK, n_dead)``."""
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
    above = tl.zeros([SEARCH], tl.int32)
    for first in range(0, n, SEARCH):
        token = first + tl.arange(0, SEARCH)
        pre = tl.load(product + latent * n + token, mask=token < n, other=float("-inf")).to(tl.float32) + b
        above += (pre > limit).to(tl.int32)
    tl.store(counts + latent, tl.sum(above, 0))


@_kernel
def _fill(
    product: tl.tensor, bias: tl.tensor, margin: tl.tensor, starts: tl.tensor, tokens: tl.tensor, values: tl.tensor,
    n: tl.tensor, SEARCH: tl.constexpr,
) -> None:  # fmt: skip
    """Write what `_count` counts, from ``starts (n_latents,)`` on: tokens, ascending, and pre-activations."""
    latent = tl.program_id(0).to(tl.int64)
    b = tl.load(bias + latent)
    limit = -tl.load(margin + latent)
    offset = tl.load(starts + latent)
    for first in range(0, n, SEARCH):
        token = first + tl.arange(0, SEARCH)
        pre = tl.load(product + latent * n + token, mask=token < n, other=float("-inf")).to(tl.float32) + b
        above = pre > limit
        offsets = offset + tl.cumsum(above.to(tl.int32), 0) - 1
        tl.store(tokens + offsets, token, mask=above)
        tl.store(values + offsets, pre, mask=above)
        offset += tl.sum(above.to(tl.int32), 0)


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
        segment_row = output + segment * n
        low = tl.load(bounds + segment_row)
        high = tl.load(bounds + segment_row + n)
        for first in range(low, high, ENTRIES):
            entry = first + tl.arange(0, ENTRIES)
            row = tl.load(indices + entry, mask=entry < high, other=0).to(tl.int64)
            value = tl.load(values + entry, mask=entry < high, other=0.0)
            inside = (entry < high)[:, None] & (column < d)[None, :]
            tile = tl.load(rows + row[:, None] * d + column[None, :], mask=inside, other=0.0)
            total += tl.sum(value[:, None] * tile, 0)
        tl.store(outputs + segment_row * d + column, total, mask=column < d)


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

    A product in bfloat16 only selects the latents that may be active, with the margin of `cytosae.sae.active_latents`; these
    are then computed in float32, so that activations and gradients are those of float32.
    """
    w, b, kind = _rows(sae.W_enc.T), _rows(sae.b_enc), _narrow(dtype)
    n, rough = len(centred), kind != torch.float32
    room = margin(w, b, float(centred.norm(dim=1).max())) if rough else torch.zeros_like(b)
    x = centred.to(kind).T
    counts, tokens, values = [], [], []
    for weights, *some in zip(w.split(LATENT_CHUNK), b.split(LATENT_CHUNK), room.split(LATENT_CHUNK), strict=True):
        product = weights.to(kind) @ x
        grid, number = (len(weights),), torch.empty(len(weights), dtype=torch.int64, device=x.device)
        _count[grid](product, *some, number, n, SEARCH=_SEARCH)
        ends = number.cumsum(0)
        size = int(ends[-1])
        tokens.append(torch.empty(size, dtype=torch.int32, device=x.device))
        values.append(torch.empty(size, device=x.device))
        _fill[grid](product, *some, ends - number, tokens[-1], values[-1], n, SEARCH=_SEARCH)
        counts.append(number)
    h = _from_counts(torch.cat(counts), torch.cat(tokens), torch.cat(values), n)
    if not rough:
        return h
    _dots[(len(b),)](h.starts, h.tokens, centred, w, b, h.values, torch.empty_like(b), sae.d_model, **_TILE)
    is_active = h.values > 0
    entry_starts = torch.searchsorted(is_active.nonzero().squeeze(1), h.starts)
    return _from_counts(entry_starts.diff(), h.tokens[is_active], h.values[is_active], n)


def _from_counts(counts: Tensor, tokens: Tensor, values: Tensor, n_tokens: int) -> Active:
    latents = torch.arange(len(counts), dtype=torch.int32, device=counts.device)
    latents = latents.repeat_interleave(counts, output_size=len(tokens))
    return Active(torch.nn.functional.pad(counts.cumsum(0), (1, 0)), latents, tokens, values, n_tokens)


def _add_sums(outputs: Tensor, bounds: Tensor, indices: Tensor, values: Tensor, rows: Tensor) -> None:
    """`_sums` for ``outputs (n_segments, n, d)`` and ``bounds (n_segments + 1, n)``."""
    segments, n, d = outputs.shape
    grid = n, triton.cdiv(d, _TILE["COLUMNS"])
    _sums[grid](bounds, indices, values, rows, outputs, n, d, SEGMENTS=segments, **_TILE)


def _decode(sae: SAE, h: Active, ends: Tensor) -> Tensor:
    """Reconstructed tokens by every Matryoshka level, ``(n_levels, n_tokens, d_model)``; ``ends`` are their sizes."""
    order = h.tokens.argsort(stable=True)  # latents stay ascending within a token, so dictionaries follow one another
    latents = h.latents[order]
    offsets = h.tokens[order].long() * sae.n_latents + latents
    firsts = torch.arange(h.n_tokens, device=ends.device) * sae.n_latents
    bounds = torch.searchsorted(offsets, torch.nn.functional.pad(ends, (1, 0))[:, None] + firsts)
    outputs = sae.sharding.latents.once(sae.b_dec.detach()).expand(len(ends), h.n_tokens, -1).contiguous()
    _add_sums(outputs, bounds, latents, h.values[order], _rows(sae.W_dec))
    return sae.sharding.latents.sum(outputs)


def _dead_latent_gradients(
    sae: SAE, centred: Tensor, x: Tensor, output: Tensor, dead: Tensor, loss: Loss, reconstruction: Tensor,
    dtype: str,
) -> Extra:  # fmt: skip
    """Gradients of the dead latents' term; see `cytosae.sae.dead_latents`."""
    latents = Dead.from_sae(sae, dead, dtype)
    if loss.dead_latent_loss == "ghost":
        return ghost(
            latents, centred, x - output, loss.error, reconstruction, Chunks(len(x), LATENT_CHUNK, _one_by_one)
        )
    indices, values = nearest(latents, centred, Chunks(TOKEN_CHUNK, LATENT_CHUNK, _one_by_one), torch.topk)
    n, k = indices.shape
    w_dec, bounds = sae.W_dec[dead], torch.arange(0, n * k + 1, k, device=x.device)
    added = torch.zeros_like(output)
    _add_sums(added[None], torch.stack([bounds[:-1], bounds[1:]]), indices.flatten(), values.flatten(), w_dec)
    term, weight, pull = auxk_pull(x, output, added, loss.error)
    order = indices.flatten().argsort(stable=True)
    starts = torch.nn.functional.pad(indices.flatten().bincount(minlength=len(dead)).cumsum(0), (1, 0))
    tokens, chosen = (order // k).int(), values.flatten()[order]
    by_h, bias = torch.empty_like(chosen), torch.empty_like(latents.bias)
    enc, dec = torch.zeros_like(w_dec), torch.zeros_like(w_dec)
    _dots[(len(dead),)](starts, tokens, pull, w_dec, torch.zeros_like(bias), by_h, bias, sae.d_model, **_TILE)
    ranges = torch.stack([starts[:-1], starts[1:]])
    _add_sums(dec[None], ranges, tokens, chosen, pull)
    _add_sums(enc[None], ranges, tokens, by_h, centred)
    return Extra(enc, dec, bias, term, weight, moves_centre=False)


def _one_by_one(function: Callable[..., None], items: Iterable[tuple[Any, ...]]) -> None:
    for item in items:
        function(*item)


def backward(sae: SAE, x: Tensor, loss: Loss, dtype: str = "float32") -> BatchFigures:
    """Add the gradients of a batch's loss to ``.grad`` of the parameters; see `cytosae.sae.loss.backward`.

    Parameters
    ----------
    x
        Tokens, ``(n_tokens, d_model)``, float32, on the GPU of the parameters.
    dtype
        Of the encoder's product, and of those of the dead latents' term: ``float32`` or ``bfloat16``. The gradients of the
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
        return _backward(sae, x, loss, dtype)


def _backward(sae: SAE, x: Tensor, loss: Loss, dtype: str) -> BatchFigures:
    for parameter in sae.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    g_enc, g_dec = _rows(grad_buffer(sae.W_enc).T), _rows(grad_buffer(sae.W_dec))
    n, centred = len(x), (x - sae.b_dec).contiguous()
    ends = torch.tensor(dictionary_sizes(sae, loss.matryoshka_levels), device=x.device)
    h = _active(sae, centred, dtype)
    outputs = _decode(sae, h, ends)
    with torch.enable_grad():
        outputs.requires_grad_()
        reconstruction = torch.stack([loss.error(x, output).sum() for output in outputs]).mean()
        (pulls,) = torch.autograd.grad(reconstruction / n, outputs)
    for k in reversed(
        range(len(pulls) - 1)
    ):  # a latent acts on the first dictionary that has it, and on all larger ones
        pulls[k] += pulls[k + 1]
    drawn = h.tokens + n * torch.bucketize(h.latents.long(), ends, right=True)
    by_h, g_bias = torch.empty_like(h.values), torch.empty_like(sae.b_enc)
    slope = torch.full_like(g_bias, loss.l1 / n)
    _dots[(sae.n_latents,)](h.starts, drawn, pulls, _rows(sae.W_dec), slope, by_h, g_bias, sae.d_model, **_TILE)
    bounds = torch.stack([h.starts[:-1], h.starts[1:]])
    _add_sums(g_dec[None], bounds, drawn, h.values, pulls)
    _add_sums(g_enc[None], bounds, h.tokens, by_h, centred)
    term, weight, g_centre = 0.0, 0.0, g_bias.clone()
    if (dead := loss.select_dead(sae)) is not None:
        dead, output = dead.to(x.device), outputs.detach()[-1]
        extra = _dead_latent_gradients(sae, centred, x, output, dead, loss, reconstruction.detach(), dtype)
        extra.add_to(g_enc, g_dec, g_bias, g_centre, dead)
        term, weight = extra.term / n, extra.weight
    grad_buffer(sae.b_enc).add_(g_bias)
    grad_buffer(sae.b_dec).add_(sae.sharding.latents.once(pulls[0].sum(0)) - sae.W_enc @ g_centre)
    square = (x - outputs.detach()[-1]).square().sum() / sae.d_model
    own_sums = torch.stack([h.values.sum(dtype=torch.float64), h.values.new_tensor(len(h), dtype=torch.float64)])
    sums = reconstruction.double(), square.double(), *sae.sharding.latents.sum(own_sums)
    error_mean, mse, l1_mean, l0 = (torch.stack(sums) / n).tolist()
    value = error_mean + loss.l1 * l1_mean + weight * term
    return BatchFigures(value, error_mean, l1_mean, term, mse, l0, h.starts.diff() > 0)
