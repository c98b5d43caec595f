"""Partial results of parts of the cells merge, in any order and grouping, to the very bytes of the result of all."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytosae.cohort.barcodes import BarcodeSums
from cytosae.concepts import Groups, LatentSums, label_entropy
from cytosae.concepts.reduction import CellTable, Statistics
from cytosae.settings import EncodeConfig

CELLS, LATENTS = 23, 4
UNIT = 2.0**-64

values = st.one_of(
    st.just(0.0),
    st.floats(2.0**-40, 2.0**20, width=32),  # what activations are
    st.floats(2.0**-100, 2.0**-40, width=32),  # and what is cut off at 2**-64
    st.sampled_from([0.5, 1.0, 1.0, 3.25]),  # ties
)
matrices = hnp.arrays(np.float32, (CELLS, LATENTS), elements=values, fill=st.just(0.0))
cuts = st.lists(st.integers(0, CELLS), max_size=8).map(lambda places: [0, *sorted(places), CELLS])


@st.composite
def cohorts(draw: st.DrawFn) -> pd.DataFrame:
    """Labels, diagnoses and patients of the cells, each of them missing here and there."""
    columns = {"label": ["blast", "monocyte", None], "diagnosis": ["AML", "healthy"], "patient": ["a", "b", "c", None]}
    return pd.DataFrame(
        {c: draw(st.lists(st.sampled_from(v), min_size=CELLS, max_size=CELLS)) for c, v in columns.items()}
    )


def merged(parts: list[Any], random: Random, merge: Any) -> Any:
    """Merge any two, until one is left: any order, any tree."""
    parts = list(parts)
    while len(parts) > 1:
        one = parts.pop(random.randrange(len(parts)))
        other = parts.pop(random.randrange(len(parts)))
        parts.append(merge(one, other))
    return parts[0]


def contents(statistics: Statistics, labels: np.ndarray) -> dict[str, bytes]:
    """All that a partial result says, to the last bit."""
    found: dict[str, Any] = {
        "frequency": statistics.sums.activation_frequency(),
        "mean": statistics.sums.mean_activation(),
        "total": statistics.sums.total,
        "cells": np.array(statistics.sums.n_cells),
        "shown": statistics.counts.shown,
        "counts": statistics.counts.total,
        "squares": statistics.counts.squares,
    }
    for column, groups in statistics.groups.items():
        found |= {f"{column}.mean": groups.mean_activation(), f"{column}.frequency": groups.activation_frequency()}
        found |= {f"{column}.cells": groups.n_cells, f"{column}.total": groups.total}
    for kind, lists in statistics.references.kinds().items():
        found |= {f"{kind}.cells": lists.cells, f"{kind}.values": lists.values, f"{kind}.keys": lists.keys}
    strongest = statistics.references.strongest
    known = np.where(strongest.cells >= 0, labels[strongest.cells], -1)
    found["entropy"] = label_entropy(strongest.values, known)
    return {name: np.ascontiguousarray(array).tobytes() for name, array in found.items()}


@settings(max_examples=150, deadline=None)
@given(
    dense=matrices,
    counts=hnp.arrays(np.int32, (CELLS, LATENTS), elements=st.integers(0, 257), fill=st.just(0)),
    cells=cohorts(),
    edges=cuts,
    random=st.randoms(use_true_random=False),
    limit=st.integers(0, 2),
)
def test_statistics_references_and_entropy(
    dense: np.ndarray, counts: np.ndarray, cells: pd.DataFrame, edges: list[int], random: Random, limit: int
) -> None:
    cell_table, config = CellTable.from_cells(cells), EncodeConfig(references=3)

    def of(first: int, last: int) -> Statistics:
        statistics = Statistics.empty(LATENTS, cell_table, config, limit)
        some = slice(first, last)
        statistics.add(sp.csr_matrix(counts[some]), sp.csr_matrix(dense[some]), cell_table[some])
        return statistics

    parts = [of(a, b) for a, b in pairwise(edges)]
    expected, labels = of(0, CELLS), cell_table.codes("label")
    assert contents(merged(parts, random, Statistics.merge), labels) == contents(expected, labels)
    whole = Statistics.empty(LATENTS, cell_table, config, limit)  # added cell by cell, as a run of pieces is
    for row in range(CELLS):
        alone = slice(row, row + 1)
        whole.add(sp.csr_matrix(counts[alone]), sp.csr_matrix(dense[alone]), cell_table[alone])
    assert contents(whole, labels) == contents(expected, labels)
    assert expected.counts.shown.tolist() == (counts > 0).sum(axis=0).tolist()
    assert expected.counts.squares.tolist() == (counts.astype(np.int64) ** 2).sum(axis=0).tolist()


@settings(max_examples=100, deadline=None)
@given(
    means=matrices,
    counts=hnp.arrays(np.int32, (CELLS, LATENTS), elements=st.integers(0, 257), fill=st.just(0)),
    patients=hnp.arrays(np.int64, CELLS, elements=st.integers(-1, 3)),
    edges=cuts,
    random=st.randoms(use_true_random=False),
)
def test_barcodes(
    means: np.ndarray, counts: np.ndarray, patients: np.ndarray, edges: list[int], random: Random
) -> None:
    def of(first: int, last: int) -> BarcodeSums:
        rows = slice(first, last)
        return BarcodeSums.from_cells(sp.csr_matrix(counts[rows]), sp.csr_matrix(means[rows]), patients[rows], 4)

    expected = of(0, CELLS)
    found = merged([of(a, b) for a, b in pairwise(edges)], random, BarcodeSums.__add__)
    for name in ("n_cells", "active", "total"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    for name in ("n_cells", "powers", "shown", "largest"):
        assert getattr(found.counts, name).tobytes() == getattr(expected.counts, name).tobytes(), name
    assert found.mean_activation().tobytes() == expected.mean_activation().tobytes()
    assert found.counts.barcodes().tobytes() == expected.counts.barcodes().tobytes()
    blocks = expected.counts.layers()
    for name, values in found.counts.layers().items():
        assert values.tobytes() == blocks[name].tobytes(), name
    for patient in range(4):
        mine = counts[patients == patient]
        assert found.counts.powers[0, patient].tolist() == mine.sum(axis=0).tolist()
        assert found.active[patient].tolist() == (means[patients == patient] > 0).sum(axis=0).tolist()


@settings(max_examples=150, deadline=None)
@given(dense=matrices)
def test_sums_are_exact(dense: np.ndarray) -> None:
    """Against fractions: no bit is lost but those of a single value below 2**-64; the sum is rounded when it is read."""
    sums = LatentSums.from_matrix(sp.csr_matrix(dense))
    for latent in range(LATENTS):
        column = [Fraction(float(value)) for value in dense[:, latent]]
        exact = sum(int(value * 2**64) for value in column)
        kept = sums.all_cells.sums
        assert (int(kept.whole[0, latent]) << 64) + int(kept.fraction[0, latent]) == exact
        assert float(sums.total[latent]) == pytest.approx(float(Fraction(exact, 2**64)), rel=2**-52, abs=0)
        if (dense[:, latent] == 0).all() or dense[:, latent][dense[:, latent] > 0].min() >= 2.0**-40:
            assert Fraction(exact, 2**64) == sum(column)


def test_many_carries() -> None:
    """A million cells, all of whose sums carry from the fraction, in one go and in two halves."""
    value = np.float32(1 - 2.0**-24)
    matrix = sp.csr_matrix(np.full((1_000_000, 1), value))
    sums = LatentSums.from_matrix(matrix)
    assert Fraction(float(sums.total[0])) == Fraction(float(value)) * 1_000_000
    assert (LatentSums.from_matrix(matrix[:400_000]) + LatentSums.from_matrix(matrix[400_000:])).total[0] == sums.total[
        0
    ]


def test_other_groups_are_not_added() -> None:
    with pytest.raises(ValueError, match="same groups"):
        Groups.empty(["a"], 2) + Groups.empty(["b"], 2)
