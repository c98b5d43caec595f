"""From numbers to facts, and from the strongest facts that pass to a sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.concepts.description import words
from cytosae.concepts.description.associations import Associated
from cytosae.concepts.description.diagnoses import Diagnosed
from cytosae.concepts.description.places import ALL_PLACES, TISSUES, WHOLE, Located
from cytosae.morphometry import LOOKS
from cytosae.segmentation.registry import MEASUREMENTS
from cytosae.settings import DescribeConfig

_LOOK = 0.3
"""Standard deviations by which a look has to differ from the rest of its tissue, at the nearer end of the interval."""
_APPEARANCE = 0.5
"""The same against the tissue in other cells, which differ in stain and type."""
_NAMED, _LISTED = 3, 5
"""Measurements in a sentence, at most; and those that are kept as facts, whether they pass or not."""

_FACT_COLUMNS = ["latent", "kind", "subject", "value", "null", "low", "q", "passes", "words", "high"]
_SENTENCE_COLUMNS = [
    "latent",
    "description",
    "known",
    "patches",
    "place",
    "look",
    "cell_type",
    "attribute",
    "measurement",
    "diagnosis",
]
NO_FACTS = pd.DataFrame({name: [] for name in [*_FACT_COLUMNS, "dataset"]}).astype({"latent": int, "passes": bool})
NO_SENTENCES = pd.DataFrame({name: [] for name in [*_SENTENCE_COLUMNS, "dataset"]}).astype(
    {"latent": int, "known": bool}
)
"""Tables of a study in which nothing was discovered."""


@dataclass(frozen=True)
class Evidence:
    """What was computed of the concepts of a data set."""

    latents: NDArray[np.int64]
    located: Located
    types: list[str]
    best_type: Associated
    type_ratio: NDArray[np.float64]
    attributes: list[str]
    best_attribute: Associated
    attribute_ratio: NDArray[np.float64]
    chosen: NDArray[np.float64]
    """Rank correlations with the measurements on the half that chooses, ``(n_concepts, n_measurements)``."""
    tested: NDArray[np.float64]
    q: NDArray[np.float64]
    diagnosed: Diagnosed


def facts_of(evidence: Evidence, config: DescribeConfig) -> pd.DataFrame:
    """All facts: a row for each place, look, and the best type, attribute, diagnosis and measurements of each concept.

    Returns
    -------
    ``latent``, ``kind``, ``subject``, ``value``, ``null`` (what chance gives), ``low`` (lower end of the interval of how far
    value is ahead of null; NaN without), ``q``, ``passes``, ``words``, ``high`` (the words speak of much of the subject, not
    of little).
    """
    located, rows = evidence.located, []
    for number, latent in enumerate(evidence.latents.tolist()):
        place = _best_place(located, number, config)
        for column, name in enumerate(ALL_PLACES):
            share, null, low = (float(a[number, column]) for a in (located.share, located.null, located.low))
            rows.append((latent, "place", name, share, null, low, np.nan, name == place, words.PLACE_WORDS[name], True))
        tissue = _tissue(located, number, place)
        rows += [(latent, *row) for row in _looks(located, number, tissue)]
        rows += [(latent, *row) for row in _measurements(evidence, number, place, config)]
        sick = evidence.diagnosed
        for kind, names, best, ratio in (
            ("cell type", evidence.types, evidence.best_type, evidence.type_ratio),
            ("attribute", evidence.attributes, evidence.best_attribute, evidence.attribute_ratio),
            ("diagnosis", sick.names, sick.best, sick.ratio),
        ):
            if (column := int(best.best[number])) >= 0:
                area, q, more = float(best.value[number]), float(best.q[number]), float(ratio[number])
                passes = area > config.least_auroc and q < config.false_discoveries
                text = (
                    words.diagnosis(names[column], area, more)
                    if kind == "diagnosis"
                    else words.class_of_cells(names[column], area, more)
                )
                rows.append((latent, kind, names[column], area, 0.5, np.nan, q, passes, text, True))
    return pd.DataFrame(rows, columns=_FACT_COLUMNS)


def sentences_of(facts: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """A sentence for each concept, and which facts are in it."""
    passing = dict(iter(facts[facts["passes"]].groupby("latent")))
    sentences = []
    for number, latent in enumerate(evidence.latents.tolist()):
        mine = passing.get(latent)
        phrases = {
            kind: "" if mine is None or not (mine["kind"] == kind).any() else _strongest(mine[mine["kind"] == kind])
            for kind in ("place", "cell type", "attribute", "diagnosis")
        }
        phrases["measurement"] = "" if mine is None else _with_measurements(mine[mine["kind"] == "measurement"])
        phrases["look"] = "" if mine is None else _strongest_looks(mine[mine["kind"].isin(("look", "appearance"))])
        head = ", ".join(text for text in (phrases["look"], phrases["place"]) if text)
        parts = [head, *(phrases[kind] for kind in ("measurement", "cell type", "attribute", "diagnosis"))]
        sentences.append(
            {
                "latent": latent,
                "description": words.sentence([part for part in parts if part]),
                "known": any(parts),
                "patches": float(evidence.located.patches[number]),
                **{kind.replace(" ", "_"): text for kind, text in phrases.items()},
            }
        )
    return pd.DataFrame(sentences)


def _with_measurements(rows: pd.DataFrame) -> str:
    """``with large nucleus (rank correlation 0.8), fine, pale chromatin (0.6)``."""
    texts = list(dict.fromkeys(rows["words"]))
    return f"with {', '.join(texts)}".replace(" (", " (rank correlation ", 1) if texts else ""


def _strongest_looks(rows: pd.DataFrame) -> str:
    """The strongest look of each theme, within the cell or against other cells: ``basophilic, granules``."""
    themes = rows["subject"].map(words.look_theme_of)
    order = rows["value"].abs().sort_values(ascending=False, kind="stable").index
    texts = {theme: str(rows.loc[i, "words"]) for i, theme in reversed([(i, themes[i]) for i in order])}
    return ", ".join(texts[theme] for theme in sorted(texts, reverse=True))


def _strongest(rows: pd.DataFrame) -> str:
    return str(rows["words"].iloc[int(rows["value"].abs().to_numpy().argmax())])


def _best_place(located: Located, number: int, config: DescribeConfig) -> str:
    """The place whose share is most ahead of its area; `WHOLE` only where no part of the cell is; empty where none is."""
    passes = located.low[number] > config.least_excess
    single = np.where(passes, located.excess[number], -1)
    single[ALL_PLACES.index(WHOLE)] = -1
    if single.max() > 0:
        return ALL_PLACES[int(single.argmax())]
    return WHOLE if passes[ALL_PLACES.index(WHOLE)] else ""


Row = tuple[str, str, float, float, float, float, bool, str, bool]


def _tissue(located: Located, number: int, place: str) -> str | None:
    """The tissue whose looks can describe a concept; of the cell as a whole the one that has more of the activation."""
    if place != WHOLE:
        return words.tissue_of(place)
    shares = [sum(located.share[number, ALL_PLACES.index(p)] for p in parts) for parts in words.parts_of(TISSUES)]
    return TISSUES[int(np.argmax(shares))]


def _looks(located: Located, number: int, tissue: str | None) -> list[Row]:
    """The looks of a concept's patches, against the rest of its tissue in the same cells, and in other cells."""
    if tissue is None:
        return []
    within = (located.look, located.look_low, located.look_high)
    between = (located.appearance, located.appearance_low, located.appearance_high)
    rows = _shifts("look", _LOOK, within, located, number, tissue)
    return rows + _shifts("appearance", _APPEARANCE, between, located, number, tissue)


def _shifts(
    kind: str, least: float, shifts: tuple[NDArray[np.float64], ...], located: Located, number: int, tissue: str
) -> list[Row]:
    """A row for each look; `shifts` are values and the ends of their intervals."""
    at = TISSUES.index(tissue)
    rows: list[Row] = []
    for column, name in enumerate(LOOKS):
        value, low, high = (float(a[number, at, column]) for a in shifts)
        sign = 1 if value > 0 else -1
        near = low if sign > 0 else -high
        text = words.LOOK_WORDS.get((tissue, name, sign), "")
        if text == "granules":
            text = words.granule_words(float(located.redness[number]))
        coloured = words.is_of_colour(tissue, name, sign, float(located.redness[number]))
        passes = bool(text) and coloured and near > least
        rows.append((kind, f"{tissue}: {name}", value, 0.0, near, np.nan, passes, text, sign > 0))
    return rows


def _measurements(evidence: Evidence, number: int, place: str, config: DescribeConfig) -> list[Row]:
    """The measurements that go with a concept: first the strongest of its own tissue, then others of other themes."""
    kinds = words.kinds_of(place)
    chosen, tested, q = (a[number] for a in (evidence.chosen, evidence.tested, evidence.q))
    strength = np.abs(np.nan_to_num(chosen))
    own = np.array([m.kind in kinds[0] for m in MEASUREMENTS])
    near = np.array([m.kind in kinds[1] for m in MEASUREMENTS])
    order = [c for mask in (own, near & ~own) for c in np.argsort(-np.where(mask, strength, -1)).tolist() if mask[c]]
    rows: list[Row] = []
    themes: set[str] = set()
    for column in order:
        name, sign = MEASUREMENTS[column].name, 1 if chosen[column] > 0 else -1
        text, theme = words.MEASUREMENT_WORDS.get((name, sign), ""), words.theme_of(name)
        value = float(tested[column])
        strong = value * sign > config.least_correlation and q[column] < config.false_discoveries
        if text and strong and not {theme, text} & themes and sum(row[6] for row in rows) < _NAMED:
            themes |= {theme, text}
            named = f"{text} ({abs(value):.2f})"
            rows.append(("measurement", name, value, 0.0, np.nan, float(q[column]), True, named, sign > 0))
        elif len(rows) < _LISTED:
            rows.append(("measurement", name, value, 0.0, np.nan, float(q[column]), False, text, sign > 0))
    return rows
