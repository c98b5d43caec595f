"""The figures of patients, diseases and classifications: legible for odd cohorts, the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cytosae.report import (
    abstention_figure,
    calibration_figure,
    comparison_scatter,
    confusion_figure,
    correlation_map,
    disease_barcodes,
    method_figure,
    patient_barcode,
    patient_map,
    save,
    threshold_sweep,
)
from support.patient_figures import BARCODES, CODES, DISEASES, GROUPS, LEFT_OUT, LONG, MEANS, METHODS, SWEEP
from support.report_figures import NAN, assert_legible, texts

LONG_NAMES = [f"{i}_{LONG}" for i in range(20)]
UNEVEN = np.repeat(np.arange(20), [1] * 10 + [2] * 5 + [12] * 5)
ABSTENTION = pd.DataFrame(
    {"share": [0.2, 0.6, 1.0], "accuracy": [1, 0.8, 0.7], "low": [0.9, 0.7, 0.6], "high": [1, 0.9, 0.8]}
)

ODD: dict[str, Callable[[], Figure]] = {
    "diseases, none active": lambda: disease_barcodes(np.zeros((1, 5)), ["x"], [1], title="x"),
    "diseases, constant": lambda: disease_barcodes(np.full((2, 5), 0.003), ["x", "y"], [1, 2], title="x"),
    "diseases, no latent": lambda: disease_barcodes(np.zeros((2, 0)), ["x", "y"], [1, 2], title="x"),
    "diseases, 20": lambda: disease_barcodes(
        BARCODES[:20], LONG_NAMES, [1] * 20, highlighted=list(range(40)), title="x"
    ),
    "patient, nothing": lambda: patient_barcode([0, 0], [[0, 0]], name="a", reference_name="b"),
    "patient, itself": lambda: patient_barcode(BARCODES[0], BARCODES[0], name=LONG, reference_name=LONG, title="x"),
    "patient, many named": lambda: patient_barcode(BARCODES[0], BARCODES[1:], name="a", reference_name=LONG, named=99),
    "correlation, one": lambda: correlation_map([[1.0]], ["x"], title="x"),
    "correlation, constant": lambda: correlation_map(np.ones((4, 4)), [LONG, "a", LONG, None], title="x"),
    "correlation, unknown": lambda: correlation_map(np.full((4, 4), NAN), list("aabb"), title="x"),
    "correlation, 20": lambda: correlation_map(
        np.corrcoef(np.random.default_rng(0).normal(size=(80, 9))), [LONG_NAMES[i] for i in UNEVEN], title="x"
    ),
    "map, one": lambda: patient_map([[1, 2]], ["x"], title="x"),
    "map, one place": lambda: patient_map(np.zeros((3, 2)), [LONG] * 3, title="x"),
    "map, unknown": lambda: patient_map(np.full((2, 2), NAN), ["a", "b"], title="x", note="t-SNE"),
    "map, 20": lambda: patient_map(UNEVEN[:, None] * [[1, 2]], [LONG_NAMES[i] for i in UNEVEN], title="x"),
    "comparison, nothing": lambda: comparison_scatter(np.zeros(9), np.zeros(9), [], [], names=("a", "b")),
    "comparison, constant": lambda: comparison_scatter(
        np.full(30, 5.0), np.full(30, 5.0), range(12), range(12, 24), names=(LONG, LONG)
    ),
    "sweep, one": lambda: threshold_sweep([-3], [0.5], [0.4], [0.6], [10]),
    "sweep, unknown": lambda: threshold_sweep([-1, -3], [NAN] * 2, [NAN] * 2, [NAN] * 2, [0, 0], title="x"),
    "methods, none": lambda: method_figure(METHODS.iloc[:0], title="x"),
    "methods, one": lambda: method_figure(LEFT_OUT.iloc[:1], null=(0.1, 0.2), title="x"),
    "methods, 20": lambda: method_figure(
        pd.DataFrame({"value": 0.5, "low": 0.5, "high": 0.5}, index=LONG_NAMES), title="x"
    ),
    "confusion, one": lambda: confusion_figure([[3]], ["x"], title="x"),
    "confusion, two": lambda: confusion_figure([[0, 0], [1, 1500]], ["x", LONG], title="x"),
    "confusion, five": lambda: confusion_figure(np.eye(5) * 20, DISEASES, title="x"),
    "confusion, 20": lambda: confusion_figure(np.full((20, 20), 10.5), LONG_NAMES, title="x"),
    "calibration, one": lambda: calibration_figure([0.7], [True], ece=NAN, title="x"),
    "calibration, none": lambda: calibration_figure([NAN], [True], title="x"),
    "abstention, none": lambda: abstention_figure(ABSTENTION.iloc[:0], title="x"),
    "abstention, unknown": lambda: abstention_figure(ABSTENTION * NAN, title="x"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_figures_are_legible(name: str) -> None:
    assert_legible(ODD[name]())


def test_names_are_in_full_at_both_sides_of_twenty_groups() -> None:
    for name in ("correlation, 20", "confusion, 20"):
        axes = ODD[name]().axes[0]
        assert len([text for text in texts(axes) if "leukaemia" in text]) == 40


FIGURES: dict[str, Callable[[], Figure]] = {
    "diseases": lambda: disease_barcodes(MEANS, DISEASES, np.bincount(CODES).tolist(), highlighted=[3, 9], title="x"),
    "patient": lambda: patient_barcode(BARCODES[0], BARCODES[CODES == 4], name="a", reference_name="healthy"),
    "correlation": lambda: correlation_map(np.corrcoef(BARCODES), GROUPS, title="x"),
    "map": lambda: patient_map(BARCODES[:, :2], GROUPS, title="x", note="two latents"),
    "comparison": lambda: comparison_scatter(MEANS[0], MEANS[1], [1, 2], [3], names=("a", "b")),
    "sweep": lambda: threshold_sweep(**SWEEP, null=(0.2, 0.3), paper=(-3, 0.832, 0.044), title="x"),
    "methods": lambda: method_figure(LEFT_OUT, chance=0.2, null=(0.1, 0.3), title="x"),
    "confusion": lambda: confusion_figure(np.eye(5) * 20 + 0.4, DISEASES, title="x"),
    "abstention": lambda: abstention_figure(ABSTENTION, title="x"),
    "calibration": lambda: calibration_figure(np.linspace(0.2, 1, 60), np.arange(60) % 3 > 0, ece=0.1, title="x"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_same_figure_same_bytes(name: str, tmp_path: Path) -> None:
    assert_legible(FIGURES[name]())
    for copy in ("a", "b"):
        save(FIGURES[name](), tmp_path / copy)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
