"""Sentences on a comparison and a classification: what they say, and what they leave open."""

from __future__ import annotations

from typing import Any

import pytest

from cytosae.analysis.conclusions import classification_in_words, comparison_in_words
from cytosae.settings import CompareConfig


def side(name: str, patients: int, *latents: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "patients": patients, "latents": list(latents)}


def latent(number: int, first: float, second: float, fdr: float | None) -> dict[str, Any]:
    gap = first - second
    return {
        "latent": number, "first": first, "second": second, "difference": gap, "low": gap - 1, "high": gap + 1, "fdr": fdr,
    }  # fmt: skip


def test_a_comparison_names_the_largest_difference_that_is_sure() -> None:
    result = {
        "first": side("APL", 12, latent(7, 9.0, 1.0, 0.4), latent(41, 3.25, 0.5, 0.01), latent(3, 2.0, 1.5, 0.05)),
        "second": side("NPM1", 10, latent(8, 0.0, 1.0, None)),
        "tested": 1204,
        "below_fdr_0.1": 2,
    }
    text = comparison_in_words(result, CompareConfig())
    assert "2 of 1,204 tested concepts differ between APL (12 patients) and NPM1 (10 patients)" in text
    assert (
        "concept 41: 3.25 in APL, 0.5 in NPM1 (active patches a cell), a difference of 2.75 (95 % interval 1.75 to"
        in text
    )
    assert "(share of the cells, log1p)" in comparison_in_words(
        result, CompareConfig(features="share", transform="log1p")
    )
    nothing = comparison_in_words({**result, "below_fdr_0.1": 0}, CompareConfig())
    assert "No concept of 1,204" in nothing
    assert "does not show that the groups are alike: 22 patients" in nothing


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        ((0.01, 0.2), "concepts are ahead"),
        ((-0.2, -0.1), "it is ahead of"),
        ((-0.1, 0.1), "do not show which is better"),
    ],
)
def test_a_classification_is_set_beside_chance_and_the_best_other_method(
    ahead: tuple[float, float], words: str
) -> None:
    methods = [
        {"method": "barcodes", "value": 0.7, "ahead_low": None, "ahead_high": None},
        {"method": "colour histogram", "value": 0.5, "ahead_low": 0.1, "ahead_high": 0.3},
        {"method": "mean CLS token", "value": 0.65, "ahead_low": ahead[0], "ahead_high": ahead[1]},
    ]
    scores = {"weighted_f1": 0.7, "low": 0.6, "high": 0.8, "accuracy": 0.7}
    null = {"mean": 0.2, "low": 0.1, "high": 0.35, "p": 0.005}
    result = {"target": "diagnosis", "patients": 60, "barcodes": scores, "null": null, "methods": methods}
    text = classification_in_words(result)
    assert "60 patients with a weighted F1 of 0.70 (95 % interval 0.60 to 0.80" in text
    assert "0.20 (0.10 to 0.35), so the prediction is better than chance (p 0.005)" in text
    assert "mean CLS token, has 0.65" in text
    assert words in text
    assert "not certain" not in text
    assert "not shown to be better" in classification_in_words({**result, "null": {**null, "p": 0.3}})


def test_left_out_laboratories_are_said_and_other_forms_of_barcodes_are_no_other_methods() -> None:
    scores = {"weighted_f1": 0.7, "low": 0.6, "high": 0.8, "accuracy": 0.7}
    methods = [
        {"method": "barcodes", "value": 0.7, "ahead_low": None, "ahead_high": None},
        {"method": "cell-type fractions", "value": 0.65, "ahead_low": -0.1, "ahead_high": 0.1},
        {"method": "barcodes, centred by laboratory", "value": 0.81, "ahead_low": -0.2, "ahead_high": -0.1},
    ]
    left_out = {
        "column": "laboratory",
        "methods": [
            {"method": "barcodes", "value": 0.45, "low": 0.32, "high": 0.59},
            {"method": "cell-type fractions", "value": 0.72, "low": 0.6, "high": 0.8},
            {"method": "barcodes, centred by laboratory", "value": 0.78, "low": 0.67, "high": 0.88},
        ],
    }
    result = {"target": "diagnosis", "patients": 60, "barcodes": scores, "null": None, "methods": methods}
    text = classification_in_words({**result, "left_out": left_out})
    expected = "left out in turn: barcodes 0.45 (0.32 to 0.59); barcodes, centred by laboratory 0.78 (0.67 to 0.88)."
    assert expected in text
    assert "The best of the other methods, cell-type fractions, has 0.65" in text
    assert "left out in turn" not in classification_in_words({**result, "left_out": None})


def test_perfect_figures_of_few_patients_are_not_certain() -> None:
    scores = {"weighted_f1": 1.0, "low": 1.0, "high": 1.0, "accuracy": 1.0}
    result = {"target": "diagnosis", "patients": 10, "barcodes": scores, "null": None, "methods": []}
    assert "between 69 and 100 %" in classification_in_words(result)
    assert "between 96 and 100 %" in classification_in_words({**result, "patients": 100})
