"""What a comparison or a classification shows, in sentences with units that also say what stays uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cytosae.analysis.comparison import unit_of
from cytosae.settings import CompareConfig

_FDR = 0.1


def comparison_in_words(result: Mapping[str, Any], config: CompareConfig) -> str:
    """Which concepts differ between two groups, and by how much.

    Parameters
    ----------
    result
        Of `cytosae.analysis.compare_groups`.
    config
        The settings of that comparison.

    Examples
    --------
    >>> sides = {key: {"name": key, "patients": 5, "latents": []} for key in ("first", "second")}
    >>> text = comparison_in_words({**sides, "tested": 900, "below_fdr_0.1": 0}, CompareConfig())
    >>> print(text.partition(":")[2])
     10 patients can only show large differences.
    """
    sides = (result["first"], result["second"])
    groups = " and ".join(f"{side['name']} ({_patients(side['patients'])})" for side in sides)
    count, tested = result["below_fdr_0.1"], result["tested"]
    if not count:
        everyone = sum(side["patients"] for side in sides)
        return (
            f"No concept of {tested:,} tested differs between {groups} at a false discovery rate of {_FDR:g}. That does "
            f"not show that the groups are alike: {_patients(everyone)} can only show large differences."
        )
    text = (
        f"{count:,} of {tested:,} tested concepts {'differs' if count == 1 else 'differ'} between {groups} at a false "
        f"discovery rate of {_FDR:g}: expect about one in ten of such concepts by chance."
    )
    differing = [row for side in sides for row in side["latents"] if row["fdr"] is not None and row["fdr"] <= _FDR]
    if not differing:
        return text
    row = max(differing, key=lambda one: abs(one["difference"]))
    return (
        f"{text} The largest difference has concept {row['latent']}: {row['first']:.3g} in {sides[0]['name']}, "
        f"{row['second']:.3g} in {sides[1]['name']} ({unit_of(config)}), a difference of "
        f"{row['difference']:.3g} (95 % interval {row['low']:.3g} to {row['high']:.3g})."
    )


def classification_in_words(result: Mapping[str, Any]) -> str:
    """How well concepts predict, beside chance, left-out laboratories and the best method without concepts, and how certain
    that is.

    Parameters
    ----------
    result
        Of `cytosae.analysis.classify`.

    Examples
    --------
    >>> scores = {"weighted_f1": 1.0, "low": 1.0, "high": 1.0, "accuracy": 1.0}
    >>> result = {"target": "diagnosis", "patients": 10, "barcodes": scores, "null": None, "methods": []}
    >>> print(classification_in_words(result).partition("perfect). ")[2].partition(":")[0])
    All are predicted correctly, but with 10 patients that is not certain
    """
    scores, n, null = result["barcodes"], result["patients"], result["null"]
    sentences = [
        f"Concepts predict {result['target']} of {_patients(n)} with a weighted F1 of {scores['weighted_f1']:.2f} "
        f"(95 % interval {scores['low']:.2f} to {scores['high']:.2f}; 1 is perfect)."
    ]
    if scores["accuracy"] == 1:
        lowest = 0.025 ** (1 / n)  # Clopper and Pearson 1934, with n of n right
        sentences.append(
            f"All are predicted correctly, but with {_patients(n)} that is not certain: of others, between "
            f"{100 * lowest:.0f} and 100 % (exact 95 % interval)."
        )
    if null is not None:
        better = "better than chance" if null["p"] <= 0.05 else "not shown to be better than chance"
        sentences.append(
            f"With shuffled diagnoses it is {null['mean']:.2f} ({null['low']:.2f} to {null['high']:.2f}), so the "
            f"prediction is {better} (p {null['p']:.2g})."
        )
    if left_out := result.get("left_out"):
        rows = [row for row in left_out["methods"] if _of_concepts(row) and row["value"] is not None]
        figures = "; ".join(
            f"{row['method']} {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})" for row in rows
        )
        sentences.append(f"With each {left_out['column']} left out in turn: {figures}.")
    others = [row for row in result["methods"][1:] if row["value"] is not None and row["ahead_low"] is not None]
    others = [row for row in others if not _of_concepts(row)]
    if others:
        best = max(others, key=lambda row: row["value"])
        if best["ahead_low"] > 0:
            beside = "concepts are ahead"
        elif best["ahead_high"] < 0:
            beside = "it is ahead of concepts"
        else:
            beside = "these patients do not show which is better"
        sentences.append(f"The best of the other methods, {best['method']}, has {best['value']:.2f}: {beside}.")
    return " ".join(sentences)


def _of_concepts(row: Mapping[str, Any]) -> bool:
    """Whether a method predicts from concepts: the barcodes in any form, such as the paper's or centred ones."""
    return str(row["method"]).startswith("barcodes")


def _patients(count: int) -> str:
    return f"{count:,} {'patient' if count == 1 else 'patients'}"
