"""The active latents of tokens on a CPU: only these are kept, as a sparse matrix.

The product of the encoder has full width. It is computed in chunks that stay in cache, and only the active latents of
each chunk are kept (`Active`); what comes after follows these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.sae import kernels
from cytosae.sae.dead_latents import ranges
from cytosae.sae.model import SAE
from cytosae.sae.sharding import among_largest
from cytosae.sae.threads import each, scratch, thread_ranges

LATENT_CHUNK, TOKEN_CHUNK = 512, 16 * 257
"""Latents in a chunk of the encoder's product, and tokens in a block; blocks run one after the other."""
_ROUNDING = 2**-20
"""Of a float32 sum of products, by the lengths of both factors: sixteen times that of one number."""
_CORRECTED = 4096
"""Activations that are computed in float64 at once."""
ROWS = 128
"""Tokens whose largest latents are looked for together."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Active:
    """The entries of h that are not zero, by latent, as a matrix in CSC form ``(n_tokens, n_latents)``."""

    starts: NDArray[np.int64]
    """Where the entries of each latent begin, ``(n_latents + 1,)``."""
    tokens: NDArray[np.int32]
    """Token of each entry, ascending within a latent, ``(n_entries,)``."""
    values: NDArray[np.float32]
    """Its activation, ``(n_entries,)``."""
    n_tokens: int

    def __len__(self) -> int:
        return len(self.tokens)

    def fired(self) -> NDArray[np.bool_]:
        """Whether each latent is active on any token, ``(n_latents,)``."""
        return np.asarray(np.diff(self.starts) > 0)

    def latents(self) -> NDArray[np.int64]:
        """Latent of each entry, ``(n_entries,)``."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def select(self, chosen: NDArray[np.bool_]) -> Active:
        """The entries that are `chosen`, ``(n_entries,)``."""
        starts = np.concatenate([[0], np.cumsum(chosen)])[self.starts]
        return Active(starts, self.tokens[chosen], self.values[chosen], self.n_tokens)


def active(sae: SAE, x: Tensor, dtype: str = "float32", latents: NDArray[np.int64] | None = None) -> Active:
    """Activations of all latents, or of some of them, that are not zero.

    Parameters
    ----------
    x
        Tokens, ``(n_tokens, d_model)``, float32.
    dtype
        Of the encoder's product. With bfloat16 it only selects the latents that may be active, with a margin for its
        rounding (`margin`); these are then computed in float32.
    latents
        Ascending indices; the others count as not active. All if None.
    """
    return _active(sae, x - sae.b_dec.detach(), dtype, latents)


def _active(sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None) -> Active:
    if (k := sae.activation.max_active_per_token) is not None:
        h = _largest_per_token(sae, centred, k, latents)
        return _with_those_apart(sae, h, centred, dtype, latents) if sae.activation.n_apart else h
    return _activated(sae, _above(sae, centred, dtype, latents, sae.activation.lowest()))


def _activated(sae: SAE, h: Active) -> Active:
    """Latents of pre-activations, those above zero."""
    if sae.activation.is_relu:
        return h
    entry_latents = torch.from_numpy(h.latents())
    with torch.no_grad():
        h.values[:] = sae.activation(torch.from_numpy(h.values), sae.b_enc[entry_latents], entry_latents).numpy()
    return h.select(h.values > 0)


@torch.no_grad()
def active_for_counts(sae: SAE, x: Tensor, threshold: float, dtype: str = "float32") -> Active:
    """As `active`, and on the side of `threshold`, and of each latent's own, on which float64 has them.

    Sums in float32 differ in their last bits from one processor, precision and number of threads to the next. Activations
    that lie within this rounding of a threshold are computed anew in float64, so that counts are the same everywhere.
    Where the largest of a token's latents are taken (TopK), which these are stays float32's.

    Parameters
    ----------
    x
        Tokens, ``(n_tokens, d_model)``, float32.
    threshold
        tau.
    dtype
        See `active`.
    """
    centred, lowest = x - sae.b_dec, sae.activation.lowest()
    rounding = _ROUNDING * (float(centred.norm(dim=1).max()) if len(x) else 0.0) * sae.W_enc.norm(dim=0)
    if lowest is None or sae.activation.max_active_per_token is not None:
        h = _active(sae, centred, dtype, None)
    else:  # with those that float32 may have a little too low
        h = _above(sae, centred, dtype, None, lowest - rounding)
        _correct(sae, x, h, lowest, rounding)
        h = _activated(sae, h)
    _correct(sae, x, h, torch.full_like(rounding, threshold), rounding, latents=True)
    return h


def _correct(sae: SAE, x: Tensor, h: Active, level: Tensor, rounding: Tensor, *, latents: bool = False) -> None:
    """Compute the values of `h` within `rounding` of `level`, both ``(n_latents,)``, in float64; pre-activations or latents.

    What comes out is rounded to the float32 on the same side of the level.
    """
    lengths = np.diff(h.starts)
    away = np.abs(h.values - np.repeat(level.numpy(), lengths))
    near = np.flatnonzero(away <= np.repeat(rounding.numpy(), lengths))
    for entries in np.array_split(near, -(-len(near) // _CORRECTED)) if len(near) else ():
        columns = torch.from_numpy(np.searchsorted(h.starts, entries, side="right") - 1)
        tokens = x[torch.from_numpy(h.tokens[entries]).long()].double() - sae.b_dec.double()
        exact = (tokens * sae.W_enc[:, columns].T.double()).sum(dim=1) + sae.b_enc[columns].double()
        if latents:
            exact = sae.activation(exact, sae.b_enc[columns].double(), columns)
        limit = level[columns]
        above = torch.maximum(exact.float(), limit.nextafter(torch.full_like(limit, torch.inf)))
        h.values[entries] = torch.where(exact > limit, above, torch.minimum(exact.float(), limit)).numpy()


def active_in_training(sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None) -> Active:
    """The same where a batch decides together which latents are active."""
    wanted, threshold = sae.activation.max_active_per_batch(len(centred)), sae.activation.lowest()
    if wanted is None or threshold is None:
        return _active(sae, centred, dtype, latents)
    lowest = 0.8 * threshold
    h = _above(sae, centred, dtype, latents, lowest)
    while len(h) < wanted and lowest.any():  # the threshold of earlier batches is too high for this one
        lowest = lowest / 4 if lowest.max() > 1e-3 else torch.zeros_like(lowest)
        h = _above(sae, centred, dtype, latents, lowest)
    if len(h) <= wanted:
        return h
    return h.select(h.values >= np.partition(h.values, -wanted)[-wanted])


def _largest_per_token(sae: SAE, centred: Tensor, k: int, latents: NDArray[np.int64] | None) -> Active:
    """The k largest of each token that are above zero, without those apart; of these those among `latents`."""
    competing = sae.n_latents - sae.activation.n_apart
    w, b = sae.W_enc.detach()[:, :competing], sae.b_enc.detach()[:competing]
    centred = centred.detach()
    most = min(k, competing)
    indices, values = torch.empty(len(centred), most, dtype=torch.int64), torch.empty(len(centred), most)

    def choose(first: int, last: int) -> None:
        values[first:last], indices[first:last] = largest(torch.addmm(b, centred[first:last], w), most)

    each(choose, ranges(len(centred), ROWS))
    is_largest, _ = among_largest(values, k, sae.sharding.latents)
    h = by_latent(indices, values * is_largest, sae.n_latents)
    active = h.values > 0
    if latents is not None:
        active &= np.isin(h.latents(), latents)
    return h.select(active)


def _with_those_apart(sae: SAE, h: Active, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None) -> Active:
    """Entries of the latents that compete, and of those apart (`Activation.n_apart`), which come last."""
    apart = np.arange(sae.n_latents - sae.activation.n_apart, sae.n_latents)
    more = _above(sae, centred, dtype, apart if latents is None else np.intersect1d(apart, latents), None)
    tokens, values = np.concatenate([h.tokens, more.tokens]), np.concatenate([h.values, more.values])
    return Active(h.starts + more.starts, tokens, values, h.n_tokens)


def by_latent(indices: Tensor, values: Tensor, n_latents: int) -> Active:
    """Entries of each token, ``(n_tokens, k)``, by latent."""
    n, k = indices.shape
    rows = np.arange(0, n * k + 1, k)
    by_token = sp.csr_matrix((values.numpy().ravel(), indices.int().numpy().ravel(), rows), shape=(n, n_latents))
    by_latent = by_token.tocsc()
    return Active(by_latent.indptr.astype(np.int64), by_latent.indices, by_latent.data, n)


def _above(sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None, lowest: Tensor | None) -> Active:
    """Pre-activations above `lowest (n_latents,)`, or above zero, of all latents or of some."""
    if len(centred) <= TOKEN_CHUNK:
        return _above_chunk(sae, centred, dtype, latents, lowest)
    # Block by block, so that all of a block's tokens stay in cache for the whole of the weights.
    blocks = [
        (first, _above_chunk(sae, centred[first:last], dtype, latents, lowest))
        for first, last in ranges(len(centred), -(-len(centred) // -(-len(centred) // TOKEN_CHUNK)))
    ]
    counts = sum((np.diff(block.starts) for _, block in blocks), np.zeros(sae.n_latents, np.int64))
    starts = np.concatenate([[0], np.cumsum(counts)])
    tokens, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    ends = starts[:-1].copy()
    for offset, block in blocks:
        entries = block.starts, block.tokens, block.values, offset, tokens, values, ends
        each(kernels.append, ((first, last, *entries) for first, last in thread_ranges(sae.n_latents)))
    return Active(starts, tokens, values, len(centred))


def _above_chunk(
    sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None, lowest: Tensor | None
) -> Active:
    centred = centred.detach()
    w, b = sae.W_enc.detach().T, sae.b_enc.detach()
    if lowest is not None:  # what is above the threshold is above zero with a bias that is as much lower
        b = b - lowest
    chosen = None if latents is None else torch.from_numpy(latents)
    rough = centred.bfloat16() if dtype == "bfloat16" else None
    longest = float(centred.norm(dim=1).max()) if len(centred) else 0.0
    n = len(centred)

    def chunk(first: int, last: int) -> tuple[Array, Array, Array]:
        weights = w[first:last] if chosen is None else w[chosen[first:last]]
        bias = b[first:last] if chosen is None else b[chosen[first:last]]
        tokens, values = scratch(last - first, n)
        counts = np.empty(last - first, np.int64)
        narrow = weights if rough is None else weights.bfloat16()
        limits = kernels.sortable((-bias - margin(weights, bias, longest)).bfloat16().view(torch.int16).numpy())
        if rough is None:
            kernels.active_float32((weights @ centred.T).numpy(), bias.numpy(), tokens, values, counts)
        else:
            product = (narrow @ rough.T).view(torch.int16).numpy()
            kernels.active_bfloat16(
                product, limits, centred.numpy(), weights.numpy(), bias.numpy(), tokens, values, counts
            )
        total = int(counts.sum())
        packed = np.empty(total, np.int32), np.empty(total, np.float32)
        kernels.pack(tokens, values, counts, *packed)
        return counts, *packed

    chunks = each(chunk, ranges(sae.n_latents if chosen is None else len(chosen), LATENT_CHUNK))
    counts = np.zeros(sae.n_latents, np.int64)
    if chunks:
        counts[slice(None) if latents is None else latents] = np.concatenate([one[0] for one in chunks])
    starts = np.concatenate([[0], np.cumsum(counts)])
    tokens = np.concatenate([one[1] for one in chunks]) if chunks else np.empty(0, np.int32)
    values = np.concatenate([one[2] for one in chunks]) if chunks else np.empty(0, np.float32)
    if lowest is not None:
        values += np.repeat(lowest.numpy(), counts)
    return Active(starts, tokens, values, n)


def margin(weights: Tensor, bias: Tensor, longest: float) -> Tensor:
    """How far below zero a latent may seem to be and still be looked at, ``(n_chosen,)``.

    Factors rounded to 8 bits give a product of ``d`` terms a standard deviation of about ``2^-9 |x| |w| / sqrt(d)``,
    where no few terms make up the whole; eight times that is allowed for the longest token, and the rounding of the result.
    """
    return 2**-6 * longest * weights.norm(dim=1) / weights.shape[1] ** 0.5 + 2**-7 * bias.abs()


def largest(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row, in no order, and their indices; as `torch.topk`, in a third of the time."""
    values, indices = torch.empty(len(rows), k), torch.empty(len(rows), k, dtype=torch.int64)
    kernels.largest(rows.numpy(), k, indices.numpy(), values.numpy())
    return values, indices


def by_cell(h: Active, n_tokens: int, threshold: float) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts a_i[s] and image activations m_i[s] of cells whose tokens follow one another (CytoSAE, Eq. 2 and 3).

    Parameters
    ----------
    n_tokens
        Tokens of a cell.
    threshold
        tau.

    Returns
    -------
    See `cytosae.concepts.cell_activations`.
    """
    n_latents = len(h.starts) - 1

    def sum_chunk(first: int, last: int) -> tuple[Array, ...]:
        size = int(h.starts[last] - h.starts[first])
        cells, counts, sums = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float64)
        ends = np.empty(last - first, np.int64)
        n_entries = kernels.by_cell(
            h.starts, h.tokens, h.values, n_tokens, np.float32(threshold), first, last, cells, counts, sums, ends
        )
        return (
            cells[:n_entries],
            counts[:n_entries],
            (sums[:n_entries] / n_tokens).astype(np.float32),
            np.diff(ends, prepend=0),
        )

    blocks = each(sum_chunk, ranges(n_latents, LATENT_CHUNK))
    cells, counts, means, lengths = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    starts, shape = np.concatenate([[0], np.cumsum(lengths)]), (h.n_tokens // n_tokens, n_latents)
    matrices = [sp.csc_matrix((data, cells, starts), shape=shape).tocsr() for data in (counts, means)]
    matrices[0].eliminate_zeros()
    return matrices[0], matrices[1]
