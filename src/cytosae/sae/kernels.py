"""Loops over the active latents alone, compiled by numba; each works on one range, so that threads can share the ranges.

Entries of the sparse latents h are kept by latent: those of latent ``s`` are ``starts[s]`` up to ``starts[s + 1]`` of
``tokens`` (ascending) and ``values``. Matrices of weights have one row per latent, ``(n_latents, d_model)``.
"""

from __future__ import annotations

import numba
import numpy as np

# Sums may be reordered, so that they can be vectorised; NaN and infinity keep their meaning.
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
BLOCK = 32
"""Numbers that are looked at together for one that is positive."""
SAMPLED = 16
"""Of so many numbers one is looked at to guess where the largest begin."""


@_compiled
def _dot(a, b):
    total = np.float32(0)
    for j in range(a.shape[0]):
        total += a[j] * b[j]
    return total


@_compiled
def _sortable(bits):
    return np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF)))


@_compiled
def sortable(bits):
    """Bits of bfloat16 numbers, as int16, to int16 numbers of the same order, ``(n,)``."""
    keys = np.empty_like(bits)
    for i in range(bits.shape[0]):
        keys[i] = _sortable(bits[i])
    return keys


@_compiled
def active_float32(product, bias, tokens, values, counts):
    """Put the positive entries of ``product + bias (n_chunk, n)`` into ``tokens`` and ``values``, ``counts`` in a row."""
    n = product.shape[1]
    whole = n - n % BLOCK
    for i in range(product.shape[0]):
        row, b, count = product[i], bias[i], 0
        for start in range(0, whole, BLOCK):
            some = 0
            for j in range(BLOCK):
                some += row[start + j] + b > 0
            if some:
                for t in range(start, start + BLOCK):
                    if row[t] + b > 0:
                        tokens[i, count], values[i, count] = t, row[t] + b
                        count += 1
        for t in range(whole, n):
            if row[t] + b > 0:
                tokens[i, count], values[i, count] = t, row[t] + b
                count += 1
        counts[i] = count


@_compiled
def _any_above(row, start, limit):
    some = np.uint8(0)
    if limit >= 0:  # among numbers above zero the bits are in order as they are
        for j in range(BLOCK):
            some |= np.uint8(row[start + j] > limit)
    else:
        for j in range(BLOCK):
            some |= np.uint8(_sortable(row[start + j]) > limit)
    return some > 0


@_compiled
def active_bfloat16(product, limits, centred, weights, bias, tokens, values, counts):
    """As `active_float32`, with a product in bfloat16 that only says which latents are active; their values are exact.

    ``product`` holds the bits as int16; ``limits`` those of ``-bias`` in the order of `sortable`.
    """
    n = product.shape[1]
    whole = n - n % BLOCK
    for i in range(product.shape[0]):
        row, limit, count = product[i], limits[i], 0
        for start in range(0, whole, BLOCK):
            if _any_above(row, start, limit):
                for t in range(start, start + BLOCK):
                    if _sortable(row[t]) > limit:
                        h = _dot(centred[t], weights[i]) + bias[i]
                        if h > 0:
                            tokens[i, count], values[i, count] = t, h
                            count += 1
        for t in range(whole, n):
            if _sortable(row[t]) > limit:
                h = _dot(centred[t], weights[i]) + bias[i]
                if h > 0:
                    tokens[i, count], values[i, count] = t, h
                    count += 1
        counts[i] = count


@_compiled
def pack(from_tokens, from_values, counts, tokens, values):
    """The filled parts of all rows, one behind the other."""
    position = 0
    for i in range(counts.shape[0]):
        for k in range(counts[i]):
            tokens[position], values[position] = from_tokens[i, k], from_values[i, k]
            position += 1


@_compiled
def append(first, last, starts, from_tokens, from_values, offset, tokens, values, ends):
    """Put the entries of the latents ``first`` up to ``last`` of a block of tokens behind what each has, up to ``ends``."""
    for s in range(first, last):
        position = ends[s]
        for k in range(starts[s], starts[s + 1]):
            tokens[position], values[position] = offset + from_tokens[k], from_values[k]
            position += 1
        ends[s] = position


@_compiled
def decode(starts, tokens, values, w_dec, ends, first, last, outputs):
    """Reconstructions of the tokens ``first`` up to ``last`` by every Matryoshka level, ``outputs (n_levels, n, d)``.

    ``outputs[0]`` has to hold ``b_dec``; ``ends`` are the sizes of the dictionaries.
    """
    d, s = w_dec.shape[1], 0
    for k in range(ends.shape[0]):
        if k:
            outputs[k, first:last] = outputs[k - 1, first:last]
        while s < ends[k]:
            low, high = starts[s], starts[s + 1]
            low += np.searchsorted(tokens[low:high], first)
            direction = w_dec[s]
            for entry in range(low, high):
                t = tokens[entry]
                if t >= last:
                    break
                h, output = values[entry], outputs[k, t]
                for j in range(d):
                    output[j] += h * direction[j]
            s += 1


@_compiled
def _gradient(s, starts, tokens, values, w_dec, pull, centred, l1, g_enc, g_dec):
    """Gradients of one latent's rows, added to ``g_enc`` and ``g_dec``; returns that of its bias."""
    d, direction, g_bias = w_dec.shape[1], w_dec[s], np.float32(0)
    for entry in range(starts[s], starts[s + 1]):
        t, h = tokens[entry], values[entry]
        drawn, x = pull[t], centred[t]
        g = l1 + _dot(drawn, direction)
        g_bias += g
        for j in range(d):
            g_dec[j] += h * drawn[j]
        for j in range(d):
            g_enc[j] += g * x[j]
    return g_bias


@_compiled
def gradients(first, last, starts, tokens, values, w_dec, pulls, ends, centred, l1, g_enc, g_dec, g_bias):
    """Add the gradients of the latents ``first`` up to ``last``.

    ``pulls (n_nested, n, d)``: derivative of the loss by the output of each dictionary and all larger ones.
    """
    k = 0
    for s in range(first, last):
        while s >= ends[k]:
            k += 1
        g_bias[s] += _gradient(s, starts, tokens, values, w_dec, pulls[k], centred, l1, g_enc[s], g_dec[s])


@_compiled
def adam(weights, gradient, mean, square, rate, beta1, beta2, root, epsilon):
    """A step of Adam (Kingma and Ba, 2015) on one row; ``rate`` and ``root`` hold the corrections of the moments' bias."""
    for j in range(weights.shape[0]):
        g = gradient[j]
        m = beta1 * mean[j] + (np.float32(1) - beta1) * g
        v = beta2 * square[j] + (np.float32(1) - beta2) * g * g
        mean[j], square[j] = m, v
        weights[j] -= rate * m / (np.sqrt(v) * root + epsilon)


@_compiled
def update(
    latents, starts, tokens, values, w_enc, b_enc, w_dec, pulls, ends, centred, l1,
    extra, extra_enc, extra_dec, extra_bias, extra_centre,
    enc_mean, enc_square, bias_mean, bias_square, dec_mean, dec_square,
    rates, betas1, betas2, root, epsilon, g_bias, to_b_dec,
):  # fmt: skip
    """Gradients of some latents (ascending) and at once their step of Adam; no gradient of a weight is ever kept.

    The part of a direction's gradient along it is removed before, and the direction brought to unit norm after.
    ``extra[i]`` is the row of further gradients for ``latents[i]``, or -1; ``rates``, ``betas1`` and ``betas2`` are by
    latent. ``to_b_dec (d,)`` receives the sum of ``w_enc`` times the gradient of the bias, from before the step; of the
    further ones the share ``extra_centre``, 0 or 1.
    """
    d, k = w_dec.shape[1], 0
    g_enc, g_dec, one = np.empty(d, np.float32), np.empty(d, np.float32), np.empty(1, np.float32)
    for i in range(latents.shape[0]):
        s = latents[i]
        while s >= ends[k]:
            k += 1
        row = extra[i]
        if row >= 0:
            g_enc[:], g_dec[:], one[0] = extra_enc[row], extra_dec[row], extra_bias[row]
        else:
            g_enc[:], g_dec[:], one[0] = 0, 0, 0
        own = _gradient(s, starts, tokens, values, w_dec, pulls[k], centred, l1, g_enc, g_dec)
        moving = own + extra_centre * one[0]
        one[0] += own
        g_bias[s] = one[0]
        encoder, direction = w_enc[s], w_dec[s]
        along = _dot(g_dec, direction)
        for j in range(d):
            to_b_dec[j] += moving * encoder[j]
            g_dec[j] -= along * direction[j]
        rate, beta1, beta2 = rates[i], betas1[i], betas2[i]
        adam(encoder, g_enc, enc_mean[s], enc_square[s], rate, beta1, beta2, root, epsilon)
        adam(direction, g_dec, dec_mean[s], dec_square[s], rate, beta1, beta2, root, epsilon)
        adam(b_enc[s : s + 1], one, bias_mean[s : s + 1], bias_square[s : s + 1], rate, beta1, beta2, root, epsilon)
        norm = np.sqrt(_dot(direction, direction))
        for j in range(d):
            direction[j] /= norm


@_compiled
def _above(row, limit, indices):
    """Where a row is above the limit; returns how often."""
    n, count = row.shape[0], 0
    whole = n - n % BLOCK
    for start in range(0, whole, BLOCK):
        some = np.uint8(0)
        for j in range(BLOCK):
            some |= np.uint8(row[start + j] > limit)
        if some:
            for j in range(start, start + BLOCK):
                indices[count] = j
                count += row[j] > limit
    for j in range(whole, n):
        indices[count] = j
        count += row[j] > limit
    return count


@_compiled
def largest(rows, k, indices, values):
    """The k largest numbers of each row and where they are, ``(n, k)``, in no order.

    A sample of the row gives a limit that somewhat more than k numbers pass; these are then compared.
    """
    n = rows.shape[1]
    some = np.empty(n + 1, np.int64)
    for i in range(rows.shape[0]):
        row = rows[i]
        sample = row[::SAMPLED].copy()
        wanted = k // SAMPLED + 2 * int(np.sqrt(k / SAMPLED)) + 2
        n_some = 0
        if wanted < sample.shape[0]:
            n_some = _above(row, np.partition(sample, -wanted)[-wanted], some)
        if n_some < k:
            n_some = n
            some[:n] = np.arange(n)
        passed = row[some[:n_some]]
        last, count = np.partition(passed, n_some - k)[n_some - k], 0
        for equal in range(2):  # first those above the k-th, then as many as still fit of those equal to it
            for c in range(n_some):
                if count < k and (passed[c] == last if equal else passed[c] > last):
                    indices[i, count], values[i, count] = some[c], passed[c]
                    count += 1


@_compiled
def by_cell(starts, tokens, values, n_tokens, threshold, first, last, cells, counts, sums, ends):
    """Count above ``threshold`` and sum of the activations of each latent in each cell where it is active.

    Fills ``cells``, ``counts`` and ``sums``, latent after latent, and ``ends``, where each of them ends there; returns
    the last end.
    """
    position = 0
    for s in range(first, last):
        current = -1
        for entry in range(starts[s], starts[s + 1]):
            cell = tokens[entry] // n_tokens
            if cell != current:
                current = cell
                cells[position], counts[position], sums[position] = cell, 0, 0
                position += 1
            counts[position - 1] += values[entry] > threshold
            sums[position - 1] += values[entry]
        ends[s - first] = position
    return position
