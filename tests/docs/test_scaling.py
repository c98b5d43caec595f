"""The page on scaling says what its script prints, and the script counts with the sizes that the program has."""

from __future__ import annotations

import pytest
from benchmarks import scaling

from cytosae.sae import SAE
from cytosae.tokens import Layout
from support.paths import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", scaling.tables())
def test_the_page_has_the_table(name: str) -> None:
    assert scaling.tables()[name] in PAGE


def test_sizes_are_the_programs() -> None:
    layout = Layout({"model_type": "dinov2"}, scaling.TOKENS, scaling.D_MODEL, "float16", 256, 32)
    assert layout.cell_bytes == scaling.TOKEN_CELL
    small = SAE(8, 24)
    counted = sum(parameter.numel() for parameter in small.parameters())
    assert counted == 2 * 24 * 8 + 24 + 8  # as WEIGHTS counts
    assert scaling.WEIGHTS == 4 * (2 * 49_152 * 768 + 49_152 + 768)


def test_units_are_those_of_the_benchmarks() -> None:
    said = " ".join((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").split())
    for words in (
        "43 minutes to embed MLL23",
        "a step takes 3.9 s",
        "21 minutes to encode MLL23",
        "171,373 cells, 49,152 latents, 317 million image activations above 0 (1,850 a cell)",
        "all kinds of references (strongest, of different patients, a draw of 100) | 25 s",
        "200 permutations that repeat all of it, one laboratory left out | 27.5",
        "peak 1.7 GiB after everything",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (scaling.size, 999, "999 B"),
        (scaling.size, 999_600, "1 MB"),
        (scaling.size, 1_250_000, "1.2 MB"),
        (scaling.size, 3.9e19, "39,000 PB"),
        (scaling.duration, 0.00034, "0.00034 s"),
        (scaling.duration, 89, "89 s"),
        (scaling.duration, 90, "1.5 min"),
        (scaling.duration, 86_400 * 400, "400 days"),
        (scaling.money, 9.994, "$9.99"),
        (scaling.money, 1421.2, "$1,421"),
    ],
)
def test_numbers_are_written_so(function: object, value: float, shown: str) -> None:
    assert callable(function)
    assert function(value) == shown
