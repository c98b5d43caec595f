"""The step of `cytosae.sae.objectives` along the active latents alone: the fast path on a CPU.

Only the product of the encoder has full width. It is made in pieces that stay in cache, and of each piece just the active
latents are kept (`Active`); everything after it, forwards and backwards, follows these. A gradient of the weights is
never held whole either: `update` forms it row by row and lets Adam have it at once.

Threads are Python's own, each with one thread of torch: the kernels release the interpreter's lock, and two pools of OpenMP
threads that wait for one another by spinning would cost more than the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.sae import kernels
from cytosae.sae.activations import BatchTopK, ReLU, TopK
from cytosae.sae.model import SAE
from cytosae.sae.objectives import RECONSTRUCTION, BatchFigures, dictionary_sizes, takes_part
from cytosae.sae.revival import Dead, Extra, Pieces, auxk_pull, ghost, nearest, ranges
from cytosae.sae.split import among_largest

LATENTS, TOKENS = 512, 16 * 257
"""Size of the pieces of the encoder's product, and of the blocks of tokens that are worked on one after the other."""
ROWS = 128
"""Tokens whose largest latents are looked for together."""
DENSE = 0.03
"""Share of active latents above which whole matrix products are faster."""

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

    def where(self, kept: NDArray[np.bool_]) -> Active:
        """Some of the entries; `kept` says of each whether it stays."""
        starts = np.concatenate([[0], np.cumsum(kept)])[self.starts]
        return Active(starts, self.tokens[kept], self.values[kept], self.n_tokens)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Moments of latents that have long been silent fade into numbers so small that processors take a hundred times as long.
    return ThreadPoolExecutor(threads, "sae", initializer=torch.set_flush_denormal, initargs=(True,))


_kept = threading.local()


@contextmanager
def _single_threads() -> Iterator[int]:
    """One thread of torch for each of ours; gives their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def alone() -> Iterator[None]:
    """In the block, this thread does everything itself: for one that works beside others, each at an autoencoder of its own.

    It has to have one thread of torch.
    """
    _kept.alone = True
    try:
        yield
    finally:
        _kept.alone = False


def _each(function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Results of calls in threads, in order."""
    if getattr(_kept, "alone", False):
        return [function(*item) for item in items]
    with _single_threads() as threads:
        return list(_pool(threads).map(lambda item: function(*item), items))


def _scratch(rows: int, columns: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Room for tokens and values, the same in every call of a thread: new memory is slow when it is touched first."""
    room: NDArray[np.int32] = getattr(_kept, "room", np.empty((2, 0), np.int32))
    if room.shape[1] < rows * columns:
        _kept.room = room = np.empty((2, rows * columns), np.int32)
    tokens, values = room[:, : rows * columns]
    return tokens.reshape(rows, columns), values.view(np.float32).reshape(rows, columns)


def _shares(n: int, most: int | None = None) -> list[tuple[int, int]]:
    """One range for each thread, or more of them that are no longer than `most`."""
    share = max(1, -(-n // torch.get_num_threads()))
    return ranges(n, share if most is None else min(share, most))


def rows_of(weights: Tensor) -> Array:
    """Weights ``(n_latents, ...)`` as numpy sees them; the same memory.

    Raises
    ------
    ValueError
        Not float32 on a CPU, or not with one row of memory per latent, as `SAE` has them (the encoder's transposed).
    """
    array = weights.detach().numpy()
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError("the sparse step works on float32 weights with one row of memory per latent")
    return array


def active(sae: SAE, x: Tensor, dtype: str = "float32", latents: NDArray[np.int64] | None = None) -> Active:
    """Activations of all latents, or of some of them, that are not zero.

    Parameters
    ----------
    x
        Tokens, ``(n_tokens, d_model)``, float32.
    dtype
        Of the encoder's product. With bfloat16 it only tells which latents may be active, with a margin for its rounding
        (`margin`); these are then computed in float32.
    latents
        Ascending indices; the others count as not active. All if None.
    """
    return _active(sae, x - sae.b_dec.detach(), dtype, latents)


def _active(sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None) -> Active:
    if isinstance(sae.activation, TopK):
        return _largest_of_tokens(sae, centred, sae.activation, latents)
    lowest = sae.activation.lowest(sae)
    h = _above(sae, centred, dtype, latents, lowest)
    if isinstance(sae.activation, ReLU):
        return h
    of_entry = torch.from_numpy(h.latents())
    with torch.no_grad():
        h.values[:] = sae.activation.infer(sae, torch.from_numpy(h.values), of_entry).numpy()
    return h.where(h.values > 0)


def _active_in_training(sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None) -> Active:
    """The same where a batch decides together which latents are active."""
    if not isinstance(sae.activation, BatchTopK):
        return _active(sae, centred, dtype, latents)
    wanted, lowest = sae.activation.k * len(centred), 0.8 * sae.log_threshold.detach().exp()
    h = _above(sae, centred, dtype, latents, lowest)
    while len(h) < wanted and lowest.any():  # the threshold of earlier batches is too high for this one
        lowest = lowest / 4 if lowest.max() > 1e-3 else torch.zeros_like(lowest)
        h = _above(sae, centred, dtype, latents, lowest)
    if len(h) <= wanted:
        return h
    return h.where(h.values >= np.partition(h.values, -wanted)[-wanted])


def _largest_of_tokens(sae: SAE, centred: Tensor, topk: TopK, latents: NDArray[np.int64] | None) -> Active:
    """The k largest of each token that are above zero; of these those among `latents`."""
    w, b, k = sae.W_enc.detach(), sae.b_enc.detach(), min(topk.k, sae.n_latents)
    centred = centred.detach()
    places, values = torch.empty(len(centred), k, dtype=torch.int64), torch.empty(len(centred), k)

    def choose(first: int, last: int) -> None:
        values[first:last], places[first:last] = _largest(torch.addmm(b, centred[first:last], w), k)

    _each(choose, ranges(len(centred), ROWS))
    kept, _ = among_largest(values, topk.k, sae.split.latents)
    h = _by_latent(places, values * kept, sae.n_latents)
    active = h.values > 0
    if latents is not None:
        active &= np.isin(h.latents(), latents)
    return h.where(active)


def _by_latent(places: Tensor, values: Tensor, n_latents: int) -> Active:
    """Entries of each token, ``(n_tokens, k)``, by latent."""
    n, k = places.shape
    rows = np.arange(0, n * k + 1, k)
    by_token = sp.csr_matrix((values.numpy().ravel(), places.int().numpy().ravel(), rows), shape=(n, n_latents))
    by_latent = by_token.tocsc()
    return Active(by_latent.indptr.astype(np.int64), by_latent.indices, by_latent.data, n)


def _above(sae: SAE, centred: Tensor, dtype: str, latents: NDArray[np.int64] | None, lowest: Tensor | None) -> Active:
    """Pre-activations above `lowest (n_latents,)`, or above zero, of all latents or of some."""
    if len(centred) <= TOKENS:
        return _above_of_some(sae, centred, dtype, latents, lowest)
    # Block by block, so that all of a block's tokens stay in cache for the whole of the weights.
    blocks = [
        (first, _above_of_some(sae, centred[first:last], dtype, latents, lowest))
        for first, last in ranges(len(centred), -(-len(centred) // -(-len(centred) // TOKENS)))
    ]
    counts = sum((np.diff(block.starts) for _, block in blocks), np.zeros(sae.n_latents, np.int64))
    starts = np.concatenate([[0], np.cumsum(counts)])
    tokens, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    ends = starts[:-1].copy()
    for offset, block in blocks:
        entries = block.starts, block.tokens, block.values, offset, tokens, values, ends
        _each(kernels.append, ((first, last, *entries) for first, last in _shares(sae.n_latents)))
    return Active(starts, tokens, values, len(centred))


def _above_of_some(
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

    def piece(first: int, last: int) -> tuple[Array, Array, Array]:
        weights = w[first:last] if chosen is None else w[chosen[first:last]]
        bias = b[first:last] if chosen is None else b[chosen[first:last]]
        tokens, values = _scratch(last - first, n)
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

    parts = _each(piece, ranges(sae.n_latents if chosen is None else len(chosen), LATENTS))
    counts = np.zeros(sae.n_latents, np.int64)
    if parts:
        counts[slice(None) if latents is None else latents] = np.concatenate([part[0] for part in parts])
    starts = np.concatenate([[0], np.cumsum(counts)])
    tokens = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.int32)
    values = np.concatenate([part[2] for part in parts]) if parts else np.empty(0, np.float32)
    if lowest is not None:
        values += np.repeat(lowest.numpy(), counts)
    return Active(starts, tokens, values, n)


def margin(weights: Tensor, bias: Tensor, longest: float) -> Tensor:
    """How far below zero a latent may seem to be and still be looked at, ``(n_chosen,)``.

    Factors rounded to 8 bits give a product of ``d`` terms a standard deviation of about ``2^-9 |x| |w| / sqrt(d)``,
    where no few terms make up the whole; eight times that is allowed for the longest token, and the rounding of the result.
    """
    return 2**-6 * longest * weights.norm(dim=1) / weights.shape[1] ** 0.5 + 2**-7 * bias.abs()


def _largest(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row, in no order, and their places; as `torch.topk`, in a third of the time."""
    values, places = torch.empty(len(rows), k), torch.empty(len(rows), k, dtype=torch.int64)
    kernels.largest(rows.numpy(), k, places.numpy(), values.numpy())
    return values, places


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

    def some(first: int, last: int) -> tuple[Array, ...]:
        size = int(h.starts[last] - h.starts[first])
        cells, counts, sums = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float64)
        ends = np.empty(last - first, np.int64)
        found = kernels.by_cell(
            h.starts, h.tokens, h.values, n_tokens, np.float32(threshold), first, last, cells, counts, sums, ends
        )
        return cells[:found], counts[:found], (sums[:found] / n_tokens).astype(np.float32), np.diff(ends, prepend=0)

    parts = _each(some, ranges(n_latents, LATENTS))
    cells, counts, means, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    starts, shape = np.concatenate([[0], np.cumsum(lengths)]), (h.n_tokens // n_tokens, n_latents)
    matrices = [sp.csc_matrix((data, cells, starts), shape=shape).tocsr() for data in (counts, means)]
    matrices[0].eliminate_zeros()
    return matrices[0], matrices[1]


def decode(sae: SAE, h: Active, nested: int = 1) -> Tensor:
    """Reconstructed tokens by every nested dictionary, ``(nested, n_tokens, d_model)``."""
    outputs = sae.split.latents.once(sae.b_dec.detach()).expand(nested, h.n_tokens, -1).contiguous()
    w_dec, ends = rows_of(sae.W_dec), np.array(dictionary_sizes(sae, nested))
    arguments = (h.starts, h.tokens, h.values, w_dec, ends)
    _each(
        kernels.decode, ((*arguments, first, last, outputs.numpy()) for first, last in _shares(h.n_tokens, TOKENS // 2))
    )
    return sae.split.latents.sum(outputs)


@dataclass(frozen=True)
class Pass:
    """What the way forwards leaves for the way back."""

    h: Active
    centred: Tensor
    """``x - b_dec``, ``(n_tokens, d_model)``."""
    pulls: Tensor
    """Derivative of the loss by the output of each dictionary and all larger ones, ``(nested, n_tokens, d_model)``."""
    ends: NDArray[np.int64]
    """Sizes of the dictionaries."""
    l1: np.float32
    """Derivative of the loss by one activation, beside what comes through the outputs."""
    extra: Extra | None
    figures: BatchFigures


def forward(
    sae: SAE, x: Tensor, *, objective: str, l1: float, dead: Tensor | None = None, nested: int = 1,
    revival: str = "ghost", dtype: str = "float32", latents: NDArray[np.int64] | None = None,
) -> Pass:  # fmt: skip
    """The loss of a batch, and how it depends on the outputs; see `cytosae.sae.objectives.backward`."""
    if not sae.activation.along_active:
        raise ValueError(f"the loss of {sae.activation.name} depends on latents that are not active")
    n, centred = len(x), x - sae.b_dec.detach()
    h = _active_in_training(sae, centred, dtype, latents)
    limit = None
    if isinstance(sae.activation, BatchTopK):
        limit = float(h.values.min()) if len(h) >= sae.activation.k * n > 0 else 0.0
    l1 = l1 if isinstance(sae.activation, ReLU) else 0.0
    outputs = decode(sae, h, nested)
    reconstruction, pulls = torch.zeros(()), torch.empty_like(outputs)
    for first, last in ranges(n, TOKENS):  # larger arrays would come from the system anew in every step
        some = outputs[:, first:last].clone().requires_grad_()
        error = torch.stack([RECONSTRUCTION[objective](x[first:last], output).sum() for output in some]).mean()
        (pulls[:, first:last],) = torch.autograd.grad(error / n, some)
        reconstruction += error.detach()
    pulls = pulls.flip(0).cumsum(0).flip(0) if nested > 1 else pulls
    output = outputs[-1]
    extra, of_dead, weighted = None, 0.0, 0.0
    if dead is not None and takes_part(sae, dead):
        with torch.no_grad():
            extra = _revive(sae, centred, x, output, dead, revival, objective, reconstruction, dtype)
        of_dead, weighted = extra.term / n, extra.weight * extra.term / n
    of_latents = torch.tensor([h.values.sum(dtype=np.float64), len(h)], dtype=torch.float64)
    l1_norm, l0 = (sae.split.latents.sum(of_latents) / n).tolist()
    reconstruction_value = reconstruction.item() / n
    figures = BatchFigures(
        reconstruction_value + l1 * l1_norm + weighted,
        reconstruction_value,
        l1_norm,
        of_dead,
        float((output - x).square().sum()) / (n * sae.d_model),
        l0,
        torch.from_numpy(h.fired()),
        limit,
    )
    ends = np.array(dictionary_sizes(sae, nested))
    return Pass(h, centred, pulls, ends, np.float32(l1 / n), extra, figures)


def _revive(
    sae: SAE, centred: Tensor, x: Tensor, output: Tensor, dead: Tensor, revival: str, objective: str,
    reconstruction: Tensor, dtype: str,
) -> Extra:  # fmt: skip
    """Gradients of the dead latents' term; see `cytosae.sae.revival`."""
    latents = Dead.of(sae, dead, dtype)
    if revival == "ghost":
        pieces = Pieces(TOKENS // 4, LATENTS, _each)
        return ghost(latents, centred, x - output, objective, reconstruction, pieces)
    places, values = nearest(latents, centred, Pieces(ROWS, LATENTS, _each), _largest)
    h, n = _by_latent(places, values, len(dead)), len(places)
    w_dec, raised, ends = rows_of(sae.W_dec[dead]), output.clone()[None], np.array([len(dead)])
    entries = h.starts, h.tokens, h.values, w_dec
    _each(kernels.decode, ((*entries, ends, first, last, raised.numpy()) for first, last in _shares(n)))
    term, weight, pull = auxk_pull(x, raised[0], objective)
    found = Extra.zeros(len(dead), sae.d_model, term, weight)
    others = (*entries, pull[None].numpy(), ends, centred.numpy(), np.float32(0))
    outputs = found.enc.numpy(), found.dec.numpy(), found.bias.numpy()
    _each(kernels.gradients, ((low, high, *others, *outputs) for low, high in ranges(len(dead), LATENTS)))
    return found


def backward(
    sae: SAE,
    x: Tensor,
    *,
    objective: str,
    l1: float,
    dead: Tensor | None = None,
    nested: int = 1,
    revival: str = "ghost",
    dtype: str = "float32",
) -> BatchFigures:
    """Add the gradients of a batch's loss to ``.grad`` of the parameters; see `cytosae.sae.objectives.backward`.

    Parameters
    ----------
    dtype
        Of the encoder's product, and of those of the dead latents' term: ``float32`` or ``bfloat16``.
    """
    found = forward(sae, x, objective=objective, l1=l1, dead=dead, nested=nested, revival=revival, dtype=dtype)
    for parameter in sae.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    g_enc, g_dec = gradient_of(sae.W_enc).T, gradient_of(sae.W_dec)
    g_bias = torch.zeros_like(sae.b_enc)
    if found.extra is not None and dead is not None:
        g_enc[dead] += found.extra.enc
        g_dec[dead] += found.extra.dec
        g_bias[dead] += found.extra.bias
    h = found.h
    arguments = (
        h.starts,
        h.tokens,
        h.values,
        rows_of(sae.W_dec),
        found.pulls.numpy(),
        found.ends,
        found.centred.numpy(),
    )
    outputs = (rows_of(g_enc), g_dec.numpy(), g_bias.numpy())
    _each(
        kernels.gradients,
        ((first, last, *arguments, found.l1, *outputs) for first, last in ranges(sae.n_latents, LATENTS)),
    )
    gradient_of(sae.b_enc).add_(g_bias)
    pull = sae.split.latents.once(found.pulls[0].sum(0))
    gradient_of(sae.b_dec).add_(pull - sae.W_enc.detach() @ g_bias)
    return found.figures


def gradient_of(parameter: Tensor) -> Tensor:
    """Its ``.grad``, which has to be there."""
    assert parameter.grad is not None
    return parameter.grad


@dataclass(frozen=True)
class Adam:
    """Where a step of Adam stands, and how long it is for each latent."""

    state: Mapping[Tensor, Mapping[str, Tensor]]
    """Moments of every parameter, ``exp_avg`` and ``exp_avg_sq``, as `torch.optim.Adam` keeps them; changed in place."""
    number: int
    """Of the step, from 1."""
    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


@torch.no_grad()
def update(
    sae: SAE, found: Pass, adam: Adam, dead: Tensor | None, latents: NDArray[np.int64], lengths: NDArray[np.int64]
) -> None:
    """One step of Adam on the loss of `forward`, with the decoder's rows kept at unit norm.

    Parameters
    ----------
    dead
        Latents of ``found.extra``.
    latents
        Those that take part, ascending, ``(n_chosen,)``.
    lengths
        For how many steps each of them takes this one, ``(n_chosen,)``: as if the gradient had been the same in all.
    """
    h, (beta1, beta2) = found.h, adam.betas
    moments = [[adam.state[p][name] for name in ("exp_avg", "exp_avg_sq")] for p in (sae.W_enc, sae.b_enc, sae.W_dec)]
    moments[0] = [moment.T for moment in moments[0]]
    rate = adam.rate / (1 - beta1**adam.number)
    root, epsilon = np.float32((1 - beta2**adam.number) ** -0.5), np.float32(adam.epsilon)
    rates = (rate * lengths).astype(np.float32)
    betas1, betas2 = (np.power(beta, lengths).astype(np.float32) for beta in (beta1, beta2))
    place = np.full(sae.n_latents, -1, np.int64)
    extra = found.extra or Extra.zeros(0, sae.d_model)
    if dead is not None and found.extra is not None:
        place[dead.numpy()] = np.arange(len(dead))
    g_bias = np.zeros(sae.n_latents, np.float32)
    cuts = ranges(len(latents), LATENTS)
    to_b_dec = np.zeros((len(cuts), sae.d_model), np.float32)
    weights = [rows_of(p) for p in (sae.W_enc.T, sae.b_enc, sae.W_dec)]
    of_all = [rows_of(moment) for pair in moments for moment in pair]

    def piece(number: int, first: int, last: int) -> None:
        chosen = latents[first:last]
        kernels.update(
            chosen, h.starts, h.tokens, h.values, *weights, found.pulls.numpy(), found.ends, found.centred.numpy(),
            found.l1, place[chosen], extra.enc.numpy(), extra.dec.numpy(), extra.bias.numpy(), *of_all,
            rates[first:last], betas1[first:last], betas2[first:last], root, epsilon, g_bias, to_b_dec[number],
        )  # fmt: skip

    _each(piece, ((number, *one) for number, one in enumerate(cuts)))
    ranks = sae.split.latents
    gradient = ranks.sum(ranks.once(found.pulls[0].sum(0)) - torch.from_numpy(to_b_dec.sum(0))).numpy()
    one = np.float32(rate), np.float32(beta1), np.float32(beta2), root, epsilon
    of_b_dec = [rows_of(adam.state[sae.b_dec][name]) for name in ("exp_avg", "exp_avg_sq")]
    kernels.adam(rows_of(sae.b_dec), gradient, *of_b_dec, *one)
