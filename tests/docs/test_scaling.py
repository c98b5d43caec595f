"""The page on scaling says what its script prints, and the script counts with the sizes that the program has."""

from __future__ import annotations

import pytest
from benchmarks import scaling

from cytosae.sae import SAE
from cytosae.tokens import Layout
from support.paths import ROOT

PAGE = (ROOT / "docs" / "explanation" / "scaling.md").read_text(encoding="utf-8")


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
